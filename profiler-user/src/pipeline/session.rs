//! A recording while it runs: every drain goes through here, from raw records to counts.

use super::arming::Arming;
use super::beside::Beside;
use super::calls::{Calls, Wanted};
use super::closing::Closing;
use super::custom_arming::CustomArming;
use super::descriptors::Execs;
use super::finishing::{Finishing, Sample};
use super::followed::Followed;
use super::go_waits::GoWaits;
use super::memory::Memory;
use super::own_processes::OwnProcesses;
use super::wall;
use crate::aggregate::Aggregator;
use crate::bpf::{BpfError, Capture, Drained, Last};
use crate::config::{Config, Target, Traced};
use crate::labels;
use crate::model::event::{ProcessEvent, TimedEvent};
use crate::model::label::Label;
use crate::model::mapping::{MappedRange, MappingKind};
use crate::model::process::{Pid, ProcessKey};
use crate::model::stack::{RawStack, Tally, UserStack};
use crate::model::window::Window;
use crate::object::ObjectStore;
use crate::process::{Context, Describe, Ends, KernelLayout, Processes, Tables, Threads};
use crate::unwind::Costs;
use profiler_common::source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Answers what `process/` must ask of the rooms around it.
pub(super) struct World<'a> {
    pub(super) objects: &'a mut ObjectStore,
}

impl Describe for World<'_> {
    fn mapping(&mut self, pid: Pid, range: &MappedRange) -> MappingKind {
        if range.file.inode != 0 {
            return self.objects.resolve(pid, range);
        }
        if range.path == b"[vdso]" {
            return MappingKind::Vdso;
        }
        // Whose it is, is said by the samples that meet it.
        MappingKind::Anonymous(ProcessKey { start_boot_ns: 0, tgid: pid.0, exec_generation: 0 })
    }

    fn labels(&mut self, pid: Pid) -> Option<Arc<[Label]>> {
        labels::of_process(pid)
    }
}

/// What a session is made of, beside the open capture.
pub(super) struct Parts {
    pub(super) finishing: Option<Finishing>,
    /// Where calls are probed.
    pub(super) arming: Option<Arming>,
    /// Where custom profiles are recorded.
    pub(super) custom: Option<CustomArming>,
    /// Who records waits of goroutines.
    pub(super) go_waits: Option<GoWaits>,
    pub(super) own: OwnProcesses,
    pub(super) followed: Followed,
    pub(super) memory: Arc<Memory>,
}

/// What is left when the clock has stopped.
pub(super) struct Ended {
    /// One for each event of the run.
    pub(super) windows: Vec<Window>,
    pub(super) objects: ObjectStore,
    pub(super) capture: Capture,
    pub(super) unwinding: Costs,
    pub(super) arming: Option<Arming>,
}

/// A recording while it runs.
pub(super) struct Session {
    pub(super) capture: Capture,
    pub(super) objects: ObjectStore,
    pub(super) processes: Processes,
    pub(super) tables: Tables,
    /// The counts, by source.
    pub(super) aggregators: BTreeMap<Source, Aggregator>,
    pub(super) kernel: KernelLayout,
    pub(super) threads: Threads,
    /// What the window was given, and what it may hold now.
    window_bytes: [u64; 2],
    memory: Arc<Memory>,
    /// Mappings that have been looked at for a perf map.
    perf_maps_seen: usize,
    /// None when stacks are walked by frame pointers alone.
    pub(super) finishing: Option<Finishing>,
    pub(super) arming: Option<Arming>,
    pub(super) custom: Option<CustomArming>,
    pub(super) go_waits: Option<GoWaits>,
    calls: Option<Calls>,
    /// When views of memory were begun by the budget.
    pub(super) views: BTreeMap<Source, (SystemTime, Instant)>,
    /// Why some could not be begun.
    pub(super) troubles: Vec<String>,
    execs: Execs,
    pub(super) own: OwnProcesses,
    followed: Followed,
    ends: Ends,
    started: Instant,
    start: SystemTime,
    first_sample: Option<Instant>,
    /// What is counted beside what the kernel has.
    pub(super) beside: Beside,
}

