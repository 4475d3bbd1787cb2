//! Starts a command that waits before its first instruction, so that it can be recorded from there.
//!
//! Between `fork` and `execve` the child is a copy of one thread of a process that may have had many: it makes system calls only, on memory that was
//! prepared before. What the command then finds is what it would have found without us: standard streams, descriptors that were meant for it, ignored
//! signals. Nothing of ours is left: our descriptors close on exec, caught signals go back to their defaults, none is blocked.

use libc::{c_char, c_int, pid_t};
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::Mutex;

/// What `execvp` searches when there is no `PATH` (confstr `_CS_PATH` of glibc).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";
/// The highest signal number of Linux.
const LAST_SIGNAL: c_int = 64;

/// Why a command could not be started, or watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// There is no command.
    #[error("there is no command to start: give it after --")]
    Empty,
    /// There is no such program.
    #[error("starting {program}: no such program; check its name, or give its path")]
    NotFound {
        /// As it was asked for.
        program: String,
    },
    /// There is a file, but the kernel does not run it.
    #[error("starting {program}: {source}; the file must be executable, and a binary of this machine or a script that begins with #!")]
    NotExecutable {
        /// As it was asked for.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused to run it for another reason.
    #[error("starting {program}: {source}")]
    Exec {
        /// As it was asked for.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// A word of the command has a NUL byte in it.
    #[error("starting {program}: a word of the command has a NUL byte in it, which no program can be given")]
    Nul {
        /// As it was asked for.
        program: String,
    },
    /// No process could be made.
    #[error("making a process for the command: {0}; the limits on processes (ulimit -u) or memory may be too low")]
    Fork(#[source] io::Error),
    /// Its end could not be watched.
    #[error("watching the command: {0}; the limit on open files (ulimit -n) may be too low")]
    Watch(#[source] io::Error),
    /// Its status could not be had.
    #[error("waiting for the command: {0}")]
    Wait(#[source] io::Error),
}

/// A process that will be the command, and waits. Dropped, it ends without having run anything.
#[derive(Debug)]
pub struct HeldChild {
    /// Taken when it is let go.
    child: Option<Child>,
    pid: u32,
    /// One byte lets it go; its end ends the child.
    go: OwnedFd,
    /// Says the error number if the program does not run; closes when it does.
    failure: OwnedFd,
    program: String,
}

/// A command that runs. Dropped, it goes on running.
#[derive(Debug)]
pub struct RunningChild(Child);

#[derive(Debug)]
struct Child {
    pid: u32,
    pidfd: OwnedFd,
}

/// Everything that the child touches, made before there is one.
struct Image {
    /// Owners of what the pointers point to.
    _strings: Vec<CString>,
    candidates: Vec<*const c_char>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
}

/// Held while descriptors of a child to be exist in the parent: a child that is forked meanwhile and held would keep them open.
static FORKING: Mutex<()> = Mutex::new(());

/// Makes a process that waits to become the command.
///
/// # Errors
/// There is no such program, or no process can be made. That the kernel does not run the file is said by [`HeldChild::release`].
pub fn spawn_held(program: &OsStr, args: &[OsString]) -> Result<HeldChild, SpawnError> {
    let name = program.to_string_lossy().into_owned();
    if program.is_empty() {
        return Err(SpawnError::Empty);
    }
    let candidates = candidates(program, std::env::var_os("PATH").as_deref());
    if !candidates.iter().any(|path| Path::new(OsStr::from_bytes(path)).symlink_metadata().is_ok()) {
        return Err(SpawnError::NotFound { program: name });
    }
    let image = Image::new(candidates, program, args).ok_or_else(|| SpawnError::Nul { program: name.clone() })?;

    let forking = FORKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (wait_for_go, go) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| SpawnError::Watch(error.into()))?;
    let (failure, tell_failure) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| SpawnError::Watch(error.into()))?;
    let pid = fork_into(&image, [&wait_for_go, &go, &failure, &tell_failure].map(|end| end.as_raw_fd())).map_err(SpawnError::Fork)?;
    drop((wait_for_go, tell_failure, forking));

    let watched = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    match watched {
        Ok(pidfd) => {
            let pid = pid.cast_unsigned();
            Ok(HeldChild { child: Some(Child { pid, pidfd }), pid, go, failure, program: name })
        }
        Err(error) => {
            // Without its pipe the child ends by itself; it must still be waited for.
            drop(go);
            let _ = Pid::from_raw(pid).map(|pid| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
            Err(SpawnError::Watch(error.into()))
        }
    }
}

impl HeldChild {
    /// Its process id, in our pid namespace; the command keeps it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it go, and returns once the command's program is loaded.
    ///
    /// # Errors
    /// The kernel does not run the program. Nothing is left then.
    pub fn release(mut self) -> Result<RunningChild, SpawnError> {
        let child = self.child.take().ok_or(SpawnError::Empty)?;
        // A child that was killed meanwhile does not read: its end is for `wait` to tell.
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.go, &[1]));
        let mut number = [0; 4];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.failure, &mut number));
        if !matches!(read, Ok(4)) {
            return Ok(RunningChild(child));
        }
        let _ = child.wait();
        let (program, source) = (std::mem::take(&mut self.program), io::Error::from_raw_os_error(i32::from_ne_bytes(number)));
        Err(match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => SpawnError::NotFound { program },
            Some(libc::EACCES | libc::ENOEXEC) => SpawnError::NotExecutable { program, source },
            _ => SpawnError::Exec { program, source },
        })
    }
}

