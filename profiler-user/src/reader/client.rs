//! The profiler's side: one question at a time, an answer or an error before the deadline, and never the same bad file twice.

use super::keeper::{Files, Granted, START_DEADLINE, keep};
use super::known::{Known, KnownFiles};
use super::names::Arguments;
use super::wire::{ADDRESSES_MAX, ANSWER_MAX_BYTES, Answer, Presence, Request};
use crate::model::address::FileAddress;
use crate::model::allocator::{Allocator, GivenFunction};
use crate::model::answer::{Detail, ObjectFacts, SymbolLine};
use crate::model::mapping::ObjectId;
use crate::model::probe_points::{FoundPoints, WantedPoints};
use crate::model::profile::Unresolved;
use crate::model::unwind::UnwindTable;
use crate::sys::handover::{pair, receive_all, receive_descriptors, send_all};
use crate::sys::initialised;
use rustix::process::{Pid, Signal, pidfd_send_signal, setpriority_process};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bounds of a reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReaderOptions {
    /// How long one call may take; then the file is bad.
    pub deadline: Duration,
    /// Limit of the reader's private memory (`RLIMIT_DATA`), bytes.
    pub data_limit_bytes: u64,
    /// Its niceness, -20 to 19; where it may not be set (below 0 it needs `CAP_SYS_NICE`), it has this process's.
    pub niceness: i32,
    /// The program to start: `None` for this program, which must have called [`crate::init`].
    pub program: Option<PathBuf>,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(20), data_limit_bytes: 768 << 20, niceness: 0, program: None }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// The library's user did not prepare for readers.
    #[error("cannot start a reader: this program did not call `profiler::init()` first in its `main`; add that call")]
    NotInitialised,
    /// No reader can be had; no file is to blame.
    #[error("cannot start a reader process: {0}; see that /proc is mounted and the kernel has seccomp notifications (5.14)")]
    Start(#[source] io::Error),
    /// The descriptor could not be duplicated for the reader.
    #[error("cannot hand a file to the reader: {0}")]
    Handover(#[source] io::Error),
    /// The reader ended while it read the file: the file is bad from now on.
    #[error("the reader died of this file; it is not read again")]
    Died,
    /// It took too long: the file is bad from now on.
    #[error("the file takes longer to read than {0:?}; it is not read again")]
    Deadline(Duration),
    /// The file is no ELF file, or one that cannot be read: bad from now on.
    #[error("{0}; it is not read again")]
    Refused(String),
    /// An earlier call has found the file bad.
    #[error("the file was found bad before")]
    RememberedBad,
}

/// One file's addresses to be named.
#[derive(Clone, Copy, Debug)]
pub struct SymbolizeRequest<'a> {
    /// Which object this is.
    pub object: ObjectId,
    /// The object, open for reading. Nothing may rely on its file offset.
    pub file: BorrowedFd<'a>,
    /// Its separate debug file, verified.
    pub debug: Option<BorrowedFd<'a>>,
    /// The file with debug information that several share (dwz), verified.
    pub alt: Option<BorrowedFd<'a>>,
    /// Offsets in the object.
    pub offsets: &'a [FileAddress],
}

/// One reader process, started at the first request and again after each death.
#[derive(Debug)]
pub struct Reader {
    options: ReaderOptions,
    session: Option<Session>,
    known: KnownFiles,
}

/// A running reader.
#[derive(Debug)]
struct Session {
    socket: OwnedFd,
    pid: u32,
    process: OwnedFd,
    granted: Arc<Granted>,
}

impl Reader {
    /// Starts nothing yet.
    pub fn new(options: ReaderOptions) -> Self {
        Self { options, session: None, known: KnownFiles::default() }
    }

    /// Another reader for another thread, with the same bounds, that shares what is known of bad files.
    pub fn another(&self) -> Self {
        Self { options: self.options.clone(), session: None, known: self.known.clone() }
    }

    /// Process id of the reader, if one runs: for leaving it out of profiles.
    pub fn pid(&self) -> Option<u32> {
        self.session.as_ref().map(|session| session.pid)
    }

    /// The limit of its data from the next start on.
    pub fn set_data_limit(&mut self, bytes: u64) {
        self.options.data_limit_bytes = bytes;
    }

    /// Ends the process, and with it the memory of what it read; the next request starts another one. For times when nothing is asked.
    pub fn stop(&mut self) {
        self.session = None;
    }

    /// The answer to a question about one file.
    pub(super) fn about(&mut self, object: ObjectId, file: BorrowedFd<'_>, request: &Request) -> Result<Answer, ReaderError> {
        let deadline = self.deadline_for(object)?;
        let answer = self.ask(request, &Files { object: Some(file), ..Files::default() }, deadline);
        self.judge(object, answer)
    }

