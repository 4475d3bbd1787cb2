//! Starts one reader, holds the files of its request, and answers its opens until it is gone: one thread a reader.
//!
//! The thread that starts a reader must live as long as the reader: the kernel sends the parent-death signal when that *thread* ends.

use super::names::{ALT_NAMES, Arguments, DEBUG, OBJECT, READER};
use crate::sys::handover::{pair, receive_descriptors};
use crate::sys::seccomp::{self, Notification};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a reader may take to start and enter its sandbox.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(20);

/// Longest path that is read from a reader, bytes; those that lead anywhere are shorter.
const PATH_MAX_BYTES: usize = 256;

/// The files of one request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Files<'a> {
    /// The object.
    pub object: Option<BorrowedFd<'a>>,
    /// Its separate debug file.
    pub debug: Option<BorrowedFd<'a>>,
    /// The file with shared debug information.
    pub alt: Option<BorrowedFd<'a>>,
}

/// The files that a reader may open now: those of its request, and none between two requests.
#[derive(Debug, Default)]
pub(super) struct Granted(Mutex<[Option<OwnedFd>; 3]>);

impl Granted {
    /// From now on these and no others.
    pub(super) fn set(&self, files: &Files<'_>) -> io::Result<()> {
        let own = |file: Option<BorrowedFd<'_>>| file.map(|file| file.try_clone_to_owned()).transpose();
        *self.lock() = [own(files.object)?, own(files.debug)?, own(files.alt)?];
        Ok(())
    }

    /// From now on none.
    pub(super) fn clear(&self) {
        *self.lock() = [None, None, None];
    }

