//! The processes of the profiler itself, which no profile is about.

use crate::bpf::{BpfError, Capture};
use crate::model::event::ProcessEvent;
use crate::model::process::Pid;
use crate::model::stack::{RawStack, Tally};
use profiler_common::limits::OWN_PROCESSES_MAX;
use profiler_common::source::Source;
use profiler_common::tally::TallyKey;
use std::collections::{BTreeMap, HashSet};

/// The processes that are ours: this one, and the readers that it starts while it records.
pub(super) struct OwnProcesses {
    pids: Vec<u32>,
    /// A child of ours that is none: the command that is recorded.
    command: Option<Pid>,
    /// It runs its own program, and no longer ours.
    is_command: bool,
    /// Samples of ours that arrived, by their source.
    samples: BTreeMap<Source, u64>,
    /// Keys of what is counted of ours in the kernel.
    keys: HashSet<TallyKey>,
}

impl OwnProcesses {
    /// This process alone; with none, our processes are recorded like any others.
    pub(super) fn new(this: Option<u32>, command: Option<Pid>) -> Self {
        Self { pids: this.into_iter().collect(), command, is_command: this.is_none(), samples: BTreeMap::new(), keys: HashSet::new() }
    }

    pub(super) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Samples of a source that arrived and are ours.
    pub(super) fn samples(&self, source: Source) -> u64 {
        self.samples.get(&source).copied().unwrap_or(0)
    }

    /// Counts events of ours.
    pub(super) fn count(&mut self, tally: &Tally<RawStack>) {
        *self.samples.entry(tally.source).or_default() += tally.events;
        self.keys.extend(tally.counted_under);
    }

    /// Whether what is counted under a key is ours.
    pub(super) fn counts(&self, key: &TallyKey) -> bool {
        self.keys.contains(key)
    }

    pub(super) fn contains(&self, tgid: u32) -> bool {
        self.pids.contains(&tgid)
    }

    /// Whether this is the child that is held until it may become the command: what it runs till then is our code.
    pub(super) fn is_to_become_the_command(&self, tgid: u32) -> bool {
        !self.is_command && self.command == Some(Pid(tgid))
    }

    /// Something has happened to a process that may be one of ours.
    pub(super) fn note(&mut self, event: &ProcessEvent, capture: &mut Capture) -> Result<(), BpfError> {
        match event {
            ProcessEvent::Fork { pid, tid, parent }
                if pid.0 == tid.0 && self.pids.first() == Some(&parent.0) && self.command != Some(*pid) && !self.contains(pid.0) =>
            {
                self.pids.truncate(OWN_PROCESSES_MAX - 1);
                self.pids.push(pid.0);
            }
            ProcessEvent::Exit { pid, tid } if pid.0 == tid.0 && self.contains(pid.0) => self.pids.retain(|own| *own != pid.0),
            ProcessEvent::Exec { pid, .. } if self.command == Some(*pid) => {
                self.is_command = true;
                return Ok(());
            }
            _ => return Ok(()),
        }
        capture.set_own(&self.pids)
    }
}
