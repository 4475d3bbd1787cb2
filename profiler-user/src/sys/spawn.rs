//! A command that can be profiled from its first instruction: forked and held before its `execve`, then let go.
//!
//! Everything the child needs is made before the fork; between fork and exec it makes only calls that are safe after a fork of a process with threads
//! (signal-safety(7)).

mod interpreter;
mod successor;

pub use self::successor::Successor;
use super::end::restore_ignored;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, pidfd_open};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What runs a script without `#!`.
const SHELL: &CStr = c"/bin/sh";
/// The highest number of a signal.
const LAST_SIGNAL: libc::c_int = 64;

/// Why a command could not be started or waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// There is no such program.
    #[error("running {program:?}: no such command; give its path, or check PATH")]
    NotFound {
        /// What was to be run.
        program: OsString,
    },
    /// It is there, but what is to run it is not.
    #[error("running {program:?}: {}", said_of(.interpreter.as_deref()))]
    NoInterpreter {
        /// What was to be run.
        program: OsString,
        /// What the first line of a script names; none for a program.
        interpreter: Option<OsString>,
    },
    /// It is there, and cannot be run.
    #[error("running {program:?}: {source}; is it executable?")]
    NotExecutable {
        /// What was to be run.
        program: OsString,
        /// Why not.
        source: io::Error,
    },
    /// No command was given, or one with a NUL byte in it.
    #[error("the command is empty, or has a NUL byte in it")]
    Empty,
    /// No process could be made for it.
    #[error("starting a process for the command: {}; {}", .0, limit_behind(.0))]
    Fork(#[source] io::Error),
    /// It runs, but it cannot be watched.
    #[error("watching the command: {0}")]
    Watch(#[source] io::Error),
}

/// Which limit it may have been.
fn limit_behind(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE) => "the limit on open files (ulimit -n) is too low",
        _ => "a limit on processes may have been reached (ulimit -u)",
    }
}

fn said_of(interpreter: Option<&OsStr>) -> String {
    match interpreter {
        Some(interpreter) => format!("its first line names the interpreter {interpreter:?}, which is not there"),
        None => "it is there, but the loader that it asks for is not; it may be built for another system".to_owned(),
    }
}

/// A child that has its pid, and has not begun.
#[derive(Debug)]
pub struct HeldChild {
    child: Option<Child>,
    program: OsString,
    /// The first file of that name.
    path: PathBuf,
    /// A byte on it lets the child go; closed without one, the child ends.
    gate: OwnedFd,
    /// The number of the error if exec fails; closed without one if it succeeds.
    outcome: OwnedFd,
}

/// A child that runs the command.
#[derive(Debug)]
pub struct RunningChild {
    child: Child,
}

#[derive(Debug)]
struct Child {
    pid: libc::pid_t,
    descriptor: OwnedFd,
}

/// What the child uses after the fork.
struct Prepared {
    candidates: Vec<CString>,
    arguments: Vec<*const libc::c_char>,
    /// For each candidate the shell that runs it if it is a script without `#!`, as execvp(3) does.
    shell_arguments: Vec<Vec<*const libc::c_char>>,
    environment: Vec<*const libc::c_char>,
    gate: libc::c_int,
    outcome: libc::c_int,
}

/// Held while both ends of a child's pipes are open here: another child that is forked meanwhile, and held, would keep them open.
static FORKING: Mutex<()> = Mutex::new(());

