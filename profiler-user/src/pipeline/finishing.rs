//! Stacks that met no table: they wait here until their file is parsed, and are finished then.

use super::memory::Memory;
use super::table_builder::{Built, TableBuilder, Wanted};
use crate::bpf::{BpfError, Capture};
use crate::model::event::{MonotonicNs, ProcessEvent, TimedEvent};
use crate::model::process::Pid;
use crate::model::stack::{RawAddresses, RawStack, Tally, UserStack};
use crate::object::{ObjectStore, OpenedFile, vdso_image};
use crate::process::{Met, Processes};
use crate::unwind::{Costs, Finished, TableOf, Unwinder};
use profiler_common::ended::Ended;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Words of stacks that wait, all together: 8 MiB in any case, and as much again if memory is left.
const WAITING_WORDS: usize = 1 << 20;
const WAITING_WORDS_MAX: usize = 2 * WAITING_WORDS;
/// How long the end of a recording waits for files that are being parsed.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// A sample with what it needs of its own time.
pub(super) type Sample = (Met, Tally<RawStack>);

/// The tables of a recording, and the stacks that wait for some.
pub(super) struct Finishing {
    unwinder: Unwinder,
    builder: TableBuilder,
    memory: Arc<Memory>,
    waiting: HashMap<TableOf, Vec<Sample>>,
    waiting_words: usize,
    vdso: Option<OpenedFile>,
}

impl Finishing {
    /// No tables yet.
    pub(super) fn start(unwind_memory: u64, memory: &Arc<Memory>) -> io::Result<Self> {
        Ok(Self {
            unwinder: Unwinder::new(unwind_memory),
            builder: TableBuilder::start(Arc::clone(memory))?,
            memory: Arc::clone(memory),
            waiting: HashMap::new(),
            waiting_words: 0,
            vdso: None,
        })
    }

    /// Readable when a file was parsed.
    pub(super) fn news(&self) -> io::Result<OwnedFd> {
        self.builder.news()
    }

    /// What the tables cost.
    pub(super) fn costs(&self) -> Costs {
        self.unwinder.costs()
    }

    /// Something has happened to a process, and its list may say nothing any more.
    pub(super) fn note(&mut self, TimedEvent { time, event }: &TimedEvent) {
        match event {
            ProcessEvent::Exec { pid, .. } => self.unwinder.forget_image(*pid, *time),
            ProcessEvent::Exit { pid, tid } if pid.0 == tid.0 => self.unwinder.forget(*pid),
            ProcessEvent::Map { .. } | ProcessEvent::Exit { .. } | ProcessEvent::Fork { .. } | ProcessEvent::Renamed { .. } => {}
        }
    }

