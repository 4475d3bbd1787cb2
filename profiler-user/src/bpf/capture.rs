//! One recording's side of the border: everything that is open, and the one way to take over what has arrived.

use super::arena::Arena;
use super::arena::wait_for_programs;
use super::away::TimesAway;
use super::clock::monotonic_now;
use super::counters::{self, Counted};
use super::descriptors;
use super::error::BpfError;
use super::hotplug::{CpuChange, Hotplug};
use super::options::CaptureOptions;
use super::order::{Drained, Last, Order};
use super::program::Programs;
use super::program_cost::ProgramCost;
use super::records::take_record;
use super::sampled_events::SampledEvents;
use super::self_cost;
use super::sent_stacks::SentStacks;
use super::side_band::{Record, SideBand};
use super::sleepers::Sleepers;
use super::tallies;
use super::threads::{SeenThread, ThreadIterator};
use super::traced;
use super::trap_cost::{Spent, TrapAccount};
use crate::config::{ProbeWork, Traced};
use crate::model::allocator::Allocator;
use crate::model::event::ProcessEvent;
use crate::model::loss::{Loss, Losses};
use crate::model::mapping::MappedRange;
use crate::model::process::Pid;
use profiler_common::descriptor::{Descriptor, DescriptorKey};
use profiler_common::source::Source;
use profiler_common::tally::{TallyCounts, TallyKey};
use profiler_common::unwind::range::ProcessRanges;
use profiler_common::wait::DelayCounts;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

/// What one drain took over.
#[derive(Debug, Default)]
pub struct Batch {
    /// Mappings that have just been heard of, before anything is in order: their files want to be opened at once, the process may be gone in a moment.
    pub arrived: Vec<(Pid, MappedRange)>,
    /// What is old enough to be in order.
    pub ordered: Vec<Drained>,
}

/// Everything that is open at the border.
pub struct Capture {
    pub(super) programs: Programs,
    /// What ticks, by source.
    pub(super) events: BTreeMap<Source, SampledEvents>,
    side_band: SideBand,
    hotplug: Option<Hotplug>,
    sent: SentStacks,
    order: Order,
    /// What was lost here, by source; what has none is the target's.
    losses: BTreeMap<Source, Losses>,
    probes: ProbeWork,
    threads: Option<ThreadIterator>,
    pub(super) sleepers: Option<Sleepers>,
    /// When the counting stopped, on `CLOCK_MONOTONIC`.
    pub(super) stopped_ns: u64,
    pub(super) traced: Vec<Traced>,
    away_at_start: TimesAway,
    /// What a trap costs, where calls have a budget.
    traps: Option<TrapAccount>,
    _statistics: Option<OwnedFd>,
}

impl Capture {
    /// Opens and loads everything. Process events are recorded from now on; the clock does not tick yet.
    ///
    /// # Errors
    /// Rights or kernel features are missing.
    pub fn open(options: &CaptureOptions) -> Result<Self, BpfError> {
        // Events on first: what happens from here on is known, whatever is read from /proc later.
        let side_band = SideBand::open()?;
        let statistics = self_cost::statistics(options)?;
        let mut programs = Programs::load(options)?;
        let mut events = BTreeMap::new();
        for (tick, frequency_hz) in &options.ticking {
            events.insert(tick.source(), SampledEvents::open(*tick, *frequency_hz, programs.ticked(*tick)?)?);
        }
        let traps = if options.budget { programs.try_traps()? } else { None };
        Ok(Self {
            programs,
            events,
            side_band,
            hotplug: Hotplug::open().ok(),
            sent: SentStacks::new(),
            order: Order::default(),
            losses: BTreeMap::new(),
            probes: options.probes,
            threads: None,
            sleepers: None,
            stopped_ns: 0,
            traced: options.traced.clone(),
            away_at_start: TimesAway::default(),
            traps,
            _statistics: statistics,
        })
    }

    /// Starts the clock.
    ///
    /// # Errors
    /// The kernel refused to enable an event.
    pub fn start(&mut self) -> Result<(), BpfError> {
        self.away_at_start = TimesAway::now();
        let is_about_threads = self.traced.iter().any(|traced| matches!(traced, Traced::Waits | Traced::NewThreads));
        self.sleepers = is_about_threads.then(|| self.programs.sleepers()).transpose()?.map(Sleepers::new);
        // What sees waits looks on until they are counted, so that all of it begins at one moment.
        self.programs.trace_all(&self.traced)?;
        // CPUs begin to tick one after the other, within one period, and a recording begins with the last: no thread has waited for longer than that.
        self.events.values_mut().try_for_each(SampledEvents::enable)?;
        self.programs.count_calls(self.probes)?;
        if let Some(sleepers) = &mut self.sleepers {
            self.programs.set_began([monotonic_now().0, Sleepers::boot_now_ns()])?;
            sleepers.note()?;
        }
        Ok(())
    }

