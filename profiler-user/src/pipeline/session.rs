//! A recording while it runs: every drain goes through here, from raw records to counts.

use crate::aggregate::Aggregator;
use crate::bpf::{BpfError, Capture, Drained, Last};
use crate::config::Config;
use crate::labels;
use crate::model::label::Label;
use crate::model::loss::{Balance, Loss};
use crate::model::mapping::{MappedRange, MappingKind};
use crate::model::process::{Pid, ProcessKey};
use crate::model::window::Window;
use crate::object::ObjectStore;
use crate::process::{Context, Describe, KernelLayout, Processes, Tables, Threads};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Answers what `process/` must ask of the rooms around it.
struct World<'a> {
    objects: &'a mut ObjectStore,
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

/// A recording while it runs.
pub(super) struct Session {
    pub(super) capture: Capture,
    pub(super) objects: ObjectStore,
    processes: Processes,
    tables: Tables,
    aggregator: Aggregator,
    kernel: KernelLayout,
    threads: Threads,
    window_bytes: u64,
    /// Mappings that have been looked at for a perf map.
    perf_maps_seen: usize,
    started: Instant,
    start: SystemTime,
    first_sample: Option<Instant>,
}

impl Session {
    /// Takes over an open capture, starts its clock, and reads what runs already.
    pub(super) fn start(mut capture: Capture, objects: ObjectStore, config: &Config, kernel: KernelLayout) -> Result<Self, BpfError> {
        let (started, start) = (Instant::now(), SystemTime::now());
        capture.start()?;
        let mut session = Self {
            capture,
            objects,
            processes: Processes::default(),
            tables: Tables::default(),
            aggregator: Aggregator::default(),
            kernel,
            threads: if config.per_thread { Threads::Apart } else { Threads::Together },
            window_bytes: config.bounds.window_bytes,
            perf_maps_seen: 0,
            started,
            start,
            first_sample: None,
        };
        session.processes.scan(&mut World { objects: &mut session.objects });
        Ok(session)
    }

    /// Takes over what has arrived and counts it.
    pub(super) fn drain(&mut self, last: Last) {
        let batch = self.capture.drain(last);
        let mut world = World { objects: &mut self.objects };
        self.processes.arrived(&batch.arrived, &mut world);
        for drained in batch.ordered {
            match drained {
                Drained::Event(event) => self.processes.apply(event.event, &mut world),
                Drained::Stack(tally) => {
                    if self.tables.bytes() + self.aggregator.bytes() > self.window_bytes {
                        self.aggregator.refuse(tally.events);
                        continue;
                    }
                    let mut context = Context { kernel: self.kernel, threads: self.threads, describe: &mut world };
                    let normalized = self.tables.normalize(&tally, &mut self.processes, &mut context);
                    self.aggregator.add(normalized.key, normalized.counts, normalized.ended);
                    self.first_sample.get_or_insert_with(Instant::now);
                }
            }
        }
        self.keep_perf_maps();
    }

    /// Opens the perf maps of processes whose code without a file was sampled: later they may be gone.
    fn keep_perf_maps(&mut self) {
        for (_, mapping) in self.tables.mappings.iter().skip(self.perf_maps_seen) {
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
        self.aggregator.events()
    }

    pub(super) fn living(&self) -> usize {
        self.processes.living()
    }

    /// Stops the clock, takes over the rest, and closes the window.
    pub(super) fn finish(mut self, config: &Config) -> Result<(Window, ObjectStore, Capture), BpfError> {
        self.capture.stop();
        let ticks = self.capture.ticks()?;
        let duration = self.started.elapsed();
        // Once more for those that had none when their code was first seen: some are written late.
        self.perf_maps_seen = 0;
        self.drain(Last::Yes);
        let counted = self.capture.counted()?;
        let aggregated = self.aggregator.finish();
        let mut losses = counted.losses;
        losses.merge(&aggregated.losses);
        // What the kernel's clock says beyond what our program was run for.
        losses.add(Loss::NotRun, ticks.all.saturating_sub(counted.runs + ticks.unseen_away));
        let idle = counted.idle + ticks.unseen_away;
        let is_narrowed = config.is_narrowed();
        let balance = Balance { ticks: ticks.all, idle, filtered: counted.filtered, samples: aggregated.events, is_narrowed };
        let window = Window {
            kind: config.kind(),
            start: self.start,
            duration,
            period: self.capture.period().max(1),
            tallies: aggregated.tallies,
            processes: self.tables.processes,
            threads: self.tables.threads,
            stacks: self.tables.stacks,
            mappings: self.tables.mappings,
            losses,
            endings: aggregated.endings,
            balance,
        };
        Ok((window, self.objects, self.capture))
    }
}