impl Session {
    /// Takes over an open capture, starts its clock, and reads what runs already.
    pub(super) fn start(mut capture: Capture, parts: Parts, config: &Config, kernel: KernelLayout) -> Result<Self, BpfError> {
        let (started, start) = (Instant::now(), SystemTime::now());
        // Where each event matters, tables come first: a stack that meets none is finished here, but not as many as there may be.
        let is_prepared = parts.arming.is_some() || parts.custom.is_some() || !config.traced().is_empty();
        if !is_prepared {
            capture.start()?;
        }
        let mut session = Self {
            capture,
            objects: ObjectStore::new(),
            finishing: parts.finishing,
            arming: parts.arming,
            custom: parts.custom,
            go_waits: parts.go_waits,
            calls: None,
            views: BTreeMap::new(),
            troubles: Vec::new(),
            execs: Execs::new(config.traced().contains(&Traced::Descriptors)),
            own: parts.own,
            followed: parts.followed,
            ends: Ends::default(),
            processes: Processes::default(),
            tables: Tables::default(),
            aggregators: config.sources().into_iter().map(|source| (source, Aggregator::default())).collect(),
            kernel,
            threads: if config.per_thread { Threads::Apart } else { Threads::Together },
            window_bytes: [config.bounds.window_bytes; 2],
            memory: parts.memory,
            perf_maps_seen: 0,
            started,
            start,
            first_sample: None,
            beside: Beside::default(),
        };
        session.processes.scan(&mut World { objects: &mut session.objects });
        if is_prepared {
            session.begin_prepared(config)?;
        }
        Ok(session)
    }

    /// Arms what runs already where calls are probed, and has the tables of the targets ready before the first event is counted.
    fn begin_prepared(&mut self, config: &Config) -> Result<(), BpfError> {
        let mut targets: BTreeSet<Pid> =
            config.targets.iter().filter_map(|target| if let Target::Pid(pid) = target { Some(Pid(*pid)) } else { None }).collect();
        if let Some(arming) = &mut self.arming {
            arming.begin(&self.processes, &self.objects, &mut self.capture)?;
            targets.extend(arming.armed());
        }
        if let Some(custom) = &mut self.custom {
            targets.extend(custom.begin(&self.processes, &self.objects, &mut self.capture)?);
        }
        if let Some(go_waits) = &mut self.go_waits {
            go_waits.begin(&self.processes, &self.objects);
        }
        if let Some(finishing) = &mut self.finishing {
            for pid in targets {
                finishing.prepare(pid, &self.processes, &self.objects, &mut self.capture);
            }
            finishing.settle(&self.objects, &self.processes, &mut self.capture)?;
        }
        self.calls = self.arming.is_some().then(|| Calls::begin(config));
        self.capture.start()?;
        (self.started, self.start) = (Instant::now(), SystemTime::now());
        self.take_existing();
        Ok(())
    }

    /// Looks at what is to be looked at while calls are counted.
    ///
    /// # Errors
    /// The maps of the kernel side cannot be read or written.
    pub(super) fn look(&mut self) -> Result<(), BpfError> {
        let (Some(calls), Some(arming)) = (&mut self.calls, &mut self.arming) else { return Ok(()) };
        match calls.look(arming, (&self.processes, &self.objects), &mut self.capture)? {
            Wanted::Nothing => {}
            Wanted::Views => self.begin_views(),
        }
        Ok(())
    }

    /// What the user is to be told since the last time.
    pub(super) fn news(&mut self) -> Vec<String> {
        let of_custom = self.custom.as_mut().map(CustomArming::news).unwrap_or_default();
        self.calls.as_mut().map(Calls::news).unwrap_or_default().into_iter().chain(of_custom).chain(self.troubles.drain(..)).collect()
    }

