//! Names for code in files and in perf maps: each file is asked once for all its addresses, by readers that work side by side.

use crate::model::address::FileAddress;
use crate::model::mapping::ObjectId;
use crate::model::process::ProcessKey;
use crate::model::profile::Unresolved;
use crate::object::{DebugFiles, ObjectStore, OpenedFile};
use crate::reader::{ObjectFacts, ReaderError, SymbolLine, SymbolizeRequest};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that one request asks for.
const CHUNK: usize = 4_096;
/// How long the files of one user other than root may keep the readers busy: beyond it, they stay without names.
const USER_TIME: Duration = Duration::from_secs(40);
/// How long the files of all users other than root may.
const USERS_TIME: Duration = Duration::from_secs(240);

/// What parses files for this room; [`crate::reader::Reader`] outside tests.
pub trait NativeReader: Send {
    /// What a file says of itself.
    ///
    /// # Errors
    /// The file is bad, or no reader can be had.
    fn identify(&mut self, object: ObjectId, file: BorrowedFd<'_>) -> Result<ObjectFacts, ReaderError>;
    /// Names and lines for offsets of a file.
    ///
    /// # Errors
    /// The file is bad, or no reader can be had.
    fn symbolize(&mut self, request: SymbolizeRequest<'_>) -> Result<Vec<LinesOrWhy>, ReaderError>;
    /// Names for addresses from a perf map.
    ///
    /// # Errors
    /// The file is bad, or no reader can be had.
    fn perf_map(&mut self, object: ObjectId, file: BorrowedFd<'_>, addresses: &[u64]) -> Result<Vec<Option<String>>, ReaderError>;
}

/// The lines of an address, innermost first, or why there are none.
pub type LinesOrWhy = Result<Vec<SymbolLine>, Unresolved>;

/// Whose addresses are asked for. Their order is the order of the questions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Object(ObjectId),
    Vdso,
    PerfMap(ProcessKey),
}

/// A question: all addresses of one subject, and where the object was seen.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) subject: Subject,
    /// A path for finding debug files; a stranger's text.
    pub(super) path: PathBuf,
    pub(super) addresses: Vec<FileAddress>,
}

/// An answer to a job.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) build_id: Option<Vec<u8>>,
    /// As many as the job has addresses.
    pub(super) lines: Vec<LinesOrWhy>,
    /// What kept the readers from working at all.
    pub(super) trouble: Option<String>,
}

/// Where files come from.
pub(super) struct Files<'a> {
    pub(super) objects: &'a ObjectStore,
    pub(super) debug: &'a DebugFiles,
    pub(super) vdso: Option<&'a OpenedFile>,
}

impl Files<'_> {
    fn of(&self, subject: &Subject) -> Option<(ObjectId, BorrowedFd<'_>)> {
        match subject {
            Subject::Object(id) => self.objects.file(*id).map(|file| (*id, file)),
            Subject::Vdso => self.vdso.map(|file| (file.id, file.descriptor.as_fd())),
            Subject::PerfMap(process) => self.objects.perf_map(*process),
        }
    }

    fn owner(&self, subject: &Subject) -> u32 {
        let file = self.of(subject).map(|(_, file)| file);
        file.and_then(|file| rustix::fs::fstat(file).ok()).map_or(0, |stat| stat.st_uid)
    }
}

/// The time that files of users have taken.
#[derive(Default)]
struct Spent {
    by_user: Mutex<BTreeMap<u32, Duration>>,
}

impl Spent {
    /// Whether files of a user may still be read. Root's always.
    fn allows(&self, user: u32) -> bool {
        let by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Duration = by_user.values().sum();
        user == 0 || (all < USERS_TIME && by_user.get(&user).is_none_or(|spent| *spent < USER_TIME))
    }

    fn add(&self, user: u32, time: Duration) {
        if user != 0 {
            *self.by_user.lock().unwrap_or_else(PoisonError::into_inner).entry(user).or_default() += time;
        }
    }
}

