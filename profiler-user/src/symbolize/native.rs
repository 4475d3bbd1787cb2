//! Files, the vdso and perf maps, each asked by a reader: several readers side by side, one file at a time each.

use super::sources::{Found, Names, Sources, vdso_object};
use crate::model::address::FileAddress;
use crate::model::answer::{ObjectFacts, SymbolLine};
use crate::model::mapping::{MappingId, ObjectId};
use crate::model::profile::Unresolved;
use crate::object::{DebugFolders, Opened};
use crate::reader::{Reader, SymbolizeRequest};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Addresses of one request.
const CHUNK: usize = 4096;

/// What is asked.
pub(super) enum Source<'a> {
    /// A file of the target; not open any more if it had to make room.
    File { id: ObjectId, file: Option<BorrowedFd<'a>> },
    /// A perf map, if the process has one.
    PerfMap(Option<(ObjectId, BorrowedFd<'a>)>),
    /// The vdso.
    Vdso,
}

/// The frames of one file.
pub(super) struct Job<'a> {
    pub(super) source: Source<'a>,
    /// The path of the file, for the debug file that it may name.
    pub(super) path: PathBuf,
    /// Indexes of distinct frames.
    pub(super) frames: Vec<u32>,
    /// Their addresses.
    pub(super) addresses: Vec<FileAddress>,
    /// The mappings of the file.
    pub(super) mappings: Vec<MappingId>,
}

/// What came of a job.
struct Done {
    frames: Vec<u32>,
    names: Vec<Names>,
    mappings: Vec<MappingId>,
    build_id: Option<Arc<str>>,
}

/// Runs all jobs.
pub(super) fn run(jobs: Vec<Job<'_>>, sources: &mut Sources<'_>, found: &mut Found) {
    let vdso = vdso_object(sources);
    let readers = sources.readers.len().min(jobs.len());
    let (queue, done) = (Mutex::new(jobs.into_iter()), Mutex::new(Vec::new()));
    let debug = &sources.debug;
    std::thread::scope(|scope| {
        for reader in sources.readers.iter_mut().take(readers) {
            let (queue, done, vdso) = (&queue, &done, vdso.as_ref());
            scope.spawn(move || {
                loop {
                    // Not one statement: the queue must be free for others while a job runs.
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(job) = next else { break };
                    let result = work(job, reader, debug, vdso.map(|(id, file)| (*id, file.as_fd())));
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                }
            });
        }
    });
    for result in done.into_inner().unwrap_or_else(PoisonError::into_inner) {
        for (index, names) in result.frames.into_iter().zip(result.names) {
            found.names[index as usize] = Some(names);
        }
        if let Some(build_id) = result.build_id {
            found.build_ids.extend(result.mappings.into_iter().map(|mapping| (mapping, Arc::clone(&build_id))));
        }
    }
}

fn work(job: Job<'_>, reader: &mut Reader, debug: &DebugFolders, vdso: Option<(ObjectId, BorrowedFd<'_>)>) -> Done {
    let count = job.addresses.len();
    let (names, build_id) = match job.source {
        Source::File { id, file: Some(file) } => name_file(reader, debug, (id, file), &job),
        Source::File { file: None, .. } => (vec![Err(Unresolved::FileGone); count], None),
        Source::Vdso => match vdso {
            Some(image) => name_file(reader, debug, image, &job),
            None => (vec![Err(Unresolved::NoSymbol); count], None),
        },
        Source::PerfMap(Some((id, file))) => (name_jit(reader, (id, file), &job.addresses), None),
        Source::PerfMap(None) => (vec![Err(Unresolved::NoPerfMap); count], None),
    };
    Done { frames: job.frames, names, mappings: job.mappings, build_id }
}

fn name_jit(reader: &mut Reader, (id, file): (ObjectId, BorrowedFd<'_>), addresses: &[FileAddress]) -> Vec<Names> {
    let addresses: Vec<u64> = addresses.iter().map(|address| address.0).collect();
    match reader.perf_map(id, file, &addresses) {
        Ok(names) => names.into_iter().map(|name| name.map(jit_line).ok_or(Unresolved::NoPerfMap)).collect(),
        Err(_) => vec![Err(Unresolved::FileBad); addresses.len()],
    }
}

fn jit_line(name: String) -> Vec<SymbolLine> {
    let name: Arc<str> = name.into();
    vec![SymbolLine { system_name: Arc::clone(&name), name, ..SymbolLine::default() }]
}

/// Names addresses of a file, and gives its build id.
fn name_file(
    reader: &mut Reader,
    debug: &DebugFolders,
    (id, file): (ObjectId, BorrowedFd<'_>),
    job: &Job<'_>,
) -> (Vec<Names>, Option<Arc<str>>) {
    let count = job.addresses.len();
    let Ok(facts) = reader.identify(id, file) else { return (vec![Err(Unresolved::FileBad); count], None) };
    let separate = if facts.has_debug_info { None } else { separate(reader, debug, &facts, &job.path) };
    let alternative = separate.as_ref().and_then(|(_, alternative)| alternative.as_ref());
    let mut names = Vec::with_capacity(count);
    for offsets in job.addresses.chunks(CHUNK) {
        let request = SymbolizeRequest {
            object: id,
            file,
            debug: separate.as_ref().map(|(opened, _)| opened.file.as_fd()),
            alt: alternative.map(|opened| opened.file.as_fd()),
            offsets,
        };
        match reader.symbolize(request) {
            Ok(answers) => names.extend(answers),
            Err(_) => names.extend(std::iter::repeat_n(Err(Unresolved::FileBad), offsets.len())),
        }
    }
    names.resize(count, Err(Unresolved::FileBad));
    (names, facts.build_id.as_deref().map(hex))
}

/// The separate debug file of an object, and the file that this one shares debug information with. A file that is found must have the object's own
/// build id: its place and its name are only where to look.
fn separate(reader: &mut Reader, debug: &DebugFolders, facts: &ObjectFacts, path: &Path) -> Option<(Opened, Option<Opened>)> {
    let build_id = facts.build_id.as_ref()?;
    let by_link = || facts.debug_link.as_ref().and_then(|(name, _)| debug.by_link(path, name));
    let opened = debug.by_build_id(build_id).or_else(by_link)?;
    let its_facts = reader.identify(opened.id, opened.file.as_fd()).ok()?;
    if its_facts.build_id.as_ref() != Some(build_id) {
        return None;
    }
    let alternative = its_facts.alt_link.as_ref().and_then(|(path, _)| debug.alternative(path));
    Some((opened, alternative))
}

fn hex(bytes: &[u8]) -> Arc<str> {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
