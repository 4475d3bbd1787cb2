//! Whose allocators are probed: the processes of the target, and their children, in every file with an allocator's functions that they map.

use super::allocator_finder::{AllocatorFinder, Finding, start};
use super::given::Given;
use super::marked::Marked;
use super::placements::Placements;
use super::probed::{Probed, Whom};
use crate::bpf::{BpfError, Capture};
use crate::model::allocator::{Allocator, GivenAllocator, Marks, Placement};
use crate::model::answer::LoadSegment;
use crate::model::event::{ProcessEvent, TimedEvent};
use crate::model::go_heap::{GoHeapPlaces, NoGoHeap};
use crate::model::mapping::{MappedRange, MappingKind, ObjectId};
use crate::model::process::Pid;
use crate::object::ObjectStore;
use crate::process::{AddressSpace, Processes, has_lost_its_first_thread};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long the start of a recording waits until the files that are mapped already are looked through.
const START_MAX: Duration = Duration::from_secs(10);

/// Who runs, and the files that they map.
pub(super) type Known<'a> = (&'a Processes, &'a ObjectStore);

/// The probes of a recording.
pub(super) struct Arming {
    probed: Probed,
    finder: AllocatorFinder,
    /// What files have; None while that is being found out.
    known: HashMap<ObjectId, Option<Finding>>,
    /// Files that were looked at in each process.
    armed: HashSet<(Pid, ObjectId)>,
    /// Processes in which probes are, or were before all were taken away.
    with_probes: BTreeSet<Pid>,
    /// Allocators that the user has named.
    given: Given,
    /// Processes whose runtime is Go's, and the file that says so: nothing is probed there.
    go: HashMap<Pid, ObjectId>,
    /// Processes in none of whose files is an allocator's function.
    without: BTreeSet<Pid>,
    /// Processes that ended, and nothing of them was probed by then.
    missed: u64,
    /// Processes that ended, and something of them was probed.
    ended: u64,
    /// Nothing is to be armed now, but what would be is noted.
    is_paused: bool,
    /// How often something was armed.
    arms: u64,
    /// Processes that could not be armed, though they live.
    refused: BTreeSet<Pid>,
    /// Why the last one could not be.
    trouble: Option<BpfError>,
    /// Where probes are; None: nobody asks.
    placements: Option<Placements>,
    /// Files whose own marks are probed, or are of no use.
    marked: Marked,
    /// Functions were probed somewhere.
    has_functions: bool,
}

impl Arming {
    /// Arms nothing yet.
    pub(super) fn new(whom: Whom, given: &[GivenAllocator], placements: Option<Placements>) -> io::Result<Self> {
        let given = Given::new(given.to_vec());
        Ok(Self {
            probed: Probed::new(whom),
            finder: start(given.functions())?,
            known: HashMap::new(),
            armed: HashSet::new(),
            with_probes: BTreeSet::new(),
            given,
            go: HashMap::new(),
            without: BTreeSet::new(),
            missed: 0,
            ended: 0,
            arms: 0,
            refused: BTreeSet::new(),
            is_paused: false,
            trouble: None,
            placements,
            marked: Marked::default(),
            has_functions: false,
        })
    }

    /// Readable when a file was looked through.
    pub(super) fn news(&self) -> io::Result<OwnedFd> {
        self.finder.news()
    }

    /// Arms what is there. What was asked for must be possible, or the recording would be empty without a word.
    ///
    /// # Errors
    /// Nothing could be armed, and why.
    pub(super) fn begin(&mut self, processes: &Processes, objects: &ObjectStore, capture: &mut Capture) -> Result<(), BpfError> {
        self.probed.begin(processes);
        self.settle(processes, objects, capture);
        if let Some(missing) = self.given.missing().next() {
            return Err(BpfError::Custom(missing));
        }
        match self.trouble.take() {
            Some(trouble) if self.armed.is_empty() && self.go.is_empty() => Err(trouble),
            _ => Ok(()),
        }
    }

    /// Arms what is there, and waits until the files are looked through, but not for ever.
    pub(super) fn settle(&mut self, processes: &Processes, objects: &ObjectStore, capture: &mut Capture) {
        let until = Instant::now() + START_MAX;
        self.look(processes, objects, capture);
        while Instant::now() < until && self.finder.wait(until - Instant::now()) {
            self.take_over();
            self.look(processes, objects, capture);
        }
    }

    /// Processes in which probes are.
    pub(super) fn armed(&self) -> BTreeSet<Pid> {
        self.with_probes.clone()
    }

    /// How many processes have ended in which probes were.
    pub(super) fn ended(&self) -> u64 {
        self.ended
    }