    /// What the file says of itself.
    ///
    /// # Errors
    /// No reader can be had, or the file is bad.
    pub fn identify(&mut self, object: ObjectId, file: BorrowedFd<'_>) -> Result<ObjectFacts, ReaderError> {
        match self.about(object, file, &Request::Identify)? {
            Answer::Facts(facts) => Ok(facts),
            _ => Err(self.distrust(object)),
        }
    }

    /// Names and lines for offsets of a file: one answer for each offset, in their order.
    ///
    /// If reading the file with its debug information fails, it is read once more without.
    ///
    /// # Errors
    /// No reader can be had, or the file is bad.
    pub fn symbolize(&mut self, request: SymbolizeRequest<'_>) -> Result<Vec<Result<Vec<SymbolLine>, Unresolved>>, ReaderError> {
        let deadline = self.deadline_for(request.object)?;
        if self.known.of(request.object) != Some(Known::SymbolsOnly) {
            match self.symbolize_with(request, Detail::Full, deadline) {
                Err(ReaderError::Died | ReaderError::Deadline(_)) => self.known.remember(request.object, Known::SymbolsOnly),
                answer => return self.judge(request.object, answer),
            }
        }
        let answer = self.symbolize_with(request, Detail::SymbolsOnly, Instant::now() + self.options.deadline);
        self.judge(request.object, answer)
    }

    /// Names for runtime addresses from a perf map, `None` where it has none.
    ///
    /// # Errors
    /// No reader can be had, or the file is bad.
    pub fn perf_map(&mut self, object: ObjectId, file: BorrowedFd<'_>, addresses: &[u64]) -> Result<Vec<Option<String>>, ReaderError> {
        let deadline = self.deadline_for(object)?;
        let files = Files { object: Some(file), ..Files::default() };
        let mut names = Vec::with_capacity(addresses.len());
        for part in addresses.chunks(ADDRESSES_MAX) {
            let answer = self.ask(&Request::PerfMap { addresses: part.to_vec() }, &files, deadline);
            match self.judge(object, answer)? {
                Answer::Names(some) if some.len() == part.len() => names.extend(some),
                _ => return Err(self.distrust(object)),
            }
        }
        Ok(names)
    }

    /// What the file says of how to leave its code.
    ///
    /// # Errors
    /// No reader can be had, or the file is bad.
    pub fn unwind_table(&mut self, object: ObjectId, file: BorrowedFd<'_>) -> Result<UnwindTable, ReaderError> {
        match self.about(object, file, &Request::Unwind)? {
            Answer::Unwind(table) => Ok(table),
            _ => Err(self.distrust(object)),
        }
    }

    /// The functions of an allocator that the file has, by their names or because they are given; none in most files.
    ///
    /// # Errors
    /// No reader can be had, or the file is bad.
    pub fn allocator(&mut self, object: ObjectId, file: BorrowedFd<'_>, given: &[GivenFunction]) -> Result<Allocator, ReaderError> {
        match self.about(object, file, &Request::Allocator(given.to_vec()))? {
            Answer::Allocator(allocator) => Ok(allocator),
            _ => Err(self.distrust(object)),
        }
    }

    /// Where functions and marks are that a custom profile names.
    ///
    /// # Errors
    /// No reader can be had, or the file is bad.
    pub fn points(&mut self, object: ObjectId, file: BorrowedFd<'_>, wanted: &WantedPoints) -> Result<FoundPoints, ReaderError> {
        match self.about(object, file, &Request::Points(wanted.clone()))? {
            Answer::Points(found) if found.functions.len() == wanted.functions.len() && found.marks.len() == wanted.marks.len() => {
                Ok(found)
            }
            _ => Err(self.distrust(object)),
        }
    }

    fn symbolize_with(
        &mut self,
        request: SymbolizeRequest<'_>,
        detail: Detail,
        deadline: Instant,
    ) -> Result<Vec<Result<Vec<SymbolLine>, Unresolved>>, ReaderError> {
        let mut found = Vec::with_capacity(request.offsets.len());
        let presence = |file: Option<BorrowedFd<'_>>| if file.is_some() { Presence::Given } else { Presence::Absent };
        let files = Files { object: Some(request.file), debug: request.debug, alt: request.alt };
        for part in request.offsets.chunks(ADDRESSES_MAX) {
            let question = Request::Symbolize {
                object: request.object,
                detail,
                debug: presence(request.debug),
                alt: presence(request.alt),
                offsets: part.iter().map(|offset| offset.0).collect(),
            };
            match self.ask(&question, &files, deadline)? {
                Answer::Lines(lines) if lines.len() == part.len() => found.extend(lines),
                Answer::Refused(why) => return Err(ReaderError::Refused(why)),
                _ => {
                    self.stop();
                    return Err(ReaderError::Died);
                }
            }
        }
        Ok(found)
    }

    /// When a call that begins now must have its answer, if the file may be read at all.
    fn deadline_for(&self, object: ObjectId) -> Result<Instant, ReaderError> {
        match self.known.of(object) {
            Some(Known::Bad) => Err(ReaderError::RememberedBad),
            _ => Ok(Instant::now() + self.options.deadline),
        }
    }

