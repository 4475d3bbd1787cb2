//! Whose processes are probed: those of the target and their children, and which of them are to be looked at anew.

use crate::model::event::ProcessEvent;
use crate::model::process::Pid;
use crate::process::Processes;
use crate::target::{Inherit, members};
use profiler_common::glob::glob_matches;
use profiler_common::limits::COMM_BYTES;
use profiler_common::target::TargetComm;
use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

/// Whom to arm.
#[derive(Clone)]
pub(super) struct Whom {
    /// Processes, by id.
    pub(super) pids: Vec<Pid>,
    /// All of them.
    pub(super) everyone: bool,
    /// Patterns of names.
    pub(super) comms: Vec<TargetComm>,
    /// Folders of control groups.
    pub(super) folders: Vec<PathBuf>,
    /// Their children.
    pub(super) inherit: Inherit,
}

/// Who is followed.
pub(super) struct Probed {
    pub(super) whom: Whom,
    followed: HashSet<Pid>,
    /// Processes to be looked at.
    changed: BTreeSet<Pid>,
}

impl Probed {
    pub(super) fn new(whom: Whom) -> Self {
        let (followed, changed) = (whom.pids.iter().copied().collect(), whom.pids.iter().copied().collect());
        Self { whom, followed, changed }
    }

    /// Takes in who is there.
    pub(super) fn begin(&mut self, processes: &Processes) {
        self.follow_groups();
        for pid in processes.pids() {
            self.follow_by_name(pid, processes);
        }
    }

    /// Something has happened to a process; true if it was followed, and has ended.
    pub(super) fn note(&mut self, event: &ProcessEvent) -> bool {
        match event {
            ProcessEvent::Fork { pid, tid, parent } if pid.0 == tid.0 => {
                if self.whom.inherit == Inherit::Children && self.followed.contains(parent) {
                    self.followed.insert(*pid);
                    self.changed.insert(*pid);
                }
            }
            ProcessEvent::Exit { pid, tid } if pid.0 == tid.0 => return self.followed.remove(pid),
            // A link of ours stays with the process when it becomes another program.
            ProcessEvent::Exec { pid, .. } | ProcessEvent::Renamed { pid, .. } | ProcessEvent::Map { pid, .. } => {
                self.changed.insert(*pid);
            }
            ProcessEvent::Fork { .. } | ProcessEvent::Exit { .. } => {}
        }
        false
    }

    /// Whether it is followed.
    pub(super) fn follows(&self, pid: Pid) -> bool {
        self.followed.contains(&pid)
    }

    /// Takes in who has come; gives those who are to be looked at.
    pub(super) fn go_on(&mut self, processes: &Processes) -> Vec<Pid> {
        let changed: Vec<Pid> = self.changed.iter().copied().collect();
        if changed.iter().any(|pid| !self.followed.contains(pid)) {
            self.follow_groups();
        }
        changed.into_iter().for_each(|pid| self.follow_by_name(pid, processes));
        self.changed.iter().filter(|pid| self.followed.contains(pid)).copied().collect()
    }

    /// Those who are to be looked at, once.
    pub(super) fn take_changed(&mut self) -> Vec<Pid> {
        std::mem::take(&mut self.changed).into_iter().filter(|pid| self.followed.contains(pid)).collect()
    }

    /// It is to be looked at once more.
    pub(super) fn again(&mut self, pid: Pid) {
        self.changed.insert(pid);
    }

    /// A process comes into a group by its parent, or by somebody who puts it there: then it was seen to become another program, or to map one.
    fn follow_groups(&mut self) {
        for pid in self.whom.folders.iter().flat_map(|folder| members(folder)) {
            if self.followed.insert(pid) {
                self.changed.insert(pid);
            }
        }
    }

    fn follow_by_name(&mut self, pid: Pid, processes: &Processes) {
        if self.whom.everyone && self.followed.insert(pid) {
            self.changed.insert(pid);
        }
        let Some(comm) = processes.comm(pid) else { return };
        let mut name = [0; COMM_BYTES];
        name.iter_mut().zip(comm.bytes().take(COMM_BYTES - 1)).for_each(|(slot, byte)| *slot = byte);
        if self.whom.comms.iter().any(|pattern| glob_matches(&pattern.pattern, &name)) && self.followed.insert(pid) {
            self.changed.insert(pid);
        }
    }
}