    /// Something has happened to a process.
    pub(super) fn note(&mut self, TimedEvent { time, event }: &TimedEvent, capture: &mut Capture) {
        let has_ended = self.probed.note(event);
        if let ProcessEvent::Exec { pid, .. } = event
            && self.probed.follows(*pid)
        {
            capture.note_exec(*pid, *time);
        }
        if has_ended && let ProcessEvent::Exit { pid, .. } = event {
            let armed = self.armed.len();
            self.armed.retain(|(armed, _)| armed != pid);
            self.ended += u64::from(self.with_probes.remove(pid));
            let was_known = armed != self.armed.len() || self.go.remove(pid).is_some() || self.without.contains(pid);
            self.missed += u64::from(!was_known && !self.is_paused);
            if let Some(placements) = &mut self.placements {
                placements.forget(*pid);
            }
            self.marked.forget(*pid, capture);
            capture.disarm(*pid);
        }
    }

    /// Arms what is new; gives the processes that were looked at.
    pub(super) fn go_on(&mut self, processes: &Processes, objects: &ObjectStore, capture: &mut Capture) -> Vec<Pid> {
        self.take_over();
        let looked_at = self.probed.go_on(processes);
        self.look(processes, objects, capture);
        looked_at
    }

    fn take_over(&mut self) {
        for (object, finding) in self.finder.found() {
            self.known.insert(object, Some(finding));
        }
    }

    /// Looks at the processes that have changed. One whose files are not all known stays to be looked at.
    fn look(&mut self, processes: &Processes, objects: &ObjectStore, capture: &mut Capture) {
        for pid in self.probed.take_changed() {
            let Some(space) = processes.space(pid) else { continue };
            let mapped: BTreeSet<ObjectId> = space.iter().filter_map(|range| object_of(&range.kind)).collect();
            if self.are_known(pid, &mapped, objects) {
                self.arm(pid, &mapped, (space, objects), capture);
            } else {
                self.probed.again(pid);
            }
        }
    }

    /// Whether it is known what these files have; if not, it is asked for. A process is armed when all of its files are known: it may turn out to be Go's.
    fn are_known(&mut self, pid: Pid, mapped: &BTreeSet<ObjectId>, objects: &ObjectStore) -> bool {
        let mut are_known = true;
        for object in mapped.iter().filter(|object| !self.armed.contains(&(pid, **object))) {
            match self.known.get(object) {
                Some(finding) => are_known &= finding.is_some(),
                None => {
                    if let Some(file) = objects.file(*object).and_then(|file| file.try_clone_to_owned().ok()) {
                        self.known.insert(*object, None);
                        self.finder.ask(*object, file);
                        are_known = false;
                    }
                }
            }
        }
        are_known
    }

    fn arm(&mut self, pid: Pid, mapped: &BTreeSet<ObjectId>, (space, objects): (&AddressSpace, &ObjectStore), capture: &mut Capture) {
        let is_go = |object: &&ObjectId| matches!(self.known.get(object), Some(Some(Finding::Go(_))));
        if let Some(object) = mapped.iter().find(is_go) {
            self.go.insert(pid, *object);
            return;
        }
        // Only for those that were named: a process that has just begun has not mapped its libraries.
        if self.probed.whom.pids.contains(&pid) && !mapped.iter().any(|object| self.has_allocator(*object)) {
            self.without.insert(pid);
        } else {
            self.without.remove(&pid);
        }
        for object in mapped {
            let (Some(Some(Finding::Allocator(allocator))), Some(file)) = (self.known.get(object), objects.file(*object)) else { continue };
            if !self.armed.insert((pid, *object)) {
                continue;
            }
            let paths: BTreeSet<&[u8]> =
                space.iter().filter(|range| object_of(&range.kind) == Some(*object)).map(|range| &*range.mapped.path).collect();
            let path = paths.first().copied().unwrap_or_default();
            if !self.is_paused
                && let Err(trouble) = self.marked.arm((pid, *object), (file, path), (&allocator.marks, &mut self.placements), capture)
            {
                self.refuse((pid, *object), trouble);
                continue;
            }
            if self.marked.is_armed((pid, *object)) {
                self.with_probes.insert(pid);
            }
            let allocator = self.given.of_file(allocator, &paths);
            if allocator.functions.is_empty() || self.is_paused {
                continue;
            }
            if let Err(trouble) = capture.arm(pid, file, &allocator) {
                self.refuse((pid, *object), trouble);
                continue;
            }
            self.has_functions = true;
            self.with_probes.insert(pid);
            self.arms += 1;
            if let Some(placements) = &mut self.placements {
                placements.note((pid, *object), path, &allocator, capture);
            }
        }
    }