/// Starts a child for a command; it waits before it becomes the command.
///
/// # Errors
/// There is no such program, or no process for it.
pub fn spawn_held(program: &OsStr, arguments: &[OsString]) -> Result<HeldChild, SpawnError> {
    let c_string = |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| SpawnError::Empty);
    let paths = candidates(program);
    let candidates = paths.iter().map(|path| c_string(path.as_os_str())).collect::<Result<Vec<_>, _>>()?;
    let path = paths.into_iter().next().ok_or_else(|| SpawnError::NotFound { program: program.to_owned() })?;
    let words = std::iter::once(program).chain(arguments.iter().map(OsString::as_os_str)).map(c_string).collect::<Result<Vec<_>, _>>()?;
    let environment: Vec<CString> = std::env::vars_os().filter_map(|(key, value)| variable(&key, &value)).collect();
    let _forking = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| SpawnError::Fork(error.into()));
    let ((gate_read, gate), (outcome, outcome_write)) = (pipe()?, pipe()?);
    let pointers =
        |strings: &[CString]| -> Vec<*const libc::c_char> { strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect() };
    let script = |path: &CString| [SHELL.as_ptr(), path.as_ptr()].into_iter().chain(pointers(&words).into_iter().skip(1)).collect();
    let prepared = Prepared {
        shell_arguments: candidates.iter().map(script).collect(),
        candidates,
        arguments: pointers(&words),
        environment: pointers(&environment),
        gate: gate_read.as_raw_fd(),
        outcome: outcome_write.as_raw_fd(),
    };
    match fork_with_signals_blocked(&prepared, gate.as_raw_fd()) {
        -1 => Err(SpawnError::Fork(io::Error::last_os_error())),
        pid => {
            let child = Child::of(pid)?;
            Ok(HeldChild { child: Some(child), program: program.to_owned(), path, gate, outcome })
        }
    }
}

/// Forks; no handler of ours runs in the child, which would write into pipes that it shares with us.
fn fork_with_signals_blocked(prepared: &Prepared, parents_gate: libc::c_int) -> libc::pid_t {
    // SAFETY: sets and actions are plain data, for which zero is valid; the calls get pointers to live locals. The child calls `become_command`, which
    // makes only async-signal-safe calls on memory that was made before, and never returns.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        // Where a parent of ours had SIGCHLD ignored, the kernel would forget how the command ended.
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action);
        let ignored = action.sa_sigaction == libc::SIG_IGN;
        if ignored {
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        }
        let pid = libc::fork();
        if pid == 0 {
            become_command(prepared, parents_gate, if ignored { libc::SIG_IGN } else { libc::SIG_DFL });
        }
        let error = *libc::__errno_location();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        *libc::__errno_location() = error;
        pid
    }
}

/// Where a program may be, so that what is not there is said before anything is set up: its path if it has a slash, else every folder of PATH that has something of that name.
fn candidates(program: &OsStr) -> Vec<PathBuf> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.as_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        return if path.symlink_metadata().is_ok() { vec![path] } else { Vec::new() };
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|folder| folder.join(program)).filter(|path| Path::is_file(path)).collect()
}

fn variable(key: &OsStr, value: &OsStr) -> Option<CString> {
    let mut text = key.as_bytes().to_vec();
    text.push(b'=');
    text.extend(value.as_bytes());
    CString::new(text).ok()
}

/// In the child: wait at the gate, then become the command.
fn become_command(prepared: &Prepared, parents_gate: libc::c_int, on_child: libc::sighandler_t) -> ! {
    // SAFETY: all of these are async-signal-safe; the pointers are to memory made before the fork, which this process has a copy of, and the arrays
    // end with null.
    unsafe {
        // The copy of the parent's end: with it open the gate would never read as closed.
        libc::close(parents_gate);
        restore_signals(on_child);
        let mut byte = 0u8;
        loop {
            match libc::read(prepared.gate, (&raw mut byte).cast(), 1) {
                1 => break,
                -1 if *libc::__errno_location() == libc::EINTR => {}
                _ => libc::_exit(127), // The profiler gave up.
            }
        }
        // As execvp: on to the next folder; that a file was there and not allowed is remembered.
        let mut error = libc::ENOENT;
        for (path, shell_arguments) in prepared.candidates.iter().zip(&prepared.shell_arguments) {
            libc::execve(path.as_ptr(), prepared.arguments.as_ptr(), prepared.environment.as_ptr());
            if *libc::__errno_location() == libc::ENOEXEC {
                libc::execve(SHELL.as_ptr(), shell_arguments.as_ptr(), prepared.environment.as_ptr());
            }
            match *libc::__errno_location() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => error = libc::EACCES,
                other => {
                    error = other;
                    break;
                }
            }
        }
        libc::write(prepared.outcome, (&raw const error).cast(), size_of::<libc::c_int>());
        libc::_exit(127)
    }
}

