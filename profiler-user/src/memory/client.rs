//! The profiler's side: ranges of one process's memory, bytes or why not, before a deadline; and the helper's life.

use super::wire::{HEAD_BYTES, HELLO, HELPER, RANGE_BYTES, RANGE_MAX_BYTES, RANGES_MAX, head, range};
use crate::model::process::Pid;
use crate::sys::handover::{pair, receive_all, receive_some, send_all};
use crate::sys::initialised;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// How long the helper may take to start and give up its rights.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Bytes of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Address of the first.
    pub address: u64,
    /// How many, at most [`RANGE_MAX_BYTES`].
    pub length: u32,
}

/// Why a range has no bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// There is no such process, or it has no memory any more.
    #[error("the process is gone")]
    Gone,
    /// We may not.
    #[error("reading its memory is not allowed; it needs CAP_SYS_PTRACE")]
    Forbidden,
    /// Nothing can be read there.
    #[error("there is no memory that could be read")]
    NotThere,
    /// Something else, by its error number.
    #[error("the kernel's error {0}")]
    Other(i32),
}

/// Why there is no answer at all.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The library's user did not prepare for helpers.
    #[error("cannot start the helper that reads memory: this program did not call `profiler::init()` first in its `main`; add that call")]
    NotInitialised,
    /// No helper can be had; the process is not to blame.
    #[error("cannot start the helper that reads memory: {0}; see that /proc is mounted and the kernel has seccomp")]
    Start(#[source] io::Error),
    /// The helper had to be killed: a page of the process did not come.
    #[error("reading the memory of the process took too long; a page of it may belong to a file system that does not answer")]
    Deadline,
    /// The helper died, twice.
    #[error("the helper that reads memory died: {0}")]
    Died(#[source] io::Error),
    /// A range is longer than [`RANGE_MAX_BYTES`].
    #[error("{0} bytes cannot be read at once")]
    TooLong(u32),
}

/// The helper, started at the first question and again after each death.
#[derive(Debug, Default)]
pub struct MemoryReader {
    program: Option<PathBuf>,
    helper: Option<Helper>,
}

#[derive(Debug)]
struct Helper {
    socket: OwnedFd,
    pid: u32,
    process: OwnedFd,
}

type Read = Result<Vec<u8>, Unreadable>;

impl MemoryReader {
    /// Starts nothing yet. `program` is what to start: `None` for this program, which must have called [`crate::init`].
    pub fn new(program: Option<PathBuf>) -> Self {
        Self { program, helper: None }
    }

    /// Process id of the helper, if it runs: for leaving it out of profiles.
    pub fn pid(&self) -> Option<u32> {
        self.helper.as_ref().map(|helper| helper.pid)
    }

    /// Starts the helper if it does not run, so that a deadline is all for the answer.
    ///
    /// # Errors
    /// No helper can be had.
    pub fn start(&mut self) -> Result<(), MemoryError> {
        self.helper().map(|_| ())
    }

    /// Ends the helper; the next question starts another one.
    pub fn stop(&mut self) {
        self.helper = None;
    }

    /// The bytes of each range, in their order. Fewer bytes than asked for: behind them is memory that cannot be read.
    ///
    /// The process is known by its pid alone: whoever asks makes sure that it is still the same one, before and after.
    ///
    /// # Errors
    /// No helper can be had, or it did not answer before the deadline; it is killed then.
    pub fn read(&mut self, pid: Pid, ranges: &[Range], deadline: Instant) -> Result<Vec<Read>, MemoryError> {
        if let Some(range) = ranges.iter().find(|range| range.length > RANGE_MAX_BYTES) {
            return Err(MemoryError::TooLong(range.length));
        }
        let mut read = Vec::with_capacity(ranges.len());
        while read.len() < ranges.len() {
            let rest = &ranges[read.len()..];
            read.extend(self.read_part(pid, &rest[..part(rest)], deadline)?);
        }
        Ok(read)
    }

    /// One request. If the helper dies another one is asked: it may have been killed from outside.
    fn read_part(&mut self, pid: Pid, ranges: &[Range], deadline: Instant) -> Result<Vec<Read>, MemoryError> {
        match self.ask(pid, ranges, deadline) {
            Err(MemoryError::Died(_)) => self.ask(pid, ranges, deadline),
            answer => answer,
        }
    }

    fn helper(&mut self) -> Result<&mut Helper, MemoryError> {
        match &mut self.helper {
            Some(helper) => Ok(helper),
            none => Ok(none.insert(Helper::start(self.program.as_deref())?)),
        }
    }

    fn ask(&mut self, pid: Pid, ranges: &[Range], deadline: Instant) -> Result<Vec<Read>, MemoryError> {
        self.helper()?.exchange(pid, ranges, deadline).map_err(|error| {
            self.stop();
            if error.kind() == io::ErrorKind::TimedOut { MemoryError::Deadline } else { MemoryError::Died(error) }
        })
    }
}

/// How many of the ranges fit in one request; at least one.
fn part(ranges: &[Range]) -> usize {
    let mut left = RANGE_MAX_BYTES;
    let fits = |range: &&Range| match left.checked_sub(range.length) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    ranges.iter().take(RANGES_MAX).take_while(fits).count()
}

impl Helper {
    fn start(program: Option<&Path>) -> Result<Self, MemoryError> {
        let program = match program {
            Some(program) => program.to_owned(),
            None if initialised::is_noted() => PathBuf::from("/proc/self/exe"),
            None => return Err(MemoryError::NotInitialised),
        };
        Self::start_program(program).map_err(MemoryError::Start)
    }

    fn start_program(program: PathBuf) -> io::Result<Self> {
        let (socket, its_socket) = pair()?;
        let (tell, told) = channel();
        std::thread::Builder::new().name("profiler-memory".into()).spawn(move || tend(&program, its_socket, &tell))?;
        let (pid, process) = told.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))??;
        // From here on it is killed when it is dropped.
        let helper = Self { socket, pid, process };
        let mut hello = [0];
        receive_all(helper.socket.as_fd(), &mut hello, Instant::now() + START_DEADLINE)?;
        if hello == [HELLO] { Ok(helper) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn exchange(&mut self, pid: Pid, ranges: &[Range], deadline: Instant) -> io::Result<Vec<Read>> {
        let socket = self.socket.as_fd();
        let mut request = Vec::with_capacity(HEAD_BYTES + ranges.len() * RANGE_BYTES);
        request.extend(head(pid.0, ranges.len()));
        request.extend(ranges.iter().flat_map(|asked| range(asked.address, asked.length)));
        send_all(socket, &request, deadline)?;
        let mut answers = Vec::with_capacity(ranges.len());
        let mut answer = Answer::of(socket, deadline, ranges);
        for range in ranges {
            let status = i32::from_le_bytes(answer.take(4)?.try_into().unwrap_or_default());
            let Ok(length) = u32::try_from(status) else {
                answers.push(Err(unreadable(status.saturating_neg())));
                continue;
            };
            if length > range.length {
                return Err(io::ErrorKind::InvalidData.into());
            }
            answers.push(Ok(answer.take(length as usize)?.to_vec()));
        }
        Ok(answers)
    }
}

/// An answer as it arrives: as much at once as there is. By two calls for each range, 2,000 stacks took a millisecond longer, of 25.
struct Answer<'a> {
    socket: BorrowedFd<'a>,
    deadline: Instant,
    /// As long as the longest answer there may be.
    bytes: Vec<u8>,
    taken: usize,
    arrived: usize,
}

