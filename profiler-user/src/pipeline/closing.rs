//! The end of a recording: what the kernel has counted is taken over, what was lost is added up, and each source's window is closed.

use super::arming::Arming;
use super::go_heap::GoHeaps;
use super::own_processes::OwnProcesses;
use crate::aggregate::{Aggregated, Aggregator};
use crate::bpf::{BpfError, Capture, Counted, Ticks};
use crate::config::{Config, Event};
use crate::model::loss::{Balance, Loss};
use crate::model::process::Pid;
use crate::model::window::Window;
use crate::process::resident_bytes;
use profiler_common::source::Source;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Processes whose memory is noted.
const NOTED_MAX: usize = 32;

/// What closing needs to know.
pub(super) struct Closing<'a> {
    pub(super) config: &'a Config,
    pub(super) capture: &'a Capture,
    pub(super) own: &'a OwnProcesses,
    pub(super) arming: Option<&'a Arming>,
    /// What Go's runtime has counted itself.
    pub(super) go: GoHeaps,
    /// When the recording began, and how long it was.
    pub(super) span: (SystemTime, Duration),
}

impl Closing<'_> {
    /// Closes the windows of a source: one for each kind that is made of its events. Their dictionary is not there yet.
    pub(super) fn close(&self, source: Source, mut aggregator: Aggregator, ticks: Ticks) -> Result<Vec<Window>, BpfError> {
        let counted = self.capture.counted(source)?;
        let is_of_calls = source == Source::CALLS;
        if is_of_calls {
            aggregator.settle(&self.capture.tallies(source)?);
        }
        let mut own_waits = 0;
        if !is_of_calls {
            let (own, others): (Vec<_>, Vec<_>) = self.capture.delays(source)?.into_iter().partition(|(key, _)| self.own.counts(key));
            own_waits = own.iter().map(|(_, counts)| counts.events).sum();
            aggregator.settle_waits(&others);
        }
        let sampled = aggregator.events();
        if is_of_calls {
            aggregator.settle(&self.go.counts);
        }
        let aggregated = aggregator.finish();
        let idle = counted.idle + ticks.unseen_away;
        let mut losses = counted.losses;
        losses.merge(&aggregated.losses);
        losses.merge(&self.capture.lost_besides()?);
        // What the kernel's clock says beyond what our program was run for.
        losses.add(Loss::NotRun, ticks.all.saturating_sub(counted.runs + ticks.unseen_away));
        if is_of_calls {
            // What was sampled at its entry and is in no count.
            losses.add(Loss::NoReturn, ticks.all.saturating_sub(counted.filtered + counted.samples + losses.samples()));
        }
        let filtered = counted.filtered + self.own.samples(source) + own_waits;
        let balance = Balance { ticks: ticks.all, idle, filtered, samples: sampled, is_narrowed: self.config.is_narrowed() };
        let notes = if is_of_calls { self.notes(sampled, &counted) } else { Vec::new() };
        let Aggregated { tallies, blocks, endings, .. } = aggregated;
        let (start, duration) = self.span;
        let period = self.period(source, sampled);
        let window = |kind| Window {
            kind,
            start,
            duration,
            period,
            tallies: tallies.clone(),
            blocks: blocks.clone(),
            notes: notes.clone(),
            dictionary: Arc::default(),
            losses,
            endings,
            balance,
        };
        let events = self.config.events.iter().filter(|event| event.source() == source);
        Ok(events.map(|event| window(self.config.kind_of(*event))).collect())
    }

    /// What one event weighs, or the distance between sampled blocks: of Go's own profile where there is no other.
    fn period(&self, source: Source, sampled: u64) -> u64 {
        match self.go.rates.first() {
            _ if source != Source::CALLS => self.capture.period(source).max(1),
            Some(rate) if sampled == 0 => *rate,
            _ => self.config.sample_bytes,
        }
    }

    fn notes(&self, sampled: u64, counted: &Counted) -> Vec<String> {
        let mut notes = self.go.notes.clone();
        notes.extend(self.arming.iter().flat_map(|arming| arming.notes()));
        if self.config.calls() == Some(Event::Heap) && sampled > 0 {
            notes.extend(self.arming.iter().flat_map(|arming| heap_notes(&arming.armed(), counted.other_frees)));
        }
        notes
    }
}

/// What in use means from outside, and what it is a part of.
fn heap_notes(armed: &BTreeSet<Pid>, other_frees: u64) -> Vec<String> {
    let mut notes = vec![
        "in use: allocated since the recording began, and not freed before it ended".to_owned(),
        format!("frees of other blocks, not sampled or older than the recording: {other_frees}"),
    ];
    let sizes = armed.iter().filter_map(|pid| Some(format!("process {}: {} kB resident in the end", pid.0, resident_bytes(*pid)? >> 10)));
    notes.extend(sizes.take(NOTED_MAX));
    notes
}