/// Signals that are caught go back to their default, so that one ends a child that waits; ignored ones stay so (`nohup`) but for SIGPIPE, which Rust's
/// runtime ignores, SIGXFSZ, which we ignore, and SIGCHLD: these are what they were. Then none is blocked.
///
/// # Safety
/// Only in a child that is about to exec.
unsafe fn restore_signals(on_child: libc::sighandler_t) {
    // SAFETY: async-signal-safe calls with pointers to live locals; zero is a valid action and set.
    unsafe {
        for signal in 1..=LAST_SIGNAL {
            let mut action: libc::sigaction = std::mem::zeroed();
            let is_ignored = libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN;
            if !is_ignored {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        restore_ignored();
        libc::signal(libc::SIGCHLD, on_child);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

impl Child {
    fn of(pid: libc::pid_t) -> Result<Self, SpawnError> {
        let as_pid = rustix::process::Pid::from_raw(pid).ok_or(SpawnError::Empty)?;
        match pidfd_open(as_pid, PidfdFlags::empty()) {
            Ok(descriptor) => Ok(Self { pid, descriptor }),
            Err(error) => {
                // SAFETY: the pid is our child's, which was not waited for, so it is nobody else's; no status is asked for.
                unsafe {
                    libc::kill(pid, libc::SIGKILL);
                    libc::waitpid(pid, std::ptr::null_mut(), 0);
                }
                Err(SpawnError::Watch(error.into()))
            }
        }
    }

    fn wait(&self) -> io::Result<i32> {
        let mut status = 0;
        loop {
            // SAFETY: the child is ours and was not waited for; `status` is a local.
            if unsafe { libc::waitpid(self.pid, &raw mut status, 0) } == self.pid {
                return Ok(exit_code(status));
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// A wait status as shells give it: the exit code, or 128 + n when signal n ended the process.
fn exit_code(status: libc::c_int) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

impl HeldChild {
    /// The child's process id, which exec keeps.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, |child| child.pid as u32)
    }

    /// Has somebody ready who lets it go on if this process is killed while it is stopped. Before anything is mapped that must end with this process.
    ///
    /// # Errors
    /// There are no descriptors or processes left.
    pub fn successor(&self) -> Result<Successor, SpawnError> {
        let child = self.child.as_ref().ok_or(SpawnError::Empty)?;
        let _forking = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
        Successor::begin(child.descriptor.as_fd()).map_err(SpawnError::Fork)
    }

    /// Lets it become the command.
    ///
    /// # Errors
    /// The program is not there, or cannot be run; then the child has ended.
    pub fn release(mut self) -> Result<RunningChild, SpawnError> {
        // A child that was killed meanwhile does not read: its end is for `wait` to tell.
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.gate, &[1]));
        let mut number = [0; size_of::<libc::c_int>()];
        let failed = matches!(rustix::io::retry_on_intr(|| rustix::io::read(&self.outcome, &mut number)), Ok(read) if read == number.len());
        let child = self.child.take().ok_or(SpawnError::Empty)?;
        if !failed {
            return Ok(RunningChild { child });
        }
        let _ = child.wait();
        let (program, source) = (self.program.clone(), io::Error::from_raw_os_error(libc::c_int::from_ne_bytes(number)));
        Err(match source.raw_os_error() {
            // The kernel says so of a file whose interpreter is missing, too.
            Some(libc::ENOENT) if self.path.is_file() => {
                SpawnError::NoInterpreter { program, interpreter: interpreter::named_by(&self.path) }
            }
            Some(libc::ENOENT) => SpawnError::NotFound { program },
            _ => SpawnError::NotExecutable { program, source },
        })
    }
}

impl Drop for HeldChild {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            // Never let go: it must not become the command now.
            // SAFETY: the pid is our child's, which was not waited for, so it is nobody else's.
            unsafe { libc::kill(child.pid, libc::SIGKILL) };
            let _ = child.wait();
        }
    }
}

impl RunningChild {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid as u32
    }

    /// Sends it a signal; nothing happens if it has ended.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the child is not waited for before `wait` consumes self, so the pid is still its.
        unsafe { libc::kill(self.child.pid, signal) };
    }

    /// Waits for its end: its exit code, or 128 + n when signal n ended it.
    ///
    /// # Errors
    /// It is not ours to wait for any more.
    pub fn wait(self) -> Result<i32, SpawnError> {
        self.child.wait().map_err(SpawnError::Watch)
    }
}

impl AsFd for RunningChild {
    /// Readable once it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests;
