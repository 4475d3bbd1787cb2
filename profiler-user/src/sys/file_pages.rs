//! Pages of mapped files count as ours once they were looked at. A parser that reads a file of 150 MB from end to end would have all of it; so while this
//! process uses CPU time it looks every few milliseconds how many there are, and lets go of all of them when there are too many. They are still in the page
//! cache: the next look costs a page fault, no more.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// How often it looks, microseconds of CPU time; the kernel rounds it up to its tick.
const EVERY_US: libc::suseconds_t = 2_000;
/// File mappings that may be there before: our own program and its libraries.
const OWN_MAX: usize = 64;

// What the handler of the signal needs: it may not allocate.
static STATM: AtomicI32 = AtomicI32::new(-1);
static MAPS: AtomicI32 = AtomicI32::new(-1);
static PAGES_MAX: AtomicU64 = AtomicU64::new(u64::MAX);
/// Where our own program's mappings begin. They are never let go of: some hold what the linker wrote into them.
static OWN: [AtomicU64; OWN_MAX] = [const { AtomicU64::new(0) }; OWN_MAX];

/// From now on, so many bytes of files that are mapped later stay at most, beside what is read between two looks. Once in a process, before it is sandboxed.
///
/// # Errors
/// `/proc` is not there, or the timer cannot be set.
pub fn bound(bytes_max: u64) -> io::Result<()> {
    let (statm, maps) = (File::open("/proc/self/statm")?, File::open("/proc/self/maps")?);
    let (mut own, mut is_full) = (OWN.iter(), false);
    each_file_mapping(maps.as_raw_fd(), |start, _| match own.next() {
        Some(slot) => slot.store(start, Ordering::Relaxed),
        None => is_full = true,
    });
    if is_full {
        return Err(io::ErrorKind::QuotaExceeded.into());
    }
    let page_bytes = rustix::param::page_size() as u64;
    PAGES_MAX.store(shared_pages(statm.as_raw_fd()) + bytes_max / page_bytes, Ordering::Relaxed);
    STATM.store(statm.into_raw_fd(), Ordering::Relaxed);
    MAPS.store(maps.into_raw_fd(), Ordering::Relaxed);
    let handler: extern "C" fn(libc::c_int) = on_tick;
    // SAFETY: all zero is a valid action with no flags, an empty mask and no handler; both structs outlive the calls, and the handler calls nothing that a
    // handler may not.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        let every = libc::timeval { tv_sec: 0, tv_usec: EVERY_US };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        libc::sigaction(libc::SIGPROF, &raw const action, std::ptr::null_mut()) == 0
            && libc::setitimer(libc::ITIMER_PROF, &raw const timer, std::ptr::null_mut()) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs between any two instructions of the process: numbers and system calls only.
extern "C" fn on_tick(_signal: libc::c_int) {
    // SAFETY: the address of this thread's errno, which is put back as it was.
    let errno = unsafe { *libc::__errno_location() };
    look();
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Looks now, where many pages are read in less than a tick. Does nothing where nothing is bounded.
pub fn look() {
    if shared_pages(STATM.load(Ordering::Relaxed)) > PAGES_MAX.load(Ordering::Relaxed) {
        each_file_mapping(MAPS.load(Ordering::Relaxed), |start, length| {
            if OWN.iter().all(|own| own.load(Ordering::Relaxed) != start) {
                // SAFETY: a mapping of a file that cannot be written through: its pages read the same when they come back.
                unsafe { libc::madvise(start as *mut libc::c_void, length as usize, libc::MADV_DONTNEED) };
            }
        });
    }
}

/// Pages of files that are mapped and there: the third number of `statm`.
fn shared_pages(statm: libc::c_int) -> u64 {
    let mut text = [0; 128];
    let read = read_at(statm, &mut text, 0);
    let third = text[..read].split(|byte| *byte == b' ').nth(2).unwrap_or_default();
    third.iter().fold(0, |number, digit| number * 10 + u64::from(digit.wrapping_sub(b'0')))
}

fn read_at(file: libc::c_int, buffer: &mut [u8], offset: i64) -> usize {
    // SAFETY: the buffer is as long as the kernel is told.
    let read = unsafe { libc::pread(file, buffer.as_mut_ptr().cast(), buffer.len(), offset) };
    usize::try_from(read).unwrap_or(0)
}

/// A line of `maps` while it is read, byte by byte: `start-end rights offset device inode  path`.
#[derive(Default)]
struct Line {
    field: usize,
    start: u64,
    end: u64,
    is_written: bool,
    inode: u64,
}

impl Line {
    fn take(&mut self, byte: u8) {
        let digit = u64::from((byte as char).to_digit(16).unwrap_or(0));
        match (self.field, byte) {
            (0, b'-') | (0..=5, b' ') => self.field += 1,
            (0, _) => self.start = self.start << 4 | digit,
            (1, _) => self.end = self.end << 4 | digit,
            (2, b'w') => self.is_written = true,
            (5, _) => self.inode = self.inode * 10 + digit,
            _ => {}
        }
    }
}

/// Start and length of every mapping of a file that cannot be written.
fn each_file_mapping(maps: libc::c_int, mut each: impl FnMut(u64, u64)) {
    let (mut line, mut buffer, mut offset) = (Line::default(), [0; 2048], 0);
    loop {
        let read = read_at(maps, &mut buffer, offset);
        if read == 0 {
            return;
        }
        offset += read as i64;
        for byte in &buffer[..read] {
            if *byte != b'\n' {
                line.take(*byte);
                continue;
            }
            let line = std::mem::take(&mut line);
            if line.inode != 0 && !line.is_written && line.start < line.end {
                each(line.start, line.end - line.start);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mappings_of_our_own_program_are_found_and_nothing_that_is_written() {
        let maps = File::open("/proc/self/maps").expect("our own");
        let (mut found, code) = (Vec::new(), shared_pages as *const () as u64);
        each_file_mapping(maps.as_raw_fd(), |start, length| found.push((start, length)));
        assert!(found.iter().any(|(start, length)| (*start..start + length).contains(&code)), "{found:x?}");
        let text = std::fs::read_to_string("/proc/self/maps").expect("our own");
        for (start, length) in found {
            let line = text.lines().find(|line| line.starts_with(&format!("{start:x}-{:x} ", start + length)));
            assert!(line.is_none_or(|line| !line.contains(" rw") && line.contains('/')), "{line:?}");
        }
    }

    #[test]
    fn our_own_pages_are_counted() {
        let statm = File::open("/proc/self/statm").expect("our own");
        assert!(shared_pages(statm.as_raw_fd()) > 100);
    }
}