/// Asks all jobs, one thread a reader. Root's files come first: a user's bad ones cannot delay them. The answers are in the order of the jobs.
pub(super) fn ask_all(readers: &mut [Box<dyn NativeReader + '_>], files: &Files<'_>, jobs: &[Job]) -> Vec<Answer> {
    let owners: Vec<u32> = jobs.iter().map(|job| files.owner(&job.subject)).collect();
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|at| (owners[*at] != 0, std::cmp::Reverse(jobs[*at].addresses.len())));
    let (next, spent) = (AtomicUsize::new(0), Spent::default());
    let work = |reader: &mut dyn NativeReader| {
        let mut answers = Vec::new();
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            let (job, owner) = (&jobs[at], owners[at]);
            let began = Instant::now();
            let answer = if spent.allows(owner) { ask(reader, files, job) } else { refused(job, Unresolved::FileBad) };
            spent.add(owner, began.elapsed());
            answers.push((at, answer));
        }
        answers
    };
    let mut answers: HashMap<usize, Answer> = std::thread::scope(|scope| {
        let threads: Vec<_> = readers.iter_mut().map(|reader| scope.spawn(|| work(reader.as_mut()))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    jobs.iter().enumerate().map(|(at, job)| answers.remove(&at).unwrap_or_else(|| refused(job, Unresolved::FileBad))).collect()
}

fn refused(job: &Job, why: Unresolved) -> Answer {
    Answer { lines: vec![Err(why); job.addresses.len()], ..Answer::default() }
}

fn ask(reader: &mut dyn NativeReader, files: &Files<'_>, job: &Job) -> Answer {
    let Some((object, file)) = files.of(&job.subject) else {
        let gone = if matches!(job.subject, Subject::PerfMap(_)) { Unresolved::NoPerfMap } else { Unresolved::FileGone };
        return refused(job, gone);
    };
    let mut build_id = None;
    let answered = match &job.subject {
        Subject::PerfMap(_) => ask_perf_map(reader, object, file, job),
        Subject::Object(_) | Subject::Vdso => reader.identify(object, file).and_then(|facts| {
            build_id = facts.build_id.clone();
            ask_object(reader, files.debug, (object, file, &facts), job)
        }),
    };
    match answered {
        Ok(lines) if lines.len() == job.addresses.len() => Answer { build_id, lines, trouble: None },
        Ok(_) => refused(job, Unresolved::FileBad),
        Err(error) => {
            let blameless = matches!(error, ReaderError::NotInitialised | ReaderError::Start(_) | ReaderError::Handover(_));
            Answer { build_id, trouble: blameless.then(|| error.to_string()), ..refused(job, Unresolved::FileBad) }
        }
    }
}

fn ask_object(
    reader: &mut dyn NativeReader,
    debug_files: &DebugFiles,
    (object, file, facts): (ObjectId, BorrowedFd<'_>, &ObjectFacts),
    job: &Job,
) -> Result<Vec<LinesOrWhy>, ReaderError> {
    let (mut debug, mut alt) = (None, None);
    if let Some(build_id) = facts.build_id.as_ref().filter(|_| !facts.has_debug_info) {
        let mut candidates = debug_files.by_build_id(build_id);
        if let Some((name, _)) = &facts.debug_link {
            candidates.extend(debug_files.by_link((&job.path, object), name));
        }
        debug = with_build_id(reader, candidates, object, build_id);
    }
    let alt_link = debug.as_ref().map_or(&facts.alt_link, |(_, facts)| &facts.alt_link);
    if let Some((path, build_id)) = alt_link {
        alt = with_build_id(reader, debug_files.by_alt_link(path, build_id), object, build_id);
    }
    let mut lines = Vec::with_capacity(job.addresses.len());
    for offsets in job.addresses.chunks(CHUNK) {
        let debug = debug.as_ref().map(|(file, _)| file.descriptor.as_fd());
        let alt = alt.as_ref().map(|(file, _)| file.descriptor.as_fd());
        lines.extend(reader.symbolize(SymbolizeRequest { object, file, debug, alt, offsets })?);
    }
    Ok(lines)
}

/// The first candidate that says it has the build id, and is not the object itself.
fn with_build_id(
    reader: &mut dyn NativeReader,
    candidates: Vec<OpenedFile>,
    object: ObjectId,
    build_id: &[u8],
) -> Option<(OpenedFile, ObjectFacts)> {
    candidates.into_iter().filter(|candidate| candidate.id != object).find_map(|candidate| {
        let facts = reader.identify(candidate.id, candidate.descriptor.as_fd()).ok()?;
        (facts.build_id.as_deref() == Some(build_id)).then_some((candidate, facts))
    })
}

fn ask_perf_map(reader: &mut dyn NativeReader, object: ObjectId, file: BorrowedFd<'_>, job: &Job) -> Result<Vec<LinesOrWhy>, ReaderError> {
    let mut lines = Vec::with_capacity(job.addresses.len());
    for part in job.addresses.chunks(CHUNK) {
        let addresses: Vec<u64> = part.iter().map(|address| address.0).collect();
        let names = reader.perf_map(object, file, &addresses)?;
        lines.extend(names.into_iter().map(|name| name.filter(|name| !name.is_empty()).map(jit_line).ok_or(Unresolved::NoSymbol)));
    }
    Ok(lines)
}

/// pprof takes a function whose two names are equal for one that nobody has demangled, and cuts all `<...>` out of it.
fn jit_line(name: String) -> Vec<SymbolLine> {
    let system_name = if name.contains('<') { format!("jit:{name}") } else { name.clone() };
    vec![SymbolLine { name: name.into(), system_name: system_name.into(), ..SymbolLine::default() }]
}