    fn refuse(&mut self, whose: (Pid, ObjectId), trouble: BpfError) {
        self.armed.remove(&whose);
        if !trouble.is_of_ended_process() {
            self.refused.insert(whose.0);
        }
        self.trouble = Some(trouble);
    }

    /// How often something was armed.
    pub(super) fn arms(&self) -> u64 {
        self.arms
    }

    /// How far apart the blocks are whose frees are seen: as asked for, where all frees are; 1 where programs tell of frees of those blocks alone that they have
    /// told of; None where there are both, and nothing can be said of the sum.
    pub(super) fn distance_of_frees(&self, asked: u64) -> Option<u64> {
        match (self.has_functions, self.marked.has_any()) {
            (true, true) => None,
            (false, true) => Some(1),
            (_, false) => Some(asked),
        }
    }

    /// Where probes were, and in how many processes.
    pub(super) fn placements(&self) -> Vec<Placement> {
        self.placements.as_ref().map(Placements::all).unwrap_or_default()
    }

    /// Everything was disarmed, and stays so.
    pub(super) fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Arms everything again that was armed, or would have been. A process that cannot be armed any more has ended.
    pub(super) fn arm_again(&mut self, (processes, objects): Known<'_>, capture: &mut Capture) {
        self.is_paused = false;
        self.marked.disarmed();
        // As if they had just been mapped: who has changed since is looked at once more, too.
        for (pid, _) in std::mem::take(&mut self.armed) {
            self.probed.again(pid);
        }
        self.look(processes, objects, capture);
    }

    fn has_allocator(&self, object: ObjectId) -> bool {
        let has_any = |allocator: &Allocator| !allocator.functions.is_empty() || matches!(allocator.marks, Marks::Usable(_));
        matches!(self.known.get(&object), Some(Some(Finding::Allocator(allocator))) if has_any(allocator))
    }

    /// What there is to say of processes: where nothing could be probed, an empty profile would be a lie.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> + '_ {
        let why = |pid: &Pid| match has_lost_its_first_thread(*pid) {
            // `uprobe_multi_link_filter` of kernel/trace/bpf_trace.c compares with the address space of the first thread, which is gone (Linux 6.18).
            true => "its first thread has ended, and the kernel traps no such process",
            false => "no allocator's functions were found (a static program without symbols?)",
        };
        let without = self.without.iter().map(move |pid| format!("process {}: {}", pid.0, why(pid)));
        without
            .chain(self.given.missing())
            .chain(self.given.unmapped())
            .chain(self.marked.notes())
            .chain(self.trouble.iter().filter(|_| !self.refused.is_empty()).map(|trouble| {
                format!("processes that could not be probed, or not in all of their files: {}; the last one: {trouble}", self.refused.len())
            }))
            .chain((self.missed > 0).then(|| format!("processes that ended before they could be probed: {}", self.missed)))
    }

    /// The processes whose runtime keeps a profile itself: whose, where it is found, or why not.
    pub(super) fn go_processes<'a>(
        &'a self,
        processes: &'a Processes,
    ) -> impl Iterator<Item = (Pid, Result<(u64, GoHeapPlaces), NoGoHeap>)> + 'a {
        self.go.iter().filter_map(|(pid, object)| {
            let Some(Some(Finding::Go(found))) = self.known.get(object) else { return None };
            let (places, segments) = match found {
                Ok(found) => found,
                Err(why) => return Some((*pid, Err(why.clone()))),
            };
            let range = processes.space(*pid)?.iter().find(|range| object_of(&range.kind) == Some(*object))?;
            Some((*pid, Ok((bias(&range.mapped, segments)?, *places))))
        })
    }
}

/// What is added to the file's own addresses: by the segment of code that the mapping is of.
pub(super) fn bias(mapped: &MappedRange, segments: &[LoadSegment]) -> Option<u64> {
    let holds = |segment: &&LoadSegment| {
        segment.executable && mapped.file_offset.wrapping_add(0xfff).wrapping_sub(segment.file_offset & !0xfff) < segment.file_size + 0x2000
    };
    let segment = segments.iter().find(holds)?;
    let address = segment.virtual_address.wrapping_sub(segment.file_offset).wrapping_add(mapped.file_offset);
    Some(mapped.start.wrapping_sub(address))
}

pub(super) fn object_of(kind: &MappingKind) -> Option<ObjectId> {
    if let MappingKind::Object(object) = kind { Some(*object) } else { None }
}