    /// Stops the clock; what has arrived can still be drained. When that was.
    pub fn stop(&mut self) -> Instant {
        self.events.values_mut().for_each(SampledEvents::disable);
        self.programs.stop_tracing_most(&self.traced);
        // At one moment for all probes, which takes longer to take away.
        let _ = self.programs.count_calls(ProbeWork::Nothing);
        let stopped = Instant::now();
        self.stopped_ns = monotonic_now().0;
        wait_for_programs();
        // What processes do from now on is nobody's, and what is done at the end may take seconds: the rings would overflow, and a loss be told that is none.
        self.side_band.stop();
        stopped
    }

    /// Arms an allocator's functions in a process; the file is that which it maps.
    ///
    /// # Errors
    /// The kernel refuses, or the process has ended.
    pub fn arm(&mut self, pid: Pid, file: BorrowedFd<'_>, allocator: &Allocator) -> Result<(), BpfError> {
        self.programs.probes.as_mut().map_or(Ok(()), |probes| probes.arm(pid, file, allocator))
    }

    /// What the traps of calls have cost so far; None where they have no budget.
    ///
    /// # Errors
    /// The map of counters could not be read.
    pub fn spent(&mut self) -> Result<Option<Spent>, BpfError> {
        let counted = if self.traps.is_some() { self.counted(Source::CALLS)? } else { return Ok(None) };
        let (Some(traps), Some(probes)) = (&mut self.traps, &self.programs.probes) else { return Ok(None) };
        Ok(Some(traps.look(probes, &counted)))
    }

    /// Takes all probes away; what was counted stays. Returns when no program can still be counting.
    ///
    /// # Errors
    /// The map could not be written.
    pub fn disarm_all(&mut self) -> Result<(), BpfError> {
        self.programs.count_calls(ProbeWork::Nothing)?;
        self.programs.disarm_calls();
        wait_for_programs();
        self.programs.count_calls(self.probes)
    }

    /// From now on only what is allocated is counted; nothing may be armed.
    pub fn count_allocs(&mut self) {
        if let Some(probes) = &mut self.programs.probes {
            probes.count_allocs();
        }
    }

    /// Takes the probes of a process away, which has ended.
    pub fn disarm(&mut self, pid: Pid) {
        if let Some(probes) = &mut self.programs.probes {
            probes.disarm(pid);
            self.programs.live.note_exit(pid.0);
        }
    }