impl<'a> Answer<'a> {
    fn of(socket: BorrowedFd<'a>, deadline: Instant, ranges: &[Range]) -> Self {
        let length = ranges.iter().map(|range| 4 + range.length as usize).sum();
        Self { socket, deadline, bytes: vec![0; length], taken: 0, arrived: 0 }
    }

    /// The next bytes; an answer that is longer than any is none.
    fn take(&mut self, length: usize) -> io::Result<&[u8]> {
        let end = self.taken + length;
        while self.arrived < end {
            self.arrived += match self.bytes.get_mut(self.arrived..) {
                Some(rest) if !rest.is_empty() => receive_some(self.socket, rest, self.deadline)?,
                _ => return Err(io::ErrorKind::InvalidData.into()),
            };
        }
        let taken = &self.bytes[self.taken..end];
        self.taken = end;
        Ok(taken)
    }
}

fn unreadable(errno: i32) -> Unreadable {
    match errno {
        libc::ESRCH => Unreadable::Gone,
        libc::EPERM | libc::EACCES => Unreadable::Forbidden,
        libc::EFAULT => Unreadable::NotThere,
        other => Unreadable::Other(other),
    }
}

/// Starts the helper and reaps it when it has ended. One thread a helper, which lives as long: the kernel sends the parent-death signal when the *thread* ends
/// that started a process.
fn tend(program: &Path, socket: OwnedFd, tell: &Sender<io::Result<(u32, OwnedFd)>>) {
    let started = start(program, socket).and_then(|mut child| match watch(&child) {
        Ok(process) => Ok((child, process)),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    });
    match started {
        Ok((mut child, process)) => {
            if tell.send(Ok((child.id(), process))).is_err() {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
        Err(error) => {
            let _ = tell.send(Err(error));
        }
    }
}

fn start(program: &Path, socket: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(program);
    // In a group of its own: a Ctrl-C in the terminal is for the profiler.
    command.arg0(HELPER).env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// A descriptor of a child that was not waited for: nobody else can have its pid.
fn watch(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

impl Drop for Helper {
    /// Kills it. (Not waited for: its thread does that, when it can die.)
    fn drop(&mut self) {
        // It may be gone already.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }
}