    /// Takes over what has arrived and counts it.
    ///
    /// # Errors
    /// The maps of the kernel side cannot be written.
    pub(super) fn drain(&mut self, last: Last) -> Result<(), BpfError> {
        self.window_bytes[1] = self.memory.window(self.window_bytes[0]);
        let batch = self.capture.drain(last);
        self.capture.tidy()?;
        self.processes.arrived(&batch.arrived, &mut World { objects: &mut self.objects });
        for drained in batch.ordered {
            match drained {
                Drained::Event(event) => {
                    self.execs.note(&event);
                    self.own.note(&event.event, &mut self.capture)?;
                    if let Some(finishing) = &mut self.finishing {
                        finishing.note(&event);
                    }
                    let told = self.ends.of_processes(&event);
                    self.followed.note(&told.event);
                    if let Some(arming) = &mut self.arming {
                        arming.note(&told, &mut self.capture);
                        self.tables.note_end(&told.event);
                    }
                    if let Some(custom) = &mut self.custom {
                        custom.note(&told, &mut self.capture);
                    }
                    if let Some(go_waits) = &mut self.go_waits {
                        go_waits.note(&told.event);
                    }
                    self.apply(event);
                }
                Drained::Stack(tally) => self.take(tally),
            }
        }
        if let Some(finishing) = &mut self.finishing {
            let mut done = finishing.go_on(&self.objects, &self.processes, &mut self.capture)?;
            if last == Last::Yes {
                done.extend(finishing.end(&self.objects, &mut self.capture)?);
            }
            done.into_iter().for_each(|sample| self.count(&sample));
        }
        let (processes, objects, capture) = (&self.processes, &self.objects, &mut self.capture);
        let mut arm = || {
            let Some(arming) = &mut self.arming else { return (Vec::new(), false) };
            let before = arming.arms();
            (arming.go_on(processes, objects, capture), arming.arms() != before)
        };
        let mut looked_at = match &mut self.calls {
            Some(calls) => calls.pay_if(arm),
            None => arm().0,
        };
        looked_at.extend(self.custom.as_mut().map_or(Vec::new(), |custom| custom.go_on(processes, objects, capture)));
        if let Some(go_waits) = &mut self.go_waits {
            go_waits.go_on(processes, objects);
        }
        if let Some(finishing) = &mut self.finishing {
            looked_at.into_iter().for_each(|pid| finishing.prepare(pid, processes, objects, capture));
        }
        self.keep_perf_maps();
        Ok(())
    }

    fn apply(&mut self, event: TimedEvent) {
        let mapped = if let ProcessEvent::Map { pid, .. } = &event.event { Some(*pid) } else { None };
        let counts = |processes: &Processes| mapped.and_then(|pid| processes.space(pid)).map(|space| (space.changes(), space.replaced()));
        let before = counts(&self.processes);
        self.processes.apply(event.event, &mut World { objects: &mut self.objects });
        for pid in self.processes.take_forgotten() {
            self.finishing.iter_mut().for_each(|finishing| finishing.forget(pid));
        }
        let after = counts(&self.processes);
        let (Some(pid), Some(finishing)) = (mapped, &mut self.finishing) else { return };
        if before != after {
            finishing.note_change(pid);
        }
        if before.is_some() && before.map(|(_, replaced)| replaced) != after.map(|(_, replaced)| replaced) {
            finishing.note_replaced(pid, event.time);
        }
    }

    fn take(&mut self, tally: Tally<RawStack>) {
        let tgid = tally.of.process.tgid;
        if self.own.contains(tgid) || self.own.is_to_become_the_command(tgid) {
            // Before the kernel side knew that this one is ours.
            self.own.count(&tally);
            return;
        }
        let is_full = self.is_full();
        let Some(aggregator) = self.aggregators.get_mut(&tally.source) else { return };
        if is_full {
            return aggregator.refuse(tally.events);
        }
        let mut world = World { objects: &mut self.objects };
        let mut context = Context { kernel: self.kernel, threads: self.threads, describe: &mut world };
        let met = self.tables.meet(&tally.of, &mut self.processes, &mut context);
        let sample = match (&tally.of.addresses.user, &mut self.finishing) {
            (UserStack::Unfinished { .. }, Some(finishing)) => finishing.finish((met, tally), &self.objects, &mut self.capture),
            (UserStack::Walked { .. }, Some(finishing)) => Some(finishing.check((met, tally))),
            (_, None) => Some((met, tally)),
        };
        if let Some(sample) = sample {
            self.count(&sample);
        }
    }

