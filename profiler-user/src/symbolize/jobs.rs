//! What a window uses, and what must be asked to name it: each address of each file once.

use super::native::{Answer, Files, Job, LinesOrWhy, NativeReader, Subject, ask_all};
use crate::model::address::FileAddress;
use crate::model::mapping::{MappingId, MappingKind, ObjectId};
use crate::model::process::{ProcessId, ProcessKey};
use crate::model::profile::Unresolved;
use crate::model::stack::Frame;
use crate::model::window::{Counts, Dictionary, SampleKey, Window};
use profiler_common::tally::TallyCounts;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

/// The mark of the kernel behind the name of a file that was removed.
const DELETED: &str = " (deleted)";

/// A mapping's name without the kernel's mark that its file was removed.
pub(super) fn plain_name(name: &str) -> &str {
    name.strip_suffix(DELETED).unwrap_or(name)
}

/// What was measured of a key: by the shape of its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Measured {
    /// Events and their weight.
    Events(Counts),
    /// Blocks that were added and removed.
    Blocks(TallyCounts),
}

/// What the samples of a window use, in a fixed order.
pub(super) struct Used {
    /// The samples, by process, thread, stack and size class.
    pub(super) samples: Vec<(SampleKey, Measured)>,
    /// Processes with samples.
    pub(super) processes: Vec<ProcessId>,
    /// The main binaries of the processes, then the other mappings, as they are met.
    pub(super) mappings: Vec<MappingId>,
    /// Distinct frames, as they are met.
    frames: Vec<Frame>,
}

impl Used {
    pub(super) fn of(window: &Window) -> Self {
        let events = window.tallies.iter().map(|(key, counts)| (*key, Measured::Events(*counts)));
        let mut samples: Vec<_> = events.chain(window.blocks.iter().map(|(key, counts)| (*key, Measured::Blocks(*counts)))).collect();
        samples.sort_by_key(|(key, _)| (key.process, key.thread, key.stack, key.class));
        let mut processes: Vec<ProcessId> = samples.iter().map(|(key, _)| key.process).collect();
        processes.dedup();
        let (mut stacks, mut frames, mut seen) = (HashSet::new(), Vec::new(), HashSet::new());
        let partner = |key: &SampleKey| window.kind.is_of_waits().then(|| window.dictionary.partners.get(key.partner())).flatten();
        for stack in samples.iter().flat_map(|(key, _)| [Some(key.stack), partner(key).map(|partner| partner.stack)]).flatten() {
            if stacks.insert(stack) {
                frames.extend(window.dictionary.stacks.frames(stack).into_iter().filter(|frame| seen.insert(*frame)));
            }
        }
        let mains = processes.iter().filter_map(|process| window.dictionary.processes[process.0 as usize].main);
        let mut seen = HashSet::new();
        let mappings = mains.chain(frames.iter().map(|frame| frame.mapping)).filter(|mapping| seen.insert(*mapping)).collect();
        Self { samples, processes, mappings, frames }
    }

    /// Whether a frame is the kernel's.
    pub(super) fn has_kernel(&self, dictionary: &Dictionary) -> bool {
        let is_kernel =
            |mapping: &MappingId| matches!(dictionary.mappings.get(*mapping).kind, MappingKind::Kernel | MappingKind::KernelModule);
        self.mappings.iter().any(is_kernel)
    }
}

/// What must be asked of readers. Main binaries are asked for their build id, even without a sample in them.
pub(super) fn questions(used: &[Used], dictionary: &Dictionary) -> Questions {
    let mut at: HashMap<Subject, usize> = HashMap::new();
    let mut jobs: Vec<(Job, BTreeSet<FileAddress>)> = Vec::new();
    let mut job_of = |mapping: MappingId| {
        let mapping = dictionary.mappings.get(mapping);
        let subject = subject_of(&mapping.kind)?;
        let next = at.len();
        Some(*at.entry(subject.clone()).or_insert_with(|| {
            let path = PathBuf::from(plain_name(&mapping.name));
            jobs.push((Job { subject, path, addresses: Vec::new() }, BTreeSet::new()));
            next
        }))
    };
    let mappings = used.iter().flat_map(|used| &used.mappings);
    let of_mapping: HashMap<MappingId, usize> = mappings.filter_map(|id| Some((*id, job_of(*id)?))).collect();
    for frame in used.iter().flat_map(|used| &used.frames) {
        if let Some(at) = of_mapping.get(&frame.mapping) {
            jobs[*at].1.insert(frame.address);
        }
    }
    let fill = |(job, addresses): (Job, BTreeSet<FileAddress>)| Job { addresses: addresses.into_iter().collect(), ..job };
    Questions { jobs: jobs.into_iter().map(fill).collect() }
}

fn subject_of(kind: &MappingKind) -> Option<Subject> {
    match kind {
        MappingKind::Object(id) => Some(Subject::Object(*id)),
        MappingKind::Anonymous(process) => Some(Subject::PerfMap(*process)),
        MappingKind::Vdso => Some(Subject::Vdso),
        MappingKind::Unopened(_) | MappingKind::Kernel | MappingKind::KernelModule | MappingKind::Lost => None,
    }
}

/// What is asked of readers.
pub(super) struct Questions {
    pub(super) jobs: Vec<Job>,
}

impl Questions {
    pub(super) fn asks_vdso(&self) -> bool {
        self.jobs.iter().any(|job| job.subject == Subject::Vdso)
    }

    pub(super) fn ask(self, readers: &mut [Box<dyn NativeReader + '_>], files: &Files<'_>) -> Answers {
        let answers = ask_all(readers, files, &self.jobs);
        let troubles: BTreeSet<String> = answers.iter().filter_map(|answer| answer.trouble.clone()).collect();
        let by_subject = self.jobs.into_iter().zip(answers).map(|(job, answer)| (job.subject, (job.addresses, answer))).collect();
        Answers { by_subject, troubles: troubles.into_iter().collect() }
    }
}

/// What the readers have answered.
pub(super) struct Answers {
    by_subject: HashMap<Subject, (Vec<FileAddress>, Answer)>,
    /// What kept readers from working, whatever the file.
    pub(super) troubles: Vec<String>,
}

impl Answers {
    fn lines(&self, subject: &Subject, address: FileAddress, unknown: Unresolved) -> Result<&LinesOrWhy, Unresolved> {
        let (addresses, answer) = self.by_subject.get(subject).ok_or(unknown)?;
        let at = addresses.binary_search(&address).map_err(|_| unknown)?;
        answer.lines.get(at).ok_or(unknown)
    }

    pub(super) fn of_object(&self, id: ObjectId, address: FileAddress) -> Result<&LinesOrWhy, Unresolved> {
        self.lines(&Subject::Object(id), address, Unresolved::FileGone)
    }

    pub(super) fn of_vdso(&self, address: FileAddress) -> Result<&LinesOrWhy, Unresolved> {
        self.lines(&Subject::Vdso, address, Unresolved::NoSymbol)
    }

    pub(super) fn of_jit(&self, process: ProcessKey, address: FileAddress) -> Result<&LinesOrWhy, Unresolved> {
        self.lines(&Subject::PerfMap(process), address, Unresolved::NoPerfMap)
    }

    pub(super) fn build_id(&self, kind: &MappingKind) -> Option<&[u8]> {
        self.by_subject.get(&subject_of(kind)?)?.1.build_id.as_deref()
    }
}