    /// Nothing more comes of a process. What waited for a table may have asked for a list after its end.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.unwinder.forget(pid);
    }

    /// The mappings of a process are not what they were. (The kernel tells of an `mprotect` that changes nothing for us as of a new mapping.)
    pub(super) fn note_change(&mut self, pid: Pid) {
        self.unwinder.note_change(pid);
    }

    /// Other code has taken the place of code in a process.
    pub(super) fn note_replaced(&mut self, pid: Pid, time: MonotonicNs) {
        self.unwinder.note_replaced(pid, time);
    }

    /// A stack that was walked in the kernel: cut behind its leaf if what it was walked by did not hold any more.
    pub(super) fn check(&self, sample: Sample) -> Sample {
        let of = &sample.1.of;
        if !self.unwinder.is_stale(Pid(of.process.tgid), of.addresses.list, of.time) {
            return sample;
        }
        let leaf = match &of.addresses.user {
            UserStack::Walked { addresses, .. } | UserStack::Unfinished { addresses, .. } => addresses.iter().take(1).copied().collect(),
        };
        finished(sample, UserStack::Walked { addresses: leaf, ended: Ended::NoTable })
    }

    /// Finishes an unfinished stack, or lets it wait. What is finished comes back.
    pub(super) fn finish(&mut self, sample: Sample, objects: &ObjectStore, capture: &mut Capture) -> Option<Sample> {
        self.unwinder.want_list(sample.1.of.process);
        loop {
            match self.unwinder.finish(&sample.1.of.addresses.user, &sample.0.space, capture.arena()) {
                Finished::Walked(user) => return Some(finished(sample, user)),
                Finished::Wants(table) => self.ask(table, objects, capture)?,
                Finished::Waits(table) => return self.wait(table, sample),
            }
        }
    }

    /// Asks for a table.
    fn ask(&mut self, table: TableOf, objects: &ObjectStore, capture: &mut Capture) -> Option<()> {
        self.unwinder.ask(table);
        let file = match table {
            TableOf::Object(id) => objects.file(id).and_then(|file| Some((id, file.try_clone_to_owned().ok()?))),
            TableOf::Vdso => {
                if self.vdso.is_none() {
                    self.vdso = vdso_image().ok();
                }
                self.vdso.as_ref().and_then(|file| Some((file.id, file.descriptor.as_fd().try_clone_to_owned().ok()?)))
            }
        };
        match file {
            Some((object, file)) => self.builder.ask(Wanted { table, object, file }),
            // Closed since, for want of descriptors: no table then.
            None => self.unwinder.provide(table, None, capture).ok()?,
        }
        Some(())
    }

    /// Gets tables and list of a process ready before it is walked: each of its calls is, from the first one on.
    pub(super) fn prepare(&mut self, pid: Pid, processes: &Processes, objects: &ObjectStore, capture: &mut Capture) {
        let Some(space) = processes.space(pid) else { return };
        for table in self.unwinder.unasked(space) {
            // Without it, stacks through this file are finished later.
            let _ = self.ask(table, objects, capture);
        }
        self.unwinder.want_list_early(pid);
    }

    /// Waits for what is being parsed, but not for ever.
    pub(super) fn settle(&mut self, objects: &ObjectStore, processes: &Processes, capture: &mut Capture) -> Result<(), BpfError> {
        self.unwinder.bound_growth(self.memory.left(), capture.arena());
        let deadline = Instant::now() + LAST_WAIT;
        while let Some(built) = self.builder.wait(deadline.saturating_duration_since(Instant::now())) {
            // Nothing waits for it yet.
            self.take(built, objects, capture)?;
        }
        self.unwinder.write_lists(processes, capture)
    }

    /// Whether half of the room is used up that there is in any case for stacks which wait.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiting_words > WAITING_WORDS / 2
    }

    fn wait(&mut self, table: TableOf, sample: Sample) -> Option<Sample> {
        let words = words(&sample);
        let most = if self.memory.left() > 0 { WAITING_WORDS_MAX } else { WAITING_WORDS };
        if self.waiting_words + words > most {
            return Some(given_up(sample));
        }
        self.waiting_words += words;
        self.waiting.entry(table).or_default().push(sample);
        None
    }

    /// Takes over what was parsed and finishes what waited for it; then gives the kernel side the lists that are due.
    pub(super) fn go_on(&mut self, objects: &ObjectStore, processes: &Processes, capture: &mut Capture) -> Result<Vec<Sample>, BpfError> {
        let mut done = Vec::new();
        self.unwinder.bound_growth(self.memory.left(), capture.arena());
        for built in self.builder.built() {
            done.extend(self.take(built, objects, capture)?);
        }
        self.unwinder.write_lists(processes, capture)?;
        Ok(done)
    }

    fn take(&mut self, (table, parsed): Built, objects: &ObjectStore, capture: &mut Capture) -> Result<Vec<Sample>, BpfError> {
        self.unwinder.provide(table, parsed, capture)?;
        let waited = self.waiting.remove(&table).unwrap_or_default();
        self.waiting_words -= waited.iter().map(words).sum::<usize>();
        Ok(waited.into_iter().filter_map(|sample| self.finish(sample, objects, capture)).collect())
    }

    /// The end: waits for what is being parsed, but not for ever, and gives back everything that waited.
    pub(super) fn end(&mut self, objects: &ObjectStore, capture: &mut Capture) -> Result<Vec<Sample>, BpfError> {
        let (mut done, deadline) = (Vec::new(), Instant::now() + LAST_WAIT);
        while !self.waiting.is_empty() {
            let Some(built) = self.builder.wait(deadline.saturating_duration_since(Instant::now())) else { break };
            done.extend(self.take(built, objects, capture)?);
        }
        done.extend(self.waiting.drain().flat_map(|(_, samples)| samples).map(given_up));
        self.waiting_words = 0;
        Ok(done)
    }
}

fn words((_, tally): &Sample) -> usize {
    match &tally.of.addresses.user {
        UserStack::Unfinished { words, beyond, .. } => {
            words.len() + beyond.iter().flat_map(|beyond| &beyond.stretches).map(|stretch| stretch.words.len()).sum::<usize>()
        }
        UserStack::Walked { .. } => 0,
    }
}

/// The sample with another user part. Its hash named the unfinished one.
fn finished((met, mut tally): Sample, user: UserStack) -> Sample {
    let kernel = tally.of.addresses.kernel.clone();
    tally.of.addresses = Arc::new(RawAddresses { hash: 0, kernel, list: 0, user });
    (met, tally)
}

/// The stack as far as the kernel side came.
fn given_up(sample: Sample) -> Sample {
    let addresses = match &sample.1.of.addresses.user {
        UserStack::Unfinished { addresses, .. } | UserStack::Walked { addresses, .. } => addresses.clone(),
    };
    finished(sample, UserStack::Walked { addresses, ended: Ended::NoTable })
}