    fn lock(&self) -> MutexGuard<'_, [Option<OwnedFd>; 3]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `answer` with the file that a name stands for.
    fn with<T>(&self, name: &[u8], answer: impl FnOnce(Option<BorrowedFd<'_>>) -> T) -> T {
        let files = self.lock();
        let [object, debug, alt] = &*files;
        let file = match std::str::from_utf8(name) {
            Ok(OBJECT) => object.as_ref(),
            Ok(DEBUG) => debug.as_ref(),
            Ok(name) if name.starts_with(ALT_NAMES) => alt.as_ref(),
            _ => None,
        };
        answer(file.map(AsFd::as_fd))
    }
}

/// Starts `program` as a reader that serves `requests`, and keeps it until it is gone.
///
/// # Errors
/// It could not be started, or did not enter its sandbox.
pub(super) fn keep(program: &Path, arguments: Arguments, requests: OwnedFd, granted: &Granted) -> io::Result<()> {
    let (control, its_control) = pair()?;
    let mut child = Command::new(program)
        .arg0(READER)
        .args(arguments.to_strings())
        .env_clear()
        .current_dir("/")
        // A Ctrl-C in the terminal is for the profiler, which still has questions.
        .process_group(0)
        .stdin(Stdio::from(requests))
        .stdout(Stdio::from(its_control))
        .stderr(Stdio::null())
        .spawn()?;
    let served = handshake(&control).and_then(|(listener, memory)| serve(&listener, &memory, granted));
    granted.clear();
    finish(&mut child, served)
}

fn finish(child: &mut Child, served: io::Result<()>) -> io::Result<()> {
    if served.is_err() {
        child.kill()?;
    }
    child.wait()?;
    served
}

/// The reader's first message to us: its seccomp listener, and its own memory, in which the names stand that it asks for.
fn handshake(control: &OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    let (_, descriptors) = receive_descriptors(control.as_fd(), Instant::now() + START_DEADLINE)?;
    let [listener, memory] = <[OwnedFd; 2]>::try_from(descriptors).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok((listener, memory))
}

/// Answers until the last process under the filter is gone.
fn serve(listener: &OwnedFd, memory: &OwnedFd, granted: &Granted) -> io::Result<()> {
    loop {
        let mut ready = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !ready[0].revents().contains(PollFlags::IN) {
            return Ok(());
        }
        if let Some(notification) = seccomp::receive(listener.as_fd())? {
            answer(listener.as_fd(), memory.as_fd(), &notification, granted);
        }
    }
}

/// The argument that holds the path, and the one that says where a `stat` goes.
fn arguments_of(notification: &Notification) -> (u64, Option<(u64, Image)>) {
    let [_, second, third, _, fifth, _] = notification.arguments;
    match notification.call {
        libc::SYS_newfstatat => (second, Some((third, Image::Stat))),
        libc::SYS_statx => (second, Some((fifth, Image::Statx))),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_stat | libc::SYS_lstat => (notification.arguments[0], Some((second, Image::Stat))),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => (notification.arguments[0], None),
        _ => (second, None),
    }
}

#[derive(Clone, Copy)]
enum Image {
    Stat,
    Statx,
}

fn answer(listener: BorrowedFd<'_>, memory: BorrowedFd<'_>, notification: &Notification, granted: &Granted) {
    let (path, image) = arguments_of(notification);
    let mut buffer = [0; PATH_MAX_BYTES];
    let name = read_name(memory, path, &mut buffer);
    granted.with(name, |file| {
        let errno = match (file, image) {
            (None, _) => libc::ENOENT,
            (Some(file), Some((at, image))) => write_image(memory, at, image, file).map_or(libc::EFAULT, |()| 0),
            (Some(file), None) => match seccomp::answer_with_file(listener, notification, file) {
                Ok(()) => return,
                Err(error) => error.raw_os_error().unwrap_or(libc::EMFILE),
            },
        };
        seccomp::answer(listener, notification, errno);
    });
}

fn write_image(memory: BorrowedFd<'_>, at: u64, image: Image, file: BorrowedFd<'_>) -> io::Result<()> {
    let bytes = match image {
        Image::Stat => seccomp::stat_image(file)?,
        Image::Statx => seccomp::statx_image(file)?,
    };
    let written = rustix::io::pwrite(memory, &bytes, at)?;
    if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// The name that stands at an address of the reader, or nothing if there is none or it is longer than any that leads somewhere.
fn read_name<'a>(memory: BorrowedFd<'_>, address: u64, buffer: &'a mut [u8; PATH_MAX_BYTES]) -> &'a [u8] {
    // A read that runs into unmapped memory gives what stands before it.
    let read = rustix::io::pread(memory, buffer.as_mut_slice(), address).unwrap_or(0);
    buffer[..read].split(|byte| *byte == 0).next().filter(|name| name.len() < read).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::{names, sandbox};
    use super::*;
    use crate::sys::handover::send_descriptors;
    use crate::sys::seccomp::{Verdict, install};
    use std::fs::File;

    /// What a thread under the reader's filter gets of the kernel, one line a try.
    fn probe(control: &OwnedFd) -> Vec<String> {
        rustix::thread::set_no_new_privs(true).unwrap();
        let memory = File::options().read(true).write(true).open("/proc/self/mem").unwrap();
        let listener = install(&sandbox::rules(), Verdict::Errno(libc::EPERM)).unwrap();
        send_descriptors(control.as_fd(), 0, &[listener.as_fd(), memory.as_fd()]).unwrap();
        drop((listener, memory));
        let errno = |error: io::Error| error.raw_os_error().map_or("?".to_owned(), |errno| Errno::from_raw_os_error(errno).to_string());
        let said = |what: &str, result: io::Result<String>| format!("{what}: {}", result.unwrap_or_else(errno));
        vec![
            said("open granted", File::open(names::OBJECT).and_then(io::read_to_string)),
            said("size granted", std::fs::metadata(names::OBJECT).map(|of| of.len().to_string())),
            said("shared debug", File::open(format!("{}ab/cd.debug", names::ALT_NAMES)).and_then(io::read_to_string)),
            said("not granted", File::open(names::DEBUG).and_then(io::read_to_string)),
            said("open", File::open("/etc/passwd").and_then(io::read_to_string)),
            said("stat", std::fs::metadata("/etc/passwd").map(|_| String::new())),
            said("create", File::create("/tmp/profiler-reader-was-here").map(|_| String::new())),
            said("longer", File::open(format!("{}{}", names::ALT_NAMES, "a".repeat(4000))).map(|_| String::new())),
            said("link", std::fs::read_link("/proc/self/exe").map(|_| String::new())),
            said("folder", std::fs::read_dir("/").map(|_| String::new())),
            said("connect", std::net::TcpStream::connect("127.0.0.1:1").map(|_| String::new())),
            said("start", Command::new("/bin/true").spawn().map(|_| String::new())),
            said("signal", rustix::process::test_kill_process(rustix::process::getpid()).map(|()| String::new()).map_err(Into::into)),
            said("pipe", rustix::pipe::pipe().map(|_| String::new()).map_err(Into::into)),
        ]
    }

    #[test]
    fn what_is_in_the_sandbox_gets_the_granted_files_and_nothing_else() {
        let folder = std::env::temp_dir();
        let file = |text: &str| {
            let path = folder.join(format!("profiler-keeper-{}-{text}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            let file = File::open(&path).unwrap();
            std::fs::remove_file(path).unwrap();
            file
        };
        let (object, alt) = (file("object"), file("alt"));
        let granted = Granted::default();
        granted.set(&Files { object: Some(object.as_fd()), debug: None, alt: Some(alt.as_fd()) }).unwrap();
        let (control, its_control) = pair().unwrap();
        let probing = std::thread::spawn(move || probe(&its_control));
        let (listener, memory) = handshake(&control).unwrap();
        serve(&listener, &memory, &granted).unwrap();
        let missing = Errno::NOENT.to_string();
        let forbidden = Errno::PERM.to_string();
        let expected = [
            ("open granted", "object"),
            ("size granted", "6"),
            ("shared debug", "alt"),
            ("not granted", &missing),
            ("open", &missing),
            ("stat", &missing),
            ("create", &missing),
            ("longer", &missing),
            ("link", &Errno::INVAL.to_string()),
            ("folder", &missing),
            ("connect", &forbidden),
            ("start", &forbidden),
            ("signal", &forbidden),
            ("pipe", &forbidden),
        ];
        assert_eq!(probing.join().unwrap(), expected.map(|(what, answer)| format!("{what}: {answer}")));
    }
}