    /// Whether the window holds as much as it may.
    pub(super) fn is_full(&self) -> bool {
        let counts_bytes: u64 = self.aggregators.values().map(Aggregator::bytes).sum();
        self.tables.bytes() + counts_bytes > self.window_bytes[1]
    }

    pub(super) fn count(&mut self, (met, tally): &Sample) {
        let normalized = self.tables.place(met, tally, self.kernel);
        if let Some(aggregator) = self.aggregators.get_mut(&tally.source) {
            match tally.counted_under {
                Some(key) => aggregator.name(key, normalized.key, normalized.ended),
                None => aggregator.add(normalized.key, normalized.counts, normalized.ended),
            }
        }
        self.first_sample.get_or_insert_with(Instant::now);
    }

    /// Opens the perf maps of processes whose code without a file was sampled: later they may be gone.
    fn keep_perf_maps(&mut self) {
        for (_, mapping) in self.tables.dictionary.mappings.iter().skip(self.perf_maps_seen) {
            if let MappingKind::Anonymous(process) = mapping.kind {
                self.objects.keep_perf_map(process);
            }
            self.perf_maps_seen += 1;
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn samples(&self) -> u64 {
        self.aggregators.values().map(Aggregator::events).sum()
    }

    pub(super) fn lost(&self) -> u64 {
        self.aggregators.keys().map(|source| self.capture.counted(*source).map_or(0, |counted| counted.losses.samples())).sum()
    }

    /// Whether none of the followed processes lives any more.
    pub(super) fn have_all_ended(&mut self) -> bool {
        self.followed.have_ended()
    }

    pub(super) fn living(&self) -> usize {
        self.processes.living()
    }

    /// Stops the clock, takes over the rest, and closes the windows.
    pub(super) fn finish(mut self, config: &Config) -> Result<Ended, BpfError> {
        let stopped = self.capture.stop();
        let sources: Vec<Source> = self.aggregators.keys().copied().collect();
        let ticks =
            sources.iter().map(|source| Ok((*source, self.capture.ticks(*source)?))).collect::<Result<BTreeMap<_, _>, BpfError>>()?;
        let duration = stopped.duration_since(self.started);
        self.take_ongoing(config)?;
        // Once more for those that had none when their code was first seen: some are written late.
        self.perf_maps_seen = 0;
        self.drain(Last::Yes)?;
        let (go, go_waits) = (self.take_go_heaps(), self.take_go_waits());
        if let Some(calls) = &mut self.calls {
            calls.end(&self.capture)?;
        }
        self.take_partners(config);
        let closing = Closing {
            config,
            partners: &self.tables.dictionary.partners,
            beside: &self.beside,
            phases: self.calls.as_ref().map_or(&[], Calls::phases),
            spans: self.view_spans(stopped),
            capture: &self.capture,
            own: &self.own,
            execs: &self.execs,
            arming: self.arming.as_ref(),
            processes: &self.tables.dictionary.processes,
            custom: self.custom.as_ref(),
            go,
            go_waits,
            span: (self.start, duration),
        };
        let mut windows = Vec::new();
        for (source, aggregator) in std::mem::take(&mut self.aggregators) {
            windows.extend(closing.close(source, aggregator, ticks[&source])?);
        }
        let mut windows = wall::joined(windows, config);
        self.tables.dictionary.entry_points = config.heap.entry_points();
        let dictionary = Arc::new(std::mem::take(&mut self.tables.dictionary));
        windows.iter_mut().for_each(|window| window.dictionary = Arc::clone(&dictionary));
        let unwinding = self.finishing.map(|finishing| finishing.costs()).unwrap_or_default();
        Ok(Ended { windows, objects: self.objects, capture: self.capture, unwinding, arming: self.arming })
    }
}
