//! The stretches of a recording of calls: a budget may end one and begin a lesser one. Each is a window of its own, of what was counted between two readings.

use super::estimate::Frees;
use super::governor::Step;
use super::moments::{Base, Moments};
use crate::bpf::{Ages, BpfError, Capture, Counted};
use profiler_common::source::Source;
use profiler_common::tally::{TallyCounts, TallyKey};
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

/// What was counted by a moment at which nothing counts.
#[derive(Default)]
struct Reading {
    tallies: HashMap<TallyKey, TallyCounts>,
    counted: Counted,
}

/// A stretch that has ended.
pub(super) struct Phase {
    pub(super) step: Step,
    pub(super) start: SystemTime,
    pub(super) duration: Duration,
    pub(super) tallies: Vec<(TallyKey, TallyCounts)>,
    pub(super) counted: Counted,
    /// How many blocks were freed that were allocated in it.
    pub(super) freed: Frees,
    /// How old what lives is, where that was asked for.
    pub(super) ages: Option<Ages>,
    /// What there is to say of it.
    pub(super) notes: Vec<String>,
    /// An earlier moment of it that is shown as well.
    pub(super) base: Option<Base>,
}

impl Phase {
    /// Shows the moments that were asked for.
    pub(super) fn show(&mut self, moments: &mut Moments) {
        self.base = moments.base();
        self.notes.extend(moments.show_peak(&mut self.tallies));
    }
}

/// Those that have ended, and the one that lasts.
pub(super) struct Phases {
    ended: Vec<Phase>,
    step: Step,
    start: SystemTime,
    begun: Instant,
    before: Reading,
}

impl Phases {
    /// Begins the first one.
    pub(super) fn begin(step: Step) -> Self {
        Self { ended: Vec::new(), step, start: SystemTime::now(), begun: Instant::now(), before: Reading::default() }
    }

    /// Ends the one that lasts. Nothing may be counting.
    pub(super) fn end(&mut self, capture: &Capture, notes: Vec<String>) -> Result<(), BpfError> {
        let now = Reading { tallies: capture.tallies(Source::CALLS)?.into_iter().collect(), counted: capture.counted(Source::CALLS)? };
        let before = |key| self.before.tallies.get(key).copied().unwrap_or_default();
        let tallies: Vec<_> = now.tallies.iter().map(|(key, counts)| (*key, counts.since(&before(key)))).collect();
        self.ended.push(Phase {
            freed: Frees::of(&tallies),
            step: self.step,
            start: self.start,
            duration: self.begun.elapsed(),
            tallies,
            counted: now.counted.since(&self.before.counted),
            ages: if self.step == Step::Heap { capture.ages()? } else { None },
            notes,
            base: None,
        });
        self.before = now;
        Ok(())
    }

    /// Ends the one that lasts, and begins another.
    pub(super) fn step(&mut self, step: Step, capture: &Capture, notes: Vec<String>) -> Result<(), BpfError> {
        self.end(capture, notes)?;
        (self.step, self.start, self.begun) = (step, SystemTime::now(), Instant::now());
        Ok(())
    }

    /// The one that has ended last.
    pub(super) fn last(&mut self) -> Option<&mut Phase> {
        self.ended.last_mut()
    }

    /// All of them.
    pub(super) fn ended(&self) -> &[Phase] {
        &self.ended
    }
}