impl Drop for HeldChild {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
            let _ = child.wait();
        }
    }
}

impl RunningChild {
    /// Its process id, in our pid namespace.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Sends it a signal; one that has ended, or a number that is no signal, is left alone.
    pub fn signal(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _ = pidfd_send_signal(&self.0.pidfd, signal);
        }
    }

    /// Waits for its end and gives its exit status, or 128 + n if signal n ended it, as a shell does.
    ///
    /// # Errors
    /// Somebody else has waited for it.
    pub fn wait(self) -> Result<i32, SpawnError> {
        let status = self.0.wait().map_err(|error| SpawnError::Wait(error.into()))?;
        Ok(status.and_then(|status| status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))).unwrap_or(0))
    }
}

/// A pidfd: readable when the command has ended.
impl AsFd for RunningChild {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.as_fd()
    }
}

impl Child {
    fn wait(&self) -> rustix::io::Result<Option<WaitIdStatus>> {
        rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED))
    }
}

impl Image {
    /// `None` if there is a NUL byte somewhere.
    fn new(candidates: Vec<Vec<u8>>, program: &OsStr, args: &[OsString]) -> Option<Self> {
        let environment = std::env::vars_os().map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat());
        let mut strings = Vec::new();
        let mut pointers = |bytes: Vec<u8>| -> Option<*const c_char> {
            // The pointer is to the heap: it stays when the string moves into the list.
            let string = CString::new(bytes).ok()?;
            let pointer = string.as_ptr();
            strings.push(string);
            Some(pointer)
        };
        let candidates = candidates.into_iter().map(&mut pointers).collect::<Option<Vec<_>>>()?;
        let words = std::iter::once(program.to_owned()).chain(args.iter().cloned());
        let mut argv = words.map(|word| pointers(word.into_vec())).collect::<Option<Vec<_>>>()?;
        let mut envp = environment.map(pointers).collect::<Option<Vec<_>>>()?;
        argv.push(std::ptr::null());
        envp.push(std::ptr::null());
        Some(Self { _strings: strings, candidates, argv, envp })
    }
}

/// Where the program may be: itself when it is a path, else its name in each folder of `PATH`; an empty folder is the current one.
fn candidates(program: &OsStr, path: Option<&OsStr>) -> Vec<Vec<u8>> {
    let program = program.as_bytes();
    if program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let folders = path.map_or(DEFAULT_PATH, OsStr::as_bytes).split(|byte| *byte == b':');
    folders.map(|folder| if folder.is_empty() { program.to_vec() } else { [folder, b"/", program].concat() }).collect()
}

/// Forks with all signals blocked, so that no handler of ours ever runs in the child.
fn fork_into(image: &Image, pipes: [c_int; 4]) -> io::Result<pid_t> {
    // SAFETY: the sets and actions are plain data, for which zero is valid; the calls get pointers to live locals. `become_command` makes
    // async-signal-safe calls only and does not return, so the child never runs code that relies on other threads.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        // Ignored, SIGCHLD would make the kernel forget how the command ended.
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action);
        let children_ignored = action.sa_sigaction == libc::SIG_IGN;
        if children_ignored {
            action.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut());
        }
        let pid = libc::fork();
        if pid == 0 {
            become_command(image, pipes, children_ignored);
        }
        let result = if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) };
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        result
    }
}

/// The child: waits for a byte, then is the command.
///
/// # Safety
/// Only in a child after `fork`, with signals blocked: it changes the dispositions of the whole process and ends it.
unsafe fn become_command(image: &Image, [wait_for_go, go, failure, tell_failure]: [c_int; 4], children_ignored: bool) -> ! {
    // SAFETY: only async-signal-safe calls (signal-safety(7)) on memory that was prepared before the fork, and on locals.
    unsafe {
        libc::close(go);
        libc::close(failure);
        default_signals(children_ignored);
        let mut byte = 0u8;
        loop {
            match libc::read(wait_for_go, (&raw mut byte).cast(), 1) {
                1 => break,
                -1 if *libc::__errno_location() == libc::EINTR => {}
                _ => libc::_exit(127),
            }
        }
        // As execvp: go on to the next folder; that one was not allowed is remembered.
        let mut number = libc::ENOENT;
        for candidate in &image.candidates {
            libc::execve(*candidate, image.argv.as_ptr(), image.envp.as_ptr());
            match *libc::__errno_location() {
                libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
                libc::EACCES => number = libc::EACCES,
                other => {
                    number = other;
                    break;
                }
            }
        }
        libc::write(tell_failure, (&raw const number).cast(), size_of::<c_int>());
        libc::_exit(127)
    }
}

/// Signals that are caught go back to their default, those that are ignored stay so (`nohup`), but for what our runtime or we have changed: SIGPIPE is
/// ignored in every Rust program, SIGCHLD perhaps was. Then none is blocked.
///
/// # Safety
/// Only in a child after `fork`.
unsafe fn default_signals(children_ignored: bool) {
    // SAFETY: async-signal-safe calls with pointers to live locals; zero is a valid action and set.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        for signal in 1..=LAST_SIGNAL {
            if libc::sigaction(signal, std::ptr::null(), &raw mut action) != 0 {
                continue;
            }
            let ignored = action.sa_sigaction == libc::SIG_IGN && signal != libc::SIGPIPE;
            action = std::mem::zeroed();
            action.sa_sigaction = if ignored || (signal == libc::SIGCHLD && children_ignored) { libc::SIG_IGN } else { libc::SIG_DFL };
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests;
