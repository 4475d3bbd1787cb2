//! Aggregate: samples to counts by key, in one window. Knows no format and no kernel; bounded, and what finds no room is counted.

use crate::model::loss::{Endings, Loss, Losses};
use crate::model::window::{Counts, SampleKey};
use foldhash::HashMap;
use profiler_common::ended::Ended;

/// Bytes of one key with its counts and the map's spare room.
const KEY_BYTES: u64 = 2 * (size_of::<SampleKey>() + size_of::<Counts>()) as u64;

/// The counts of the window that is open.
#[derive(Debug, Default)]
pub struct Aggregator {
    tallies: HashMap<SampleKey, Counts>,
    endings: Endings,
    losses: Losses,
    /// Events in `tallies`.
    events: u64,
}

/// What was counted, handed over when the window closes.
#[derive(Debug, Default)]
pub struct Aggregated {
    /// Counts by key.
    pub tallies: HashMap<SampleKey, Counts>,
    /// How stacks ended, by samples.
    pub endings: Endings,
    /// What found no room here.
    pub losses: Losses,
    /// Events in `tallies`.
    pub events: u64,
}

impl Aggregator {
    /// Counts events of a key and how their stack ended.
    pub fn add(&mut self, key: SampleKey, counts: Counts, ended: Ended) {
        let mine = self.tallies.entry(key).or_default();
        mine.events += counts.events;
        mine.weight += counts.weight;
        self.events += counts.events;
        self.endings.add(ended, counts.events);
    }

    /// Counts events that the window has no room for.
    pub fn refuse(&mut self, events: u64) {
        self.losses.add(Loss::WindowFull, events);
    }

    /// About how much memory the counts hold, bytes.
    pub fn bytes(&self) -> u64 {
        self.tallies.len() as u64 * KEY_BYTES
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Closes the window.
    pub fn finish(self) -> Aggregated {
        Aggregated { tallies: self.tallies, endings: self.endings, losses: self.losses, events: self.events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::ProcessId;
    use crate::model::stack::StackId;

    #[test]
    fn equal_keys_are_counted_together() {
        let mut aggregator = Aggregator::default();
        let key = |stack| SampleKey { process: ProcessId(0), thread: None, stack: StackId(stack) };
        for stack in [1, 2, 1] {
            aggregator.add(key(stack), Counts { events: 1, weight: 5 }, Ended::Root);
        }
        aggregator.refuse(4);
        let done = aggregator.finish();
        assert_eq!(done.tallies[&key(1)], Counts { events: 2, weight: 10 });
        assert_eq!((done.events, done.losses.of(Loss::WindowFull)), (3, 4));
    }
}
