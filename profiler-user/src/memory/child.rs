//! The helper itself: gives up everything but the right to read memory, then answers from descriptor 0 until it is closed. What it needs of memory of its own it
//! has before, so that its filter can refuse even that.

use super::wire::{HEAD_BYTES, HELLO, RANGE_BYTES, RANGE_MAX_BYTES, RANGES_MAX, ranges, read_head};
use crate::sys::handover::{receive_all, send_all};
use crate::sys::remote_memory;
use crate::sys::rights::{give_up, limit};
use crate::sys::seccomp::{Rule, Verdict, install};
use rustix::process::Resource;
use rustix::thread::CapabilitySet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// Limit of its data: what it answers with, and what any program has.
const DATA_MAX_BYTES: u64 = 24 << 20;

/// Ends in nothing else than the end of the process.
pub(super) fn run() -> ! {
    std::panic::set_hook(Box::new(|_| {}));
    let served = serve();
    std::process::exit(i32::from(served.is_err()));
}

fn serve() -> io::Result<()> {
    let stdin = io::stdin();
    let socket = stdin.as_fd();
    let mut request = [0; RANGES_MAX * RANGE_BYTES];
    let mut answer = vec![0; RANGES_MAX * size_of::<i32>() + RANGE_MAX_BYTES as usize];
    enter()?;
    let for_ever = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
    send_all(socket, &[HELLO], for_ever)?;
    while let Some((pid, ranges)) = receive(socket, &mut request, for_ever)? {
        let length = read(pid, ranges, &mut answer)?;
        send_all(socket, &answer[..length], for_ever)?;
    }
    Ok(())
}

fn enter() -> io::Result<()> {
    // Only `ps` sees it.
    let _ = rustix::thread::set_name(c"profiler-memory");
    limit(Resource::Data, DATA_MAX_BYTES)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    give_up(CapabilitySet::SYS_PTRACE)?;
    // Nobody is asked by this filter, so nobody listens.
    install(&rules(), Verdict::Errno(libc::EPERM)).map(drop)
}

/// The filter: to read memory, to talk on descriptor 0, and to end.
fn rules() -> Vec<Rule> {
    const ANY_BIT: u32 = u32::MAX;
    let talk = |call| Rule::Bits { call, argument: 0, mask: ANY_BIT, set: Verdict::Errno(libc::EPERM), clear: Verdict::Allow };
    let mut rules: Vec<Rule> = ALLOWED.iter().map(|call| Rule::Always(*call, Verdict::Allow)).collect();
    rules.extend([libc::SYS_recvfrom, libc::SYS_sendto].map(talk));
    rules
}

const ALLOWED: &[libc::c_long] = &[
    libc::SYS_process_vm_readv,
    libc::SYS_ppoll,
    libc::SYS_clock_gettime,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// The next request; none when the profiler has closed its end.
fn receive<'a>(socket: BorrowedFd<'_>, body: &'a mut [u8], deadline: Instant) -> io::Result<Option<(u32, &'a [u8])>> {
    let mut head = [0; HEAD_BYTES];
    match receive_all(socket, &mut head, deadline) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (pid, count) = read_head(head).ok_or(io::ErrorKind::InvalidData)?;
    let body = &mut body[..count * RANGE_BYTES];
    receive_all(socket, body, deadline)?;
    Ok(Some((pid, body)))
}

/// Reads every range; gives the length of the answer.
fn read(pid: u32, body: &[u8], answer: &mut [u8]) -> io::Result<usize> {
    let mut end = 0;
    for (address, length) in ranges(body).ok_or(io::ErrorKind::InvalidData)? {
        let (status, bytes) = answer[end..].split_at_mut(size_of::<i32>());
        let read = match remote_memory::read(pid, address, &mut bytes[..length]) {
            Ok(read) => read as i32,
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        };
        status.copy_from_slice(&read.to_le_bytes());
        end += status.len() + usize::try_from(read).unwrap_or(0);
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::handover::pair;
    use std::fs::File;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// What was tried, a bit each, once the last bit is set.
    static TRIED: AtomicU32 = AtomicU32::new(0);
    const DONE: u32 = 1 << 31;

    /// A thread under the filter cannot even end: it waits until the process does.
    fn try_all() {
        rustix::thread::set_no_new_privs(true).unwrap();
        let ((ours, _theirs), this) = (pair().unwrap(), rustix::process::getpid());
        let (there, mut into) = ([7u8], [0]);
        install(&rules(), Verdict::Errno(libc::EPERM)).map(drop).unwrap();
        let tried = [
            remote_memory::read(this.as_raw_nonzero().get().cast_unsigned(), there.as_ptr() as u64, &mut into).is_ok() && into == there,
            File::open("/etc/passwd").is_ok(),
            rustix::process::test_kill_process(this).is_ok(),
            rustix::pipe::pipe().is_ok(),
            // Not descriptor 0.
            send_all(ours.as_fd(), &[0], Instant::now()).is_ok(),
        ];
        TRIED.store(tried.iter().rev().fold(0, |bits, is_done| bits << 1 | u32::from(*is_done)) | DONE, Ordering::Release);
        loop {
            let _ = rustix::event::poll(&mut [], None);
        }
    }

    #[test]
    fn under_the_filter_memory_can_be_read_and_nothing_else_done() {
        std::thread::spawn(try_all);
        let until = Instant::now() + Duration::from_secs(20);
        while TRIED.load(Ordering::Acquire) == 0 {
            assert!(Instant::now() < until, "the thread under the filter has not come to its end");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(TRIED.load(Ordering::Acquire), DONE | 1);
    }
}
