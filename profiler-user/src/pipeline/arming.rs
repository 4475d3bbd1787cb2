//! Whose allocators are probed: the processes of the target, and their children, in every file with an allocator's functions that they map.

use super::allocator_finder::AllocatorFinder;
use crate::bpf::{BpfError, Capture};
use crate::model::allocator::Allocator;
use crate::model::event::ProcessEvent;
use crate::model::mapping::{MappingKind, ObjectId};
use crate::model::process::Pid;
use crate::object::ObjectStore;
use crate::process::Processes;
use crate::target::Inherit;
use profiler_common::glob::glob_matches;
use profiler_common::limits::COMM_BYTES;
use profiler_common::target::TargetComm;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// How long the start of a recording waits until the files that are mapped already are looked through.
const START_MAX: Duration = Duration::from_secs(10);

/// Whom to arm.
pub(super) struct Whom {
    /// Processes, by id.
    pub(super) pids: Vec<Pid>,
    /// Patterns of names.
    pub(super) comms: Vec<TargetComm>,
    /// Their children.
    pub(super) inherit: Inherit,
}

/// The probes of a recording.
pub(super) struct Arming {
    whom: Whom,
    finder: AllocatorFinder,
    /// What files have; None while that is being found out.
    known: HashMap<ObjectId, Option<Allocator>>,
    followed: HashSet<Pid>,
    armed: HashSet<(Pid, ObjectId)>,
    /// Processes to be looked at.
    changed: BTreeSet<Pid>,
    /// Why the last process could not be armed.
    trouble: Option<BpfError>,
}

impl Arming {
    /// Arms nothing yet.
    pub(super) fn new(whom: Whom) -> io::Result<Self> {
        let followed = whom.pids.iter().copied().collect();
        let changed = whom.pids.iter().copied().collect();
        let (known, armed) = (HashMap::new(), HashSet::new());
        Ok(Self { whom, finder: AllocatorFinder::start()?, known, followed, armed, changed, trouble: None })
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
        for pid in processes.pids() {
            self.follow_by_name(pid, processes);
        }
        let until = Instant::now() + START_MAX;
        self.look(processes, objects, capture);
        while Instant::now() < until && self.finder.wait(until - Instant::now()) {
            self.take_over();
            self.look(processes, objects, capture);
        }
        match self.trouble.take() {
            Some(trouble) if self.armed.is_empty() => Err(trouble),
            _ => Ok(()),
        }
    }

    /// Processes in which probes are.
    pub(super) fn armed(&self) -> BTreeSet<Pid> {
        self.armed.iter().map(|(pid, _)| *pid).collect()
    }

    /// Something has happened to a process.
    pub(super) fn note(&mut self, event: &ProcessEvent, capture: &mut Capture) {
        match event {
            ProcessEvent::Fork { pid, tid, parent } if pid.0 == tid.0 => {
                if self.whom.inherit == Inherit::Children && self.followed.contains(parent) {
                    self.followed.insert(*pid);
                    self.changed.insert(*pid);
                }
            }
            ProcessEvent::Exit { pid, tid } if pid.0 == tid.0 && self.followed.remove(pid) => {
                self.armed.retain(|(armed, _)| armed != pid);
                capture.disarm(*pid);
            }
            // A link of ours stays with the process when it becomes another program.
            ProcessEvent::Exec { pid, .. } | ProcessEvent::Renamed { pid, .. } | ProcessEvent::Map { pid, .. } => {
                self.changed.insert(*pid);
            }
            ProcessEvent::Fork { .. } | ProcessEvent::Exit { .. } => {}
        }
    }

    /// Arms what is new; gives the processes that were looked at.
    pub(super) fn go_on(&mut self, processes: &Processes, objects: &ObjectStore, capture: &mut Capture) -> Vec<Pid> {
        self.take_over();
        let changed: Vec<Pid> = self.changed.iter().copied().collect();
        changed.into_iter().for_each(|pid| self.follow_by_name(pid, processes));
        let looked_at: Vec<Pid> = self.changed.iter().filter(|pid| self.followed.contains(pid)).copied().collect();
        self.look(processes, objects, capture);
        looked_at
    }

    fn take_over(&mut self) {
        for (object, allocator) in self.finder.found() {
            self.known.insert(object, Some(allocator));
        }
    }

    fn follow_by_name(&mut self, pid: Pid, processes: &Processes) {
        let Some(comm) = processes.comm(pid) else { return };
        let mut name = [0; COMM_BYTES];
        name.iter_mut().zip(comm.bytes().take(COMM_BYTES - 1)).for_each(|(slot, byte)| *slot = byte);
        if self.whom.comms.iter().any(|pattern| glob_matches(&pattern.pattern, &name)) && self.followed.insert(pid) {
            self.changed.insert(pid);
        }
    }

    /// Looks at the processes that have changed. One whose files are not all known stays to be looked at.
    fn look(&mut self, processes: &Processes, objects: &ObjectStore, capture: &mut Capture) {
        for pid in std::mem::take(&mut self.changed) {
            if !self.followed.contains(&pid) {
                continue;
            }
            let Some(space) = processes.space(pid) else { continue };
            let mapped: BTreeSet<ObjectId> = space.iter().filter_map(|range| object_of(&range.kind)).collect();
            for object in mapped {
                if self.armed.contains(&(pid, object)) {
                    continue;
                }
                let Some(file) = objects.file(object) else { continue };
                match self.known.get(&object) {
                    Some(Some(allocator)) => {
                        self.armed.insert((pid, object));
                        if !allocator.functions.is_empty()
                            && let Err(trouble) = capture.arm(pid, file, allocator)
                        {
                            self.armed.remove(&(pid, object));
                            self.trouble = Some(trouble);
                        }
                    }
                    Some(None) => _ = self.changed.insert(pid),
                    None => {
                        if let Ok(file) = file.as_fd().try_clone_to_owned() {
                            self.known.insert(object, None);
                            self.finder.ask(object, file);
                            self.changed.insert(pid);
                        }
                    }
                }
            }
        }
    }
}

fn object_of(kind: &MappingKind) -> Option<ObjectId> {
    if let MappingKind::Object(object) = kind { Some(*object) } else { None }
}