    /// Remembers a file whose answer is an error that it is to blame for.
    fn judge<T: Refusable>(&mut self, object: ObjectId, answer: Result<T, ReaderError>) -> Result<T, ReaderError> {
        let answer = answer.and_then(Refusable::refusal);
        if let Err(ReaderError::Died | ReaderError::Deadline(_) | ReaderError::Refused(_)) = answer {
            self.known.remember(object, Known::Bad);
        }
        answer
    }

    /// A reader that answers something else than what was asked has been taken over by the file.
    pub(super) fn distrust(&mut self, object: ObjectId) -> ReaderError {
        self.stop();
        self.known.remember(object, Known::Bad);
        ReaderError::Died
    }

    /// Asks, and if the reader dies asks another one: it may have been killed from outside, or by what it kept of other files.
    fn ask(&mut self, request: &Request, files: &Files, deadline: Instant) -> Result<Answer, ReaderError> {
        match self.ask_once(request, files, deadline) {
            Err(ReaderError::Died) => self.ask_once(request, files, deadline),
            answer => answer,
        }
    }

    fn ask_once(&mut self, request: &Request, files: &Files, deadline: Instant) -> Result<Answer, ReaderError> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(Session::start(&self.options)?),
        };
        session.granted.set(files).map_err(ReaderError::Handover)?;
        let answer = session.exchange(&request.encode(), deadline);
        session.granted.clear();
        answer.map_err(|error| {
            self.stop();
            match error.kind() {
                io::ErrorKind::TimedOut => ReaderError::Deadline(self.options.deadline),
                _ => ReaderError::Died,
            }
        })
    }
}

/// An answer that may be a refusal.
trait Refusable: Sized {
    fn refusal(self) -> Result<Self, ReaderError>;
}

impl Refusable for Answer {
    fn refusal(self) -> Result<Self, ReaderError> {
        match self {
            Self::Refused(why) => Err(ReaderError::Refused(why)),
            answer => Ok(answer),
        }
    }
}

impl Refusable for Vec<Result<Vec<SymbolLine>, Unresolved>> {
    fn refusal(self) -> Result<Self, ReaderError> {
        Ok(self)
    }
}

impl Session {
    fn start(options: &ReaderOptions) -> Result<Self, ReaderError> {
        let program = match &options.program {
            Some(program) => program.clone(),
            None if initialised::is_noted() => PathBuf::from("/proc/self/exe"),
            None => return Err(ReaderError::NotInitialised),
        };
        let alarm_seconds = u32::try_from(options.deadline.as_secs()).unwrap_or(u32::MAX).saturating_mul(2).saturating_add(2);
        let arguments = Arguments { data_limit_bytes: options.data_limit_bytes, alarm_seconds };
        let granted = Arc::new(Granted::default());
        let (socket, its_socket) = pair().map_err(ReaderError::Start)?;
        let keeper = {
            let granted = Arc::clone(&granted);
            std::thread::Builder::new()
                .name("profiler-keeper".into())
                .spawn(move || keep(&program, arguments, its_socket, &granted))
                .map_err(ReaderError::Start)?
        };
        match receive_descriptors(socket.as_fd(), Instant::now() + START_DEADLINE) {
            Ok((pid, mut descriptors)) if descriptors.len() == 1 => {
                set_niceness(pid, options.niceness);
                Ok(Self { socket, pid, process: descriptors.remove(0), granted })
            }
            Ok(_) => Err(ReaderError::Start(io::ErrorKind::InvalidData.into())),
            Err(error) => Err(ReaderError::Start(why_not_started(keeper, error))),
        }
    }

    fn exchange(&mut self, request: &[u8], deadline: Instant) -> io::Result<Answer> {
        let socket = self.socket.as_fd();
        let length = u32::try_from(request.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        send_all(socket, &length.to_le_bytes(), deadline)?;
        send_all(socket, request, deadline)?;
        let mut length = [0; 4];
        receive_all(socket, &mut length, deadline)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > ANSWER_MAX_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut answer = vec![0; length];
        receive_all(socket, &mut answer, deadline)?;
        Answer::decode(&answer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl Drop for Session {
    /// Kills the reader; its keeper reaps it. (Not waited for: a reader that hangs in a page of a network file system dies when it can.)
    fn drop(&mut self) {
        // It may be gone already.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }
}

/// What the keeper knows of a reader that never said hello.
fn why_not_started(keeper: JoinHandle<io::Result<()>>, error: io::Error) -> io::Error {
    let ended = error.kind() == io::ErrorKind::UnexpectedEof;
    match ended.then(|| keeper.join()) {
        Some(Ok(Err(why))) => why,
        _ => error,
    }
}

/// A right that is missing is no fault: the reader is as patient as others then.
fn set_niceness(pid: u32, niceness: i32) {
    if niceness != 0 {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| setpriority_process(Some(pid), niceness));
    }
}