    /// What was counted in the kernel of a source.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn tallies(&self, source: Source) -> Result<Vec<(TallyKey, TallyCounts)>, BpfError> {
        tallies::read(&self.programs.tallies, source)
    }

    /// The file descriptors that were got and are not closed. Nothing writes any more.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn descriptors(&self) -> Result<Vec<(DescriptorKey, Descriptor)>, BpfError> {
        descriptors::read(&self.programs.descriptors)
    }

    /// What was counted in the kernel of a source of waits.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn delays(&self, source: Source) -> Result<Vec<(TallyKey, DelayCounts)>, BpfError> {
        self.programs.waits.read(source)
    }

    /// Takes a process into the target, whoever has the pid now.
    ///
    /// # Errors
    /// The map of target processes is full.
    pub fn add_target(&mut self, pid: Pid) -> Result<(), BpfError> {
        self.programs.targets.add(pid.0, 0)
    }

    /// Says which processes are the profiler's own.
    ///
    /// # Errors
    /// The map could not be written.
    pub fn set_own(&mut self, pids: &[u32]) -> Result<(), BpfError> {
        self.programs.set_own(pids)
    }

    /// The arena of unwind tables.
    pub fn arena(&mut self) -> &mut Arena {
        &mut self.programs.arena
    }

    /// Gives a process a list of ranges in the arena.
    ///
    /// # Errors
    /// The map of lists is full.
    pub fn set_ranges(&mut self, pid: Pid, ranges: &ProcessRanges) -> Result<(), BpfError> {
        self.programs.set_ranges(pid.0, ranges)
    }

    /// Takes it away; it may have none.
    pub fn remove_ranges(&mut self, pid: Pid) {
        self.programs.remove_ranges(pid.0);
    }

    /// Looks at every thread of a process where it stands, and stops none. The first look loads the program, for this process alone.
    ///
    /// # Errors
    /// The kernel has no such iterators, or there is no such process.
    pub fn look_at_threads(&mut self, pid: Pid) -> Result<Vec<SeenThread>, BpfError> {
        let threads = match &self.threads {
            Some(threads) => threads,
            None => self.threads.insert(self.programs.threads("threads", Some(pid))?),
        };
        threads.read()
    }

    /// Looks at some of the threads of the process that was looked at before; none, if none was.
    ///
    /// # Errors
    /// As [`Self::look_at_threads`].
    pub fn look_at_some(&self, tids: impl Iterator<Item = u32>) -> Result<Vec<SeenThread>, BpfError> {
        self.threads.as_ref().map_or(Ok(Vec::new()), |threads| threads.read_some(tids))
    }

    /// Takes over what has arrived. `last`: nothing more will come, so nothing is held back.
    pub fn drain(&mut self, last: Last) -> Batch {
        let now = monotonic_now();
        let mut batch = Batch::default();
        while let Some(item) = self.programs.ring.next() {
            if let Err((source, loss)) = take_record(&item, &mut self.sent, &mut self.order) {
                self.losses.entry(source).or_default().add(loss, 1);
            }
        }
        let (order, losses) = (&mut self.order, &mut self.losses);
        self.side_band.drain(last, |record| match record {
            Some(Record::Event(event)) => {
                if let ProcessEvent::Map { pid, range } = &event.event {
                    batch.arrived.push((*pid, range.clone()));
                }
                order.push(Drained::Event(event));
            }
            Some(Record::Lost(records)) => losses.entry(Source::TARGET).or_default().add(Loss::ProcessEvents, records),
            None => losses.entry(Source::TARGET).or_default().add(Loss::ProcessEvents, 1),
        });
        self.follow_cpus();
        self.programs.live.forget_ended();
        batch.ordered = self.order.take(match last {
            Last::No => Some(now),
            Last::Yes => None,
        });
        batch
    }

    fn follow_cpus(&mut self) {
        let Some(hotplug) = &self.hotplug else { return };
        for change in hotplug.changes() {
            match change {
                // A CPU that cannot be opened goes on unsampled; its share is simply not there.
                CpuChange::Online(cpu) => {
                    self.away_at_start.begin(&TimesAway::now(), cpu);
                    let _ = self.side_band.add(cpu).and_then(|()| self.events.values_mut().try_for_each(|events| events.add(cpu)));
                }
                CpuChange::Offline(cpu) => {
                    self.side_band.remove(cpu);
                    self.events.values_mut().for_each(|events| events.remove(cpu));
                }
            }
        }
    }

    /// What the kernel's clock says of a source against what its program was run for, CPU by CPU. Without a clock its runs are all there is.
    ///
    /// # Errors
    /// The map of counters could not be read.
    pub fn ticks(&self, source: Source) -> Result<Ticks, BpfError> {
        let ran = counters::runs_and_idle(&self.programs.counters, source)?;
        let Some(by_cpu) = self.events.get(&source).and_then(SampledEvents::ticks) else {
            let missed = traced::programs_of(source).iter().map(|name| self_cost::missed(&self.programs, name)).sum::<u64>();
            return Ok(Ticks { all: ran.iter().map(|(runs, _)| runs).sum::<u64>() + missed, unseen_away: 0 });
        };
        let away_now = TimesAway::now();
        let mut ticks = Ticks { all: by_cpu.values().sum(), unseen_away: 0 };
        for (cpu, all) in by_cpu {
            let (runs, idle) = ran.get(cpu as usize).copied().unwrap_or_default();
            let away_ticks = away_now.since(&self.away_at_start, cpu).as_nanos() as u64 / self.period(source).max(1);
            // What did not come on a CPU that is off line now cannot be told from what its idleness kept away.
            let most = if away_now.lacks(cpu) { u64::MAX } else { away_ticks.saturating_sub(idle) };
            ticks.unseen_away += all.saturating_sub(runs).min(most);
        }
        Ok(ticks)
    }

    /// What one tick weighs, ns; 0 where each sample says it itself.
    pub fn period(&self, source: Source) -> u64 {
        self.events.get(&source).map_or(0, SampledEvents::period)
    }

    /// What the kernel side has counted of a source, with what this room has lost of it.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn counted(&self, source: Source) -> Result<Counted, BpfError> {
        let mut counted = counters::read(&self.programs.counters, source)?;
        counted.losses.merge(&self.losses.get(&source).copied().unwrap_or_default());
        Ok(counted)
    }

    /// What belongs to no source: records of processes and targets.
    ///
    /// # Errors
    /// As above.
    pub fn lost_besides(&self) -> Result<Losses, BpfError> {
        Ok(self.counted(Source::TARGET)?.losses)
    }

    /// What the programs cost so far; all zero unless it is measured.
    pub fn self_cost(&self) -> Vec<ProgramCost> {
        self_cost::read(&self.programs)
    }

    /// Descriptors that become readable when a drain is wanted before its time: the ring at its high-water mark, process events, CPU changes.
    ///
    /// # Errors
    /// No more descriptors may be open.
    pub fn wakers(&self) -> std::io::Result<Vec<OwnedFd>> {
        // SAFETY: the ring's descriptor lives as long as `self.programs`, which outlives this borrow.
        let ring = unsafe { BorrowedFd::borrow_raw(self.programs.ring.as_raw_fd()) };
        let mut wakers = vec![ring.try_clone_to_owned()?];
        for event in self.side_band.descriptors() {
            wakers.push(event.try_clone_to_owned()?);
        }
        if let Some(hotplug) = &self.hotplug {
            wakers.push(hotplug.as_fd().try_clone_to_owned()?);
        }
        Ok(wakers)
    }

    /// Bytes of the rings of process events, which count as ours.
    pub fn ring_bytes(&self) -> usize {
        self.side_band.bytes()
    }
}

/// What the kernel's clock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ticks {
    /// Time that the clock's events were on, divided by the period.
    pub all: u64,
    /// Ticks for which our program was not run because the CPU ran nothing: it slept, or the host had taken it away.
    pub unseen_away: u64,
}
