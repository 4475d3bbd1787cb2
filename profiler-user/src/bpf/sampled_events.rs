//! The events that are sampled: one a CPU, each counted by the kernel itself.

use super::cpus;
use super::error::BpfError;
use super::perf_event::{
    Attributes, HARDWARE_CPU_CYCLES, PerfEvent, SOFTWARE_CPU_CLOCK, SOFTWARE_PAGE_FAULTS, TYPE_HARDWARE, TYPE_SOFTWARE, flag,
};
use crate::config::Tick;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

/// Over how much of a period the first ticks of the CPUs are spread: longer would only make the start wait.
const SPREAD_MAX: Duration = Duration::from_millis(10);

/// One ticking event for each CPU that is on line.
#[derive(Debug)]
pub(super) struct SampledEvents {
    tick: Tick,
    /// Nanoseconds between ticks, or samples a second of what is counted.
    rate: u64,
    program: OwnedFd,
    events: BTreeMap<u32, PerfEvent>,
    /// Ticks of events that are closed.
    closed_ticks: BTreeMap<u32, u64>,
    running: bool,
}

impl SampledEvents {
    /// Opens the events, not yet ticking.
    pub(super) fn open(tick: Tick, frequency_hz: u32, program: OwnedFd) -> Result<Self, BpfError> {
        let rate = match tick {
            Tick::Clock => period_ns(frequency_hz),
            Tick::Cycles | Tick::Faults => u64::from(frequency_hz),
        };
        let mut events = Self { tick, rate, program, events: BTreeMap::new(), closed_ticks: BTreeMap::new(), running: false };
        for cpu in cpus::online()? {
            events.add(cpu)?;
        }
        Ok(events)
    }

    /// Takes in a CPU that came on line.
    pub(super) fn add(&mut self, cpu: u32) -> Result<(), BpfError> {
        if self.events.contains_key(&cpu) {
            return Ok(());
        }
        let (name, kind, config) = match self.tick {
            Tick::Clock => ("cpu-clock", TYPE_SOFTWARE, SOFTWARE_CPU_CLOCK),
            Tick::Cycles => ("cycles", TYPE_HARDWARE, HARDWARE_CPU_CYCLES),
            Tick::Faults => ("page-faults", TYPE_SOFTWARE, SOFTWARE_PAGE_FAULTS),
        };
        // The clock has a fixed period, not a frequency: the kernel then takes exactly `enabled time / period` samples, which is what conservation compares
        // with.
        let frequency = if self.tick == Tick::Clock { 0 } else { flag::FREQUENCY };
        let attributes = Attributes { kind, config, sample_period: self.rate, flags: flag::DISABLED | frequency, ..Attributes::default() };
        let failed = |source| BpfError::PerfEvent { event: name, cpu, source };
        let event = match PerfEvent::open(&attributes, cpu) {
            // The CPU went off line between the list and the call.
            Err(source) if source.raw_os_error() == Some(libc::ENODEV) && self.tick != Tick::Cycles => return Ok(()),
            other => other.map_err(failed)?,
        };
        event.run(std::os::fd::AsFd::as_fd(&self.program)).map_err(failed)?;
        if self.running {
            event.enable().map_err(failed)?;
        }
        self.events.insert(cpu, event);
        Ok(())
    }

    /// Lets go of a CPU that went off line; its ticks stay counted.
    pub(super) fn remove(&mut self, cpu: u32) {
        if let Some(event) = self.events.remove(&cpu) {
            *self.closed_ticks.entry(cpu).or_default() += self.ticks_of(&event);
        }
    }

    /// Starts ticking.
    pub(super) fn enable(&mut self) -> Result<(), BpfError> {
        self.running = true;
        let apart = self.apart();
        for (turn, (cpu, event)) in self.events.iter().enumerate() {
            if turn > 0 {
                thread::sleep(apart);
            }
            event.enable().map_err(|source| BpfError::PerfEvent { event: "clock", cpu: *cpu, source })?;
        }
        Ok(())
    }

    /// How long after a CPU's first tick the next CPU has its own. Ticks that fall together on all CPUs look at a machine that they have just woken: a
    /// task that wakes another on a CPU which the tick took out of its idle state is not seen to pay for the interrupt. Under nginx that moved up to 20 of 41
    /// points away from `_raw_spin_unlock_irqrestore`, in some runs and not in others.
    fn apart(&self) -> Duration {
        let period = match self.tick {
            Tick::Clock => Duration::from_nanos(self.rate),
            Tick::Cycles | Tick::Faults => Duration::ZERO,
        };
        period.min(SPREAD_MAX) / u32::try_from(self.events.len()).unwrap_or(u32::MAX).max(1)
    }

    /// Stops ticking; the counts stay.
    pub(super) fn disable(&mut self) {
        self.running = false;
        for event in self.events.values() {
            let _ = event.disable();
        }
    }

    /// What one tick weighs: ns, or (for a counter) 0, since each sample says it itself.
    pub(super) fn period(&self) -> u64 {
        match self.tick {
            Tick::Clock => self.rate,
            Tick::Cycles | Tick::Faults => 0,
        }
    }

    /// Ticks so far by the kernel's own clock, by CPU. None for a counter, which has no fixed period.
    pub(super) fn ticks(&self) -> Option<BTreeMap<u32, u64>> {
        if self.tick != Tick::Clock {
            return None;
        }
        let mut ticks = self.closed_ticks.clone();
        for (cpu, event) in &self.events {
            *ticks.entry(*cpu).or_default() += self.ticks_of(event);
        }
        Some(ticks)
    }

    fn ticks_of(&self, event: &PerfEvent) -> u64 {
        event.enabled_ns().map_or(0, |enabled| enabled / self.rate.max(1))
    }
}

/// Nanoseconds between ticks; at least 10 us, which is the kernel's own floor (`perf_swevent_start_hrtimer`).
fn period_ns(frequency_hz: u32) -> u64 {
    (1_000_000_000 / u64::from(frequency_hz.max(1))).max(10_000)
}
