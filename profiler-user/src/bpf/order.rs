//! Samples and process events come over different ways; here they are put into the order in which they happened.
//!
//! ```text
//!   time ──────────────────────────────────────────────►
//!   process events   m1        x2            m3
//!   samples              s1        s2     s3        s4
//!                                             │     now, the ring is read, then the event rings
//!                                   horizon = now - 1 ms
//!   delivered:       m1 s1 x2 s2 s3           held back: m3 s4 (a sample of before m3 may still be on its way)
//! ```
//!
//! An event is in its ring before the code that it makes known can run, and the sample's ring is read first: so no sample is delivered before a
//! mapping that it needs. What is younger than the horizon waits for the next drain; nothing waits at the end.

use crate::model::event::{MonotonicNs, TimedEvent};
use crate::model::stack::{RawStack, Tally};

/// Whether a drain is the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Last {
    /// More will come.
    No,
    /// The clock has stopped.
    Yes,
}

/// A sample is in the ring within this time of its own timestamp.
const IN_FLIGHT_NS: u64 = 1_000_000;

/// Something that left the border, in order.
#[derive(Clone, Debug)]
pub enum Drained {
    /// Something happened to a process.
    Event(TimedEvent),
    /// Samples.
    Stack(Tally<RawStack>),
}

impl Drained {
    fn time(&self) -> MonotonicNs {
        match self {
            Self::Event(event) => event.time,
            Self::Stack(tally) => tally.of.time,
        }
    }
}

/// What waits for its turn.
#[derive(Debug, Default)]
pub(super) struct Order {
    waiting: Vec<Drained>,
}

impl Order {
    pub(super) fn push(&mut self, drained: Drained) {
        self.waiting.push(drained);
    }

    /// Everything that happened by `now` less the time in flight, in order; all of it when `now` is None.
    pub(super) fn take(&mut self, now: Option<MonotonicNs>) -> Vec<Drained> {
        // Stable, and events before samples of the same moment: what was mapped then was there.
        self.waiting.sort_by_key(|drained| (drained.time(), matches!(drained, Drained::Stack(_))));
        let horizon = now.map_or(u64::MAX, |now| now.0.saturating_sub(IN_FLIGHT_NS));
        let held = self.waiting.partition_point(|drained| drained.time().0 <= horizon);
        let rest = self.waiting.split_off(held);
        std::mem::replace(&mut self.waiting, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::ProcessEvent;
    use crate::model::process::{Pid, Tid};

    fn exit(time: u64) -> Drained {
        Drained::Event(TimedEvent { time: MonotonicNs(time), event: ProcessEvent::Exit { pid: Pid(1), tid: Tid(time as u32) } })
    }

    #[test]
    fn delivers_in_order_and_holds_back_what_is_young() {
        let mut order = Order::default();
        for time in [5_000_000, 1_000_000, 3_000_000] {
            order.push(exit(time));
        }
        let times = |drained: Vec<Drained>| drained.iter().map(|one| one.time().0).collect::<Vec<_>>();
        assert_eq!(times(order.take(Some(MonotonicNs(4_500_000)))), [1_000_000, 3_000_000]);
        order.push(exit(4_000_000));
        assert_eq!(times(order.take(None)), [4_000_000, 5_000_000]);
    }
}
