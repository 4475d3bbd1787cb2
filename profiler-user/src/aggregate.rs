//! Aggregate: samples to counts by key, in one window. Knows no format and no kernel; bounded, and what finds no room is counted.

use crate::model::life::{self, Age};
use crate::model::loss::{Endings, Loss, Losses};
use crate::model::partner::{Partner, Partners};
use crate::model::window::{Counts, SampleKey};
use foldhash::HashMap;
use profiler_common::ended::Ended;
use profiler_common::sampling::ONE_BLOCK;
use profiler_common::source::Source;
use profiler_common::tally::{Blocks, TallyCounts, TallyKey};
use profiler_common::wait::{CLASS_BITS, CLASS_BLOCKED, CLASS_ONGOING, CLASS_RUNNABLE, DelayCounts, plain_class, waker_bits};

/// Bytes of one key with its counts and the map's spare room.
const KEY_BYTES: u64 = 2 * (size_of::<SampleKey>() + size_of::<Counts>()) as u64;

/// The same of a named key, and of what will be counted under it.
const NAMED_BYTES: u64 = 2 * (size_of::<TallyKey>() + 2 * size_of::<SampleKey>() + size_of::<TallyCounts>()) as u64;

/// The counts of the window that is open.
#[derive(Debug, Default)]
pub struct Aggregator {
    tallies: HashMap<SampleKey, Counts>,
    /// What the keys of the kernel's own counts are, and how their stacks ended.
    named: HashMap<TallyKey, (SampleKey, Ended)>,
    blocks: HashMap<SampleKey, TallyCounts>,
    endings: Endings,
    losses: Losses,
    /// Events in `tallies`, or sampled blocks.
    events: u64,
}

/// What was counted, handed over when the window closes.
#[derive(Debug, Default)]
pub struct Aggregated {
    /// Counts by key.
    pub tallies: HashMap<SampleKey, Counts>,
    /// Blocks by key.
    pub blocks: HashMap<SampleKey, TallyCounts>,
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

    /// Takes in what others have counted, and walked: none of it was seen here, and none of it can be lost here.
    pub fn take_in(&mut self, key: SampleKey, counts: Counts) {
        let mine = self.tallies.entry(key).or_default();
        mine.events = mine.events.saturating_add(counts.events);
        mine.weight = mine.weight.saturating_add(counts.weight);
    }

    /// Notes what a key of the kernel's own counts is.
    pub fn name(&mut self, kernel_key: TallyKey, key: SampleKey, ended: Ended) {
        self.named.insert(kernel_key, (key, ended));
    }

    /// Takes over what the kernel has counted itself. What nobody has named is lost.
    pub fn settle(&mut self, counted: &[(TallyKey, TallyCounts)]) {
        // Under some nothing was counted after all: their calls failed.
        for (kernel_key, counts) in counted.iter().filter(|(_, counts)| counts.allocated.count > 0) {
            let Some((key, ended)) = self.named.get(kernel_key) else {
                self.losses.add(Loss::StackMissing, counts.allocated.count);
                continue;
            };
            let (rest, soon) = without_temporary(counts);
            let mine = self.blocks.entry(*key).or_default();
            *mine = mine.plus(&rest);
            if soon.allocated != Blocks::default() {
                let mine = self.blocks.entry(SampleKey { class: life::temporary(key.class), ..*key }).or_default();
                *mine = mine.plus(&soon);
            }
            self.events += counts.allocated.count;
            self.endings.add(*ended, counts.allocated.count);
        }
    }

    /// Tells what lives, of what was taken over, apart by its age.
    pub fn settle_ages(&mut self, ages: &std::collections::HashMap<(TallyKey, Age), Blocks>) {
        for ((kernel_key, age), blocks) in ages {
            let Some((key, _)) = self.named.get(kernel_key) else { continue };
            let Some(mine) = self.blocks.get_mut(key) else { continue };
            let aged = blocks.at_most(&mine.in_use());
            mine.allocated = mine.allocated.less(&aged);
            let of_age = self.blocks.entry(SampleKey { class: life::with_age(key.class, *age), ..*key }).or_default();
            of_age.allocated = of_age.allocated.plus(&aged);
        }
    }

    /// Counts what is there at the end under keys of the kernel's own. What nobody has named is lost.
    pub fn settle_standing(&mut self, standing: impl IntoIterator<Item = TallyKey>) {
        for kernel_key in standing {
            match self.named.get(&kernel_key).copied() {
                Some((key, ended)) => self.add(key, Counts { events: 1, weight: 0 }, ended),
                None => self.losses.add(Loss::StackMissing, 1),
            }
        }
    }

    /// Counts what was added and not removed under keys of the kernel's own. What nobody has named is lost.
    pub fn settle_left(&mut self, counted: &[(TallyKey, TallyCounts)]) {
        for (kernel_key, counts) in counted {
            let left = counts.in_use();
            let events = left.count;
            if events == 0 {
                continue;
            }
            match self.named.get(kernel_key).copied() {
                Some((key, ended)) => {
                    self.add(key, Counts { events, weight: left.bytes }, ended);
                }
                None => self.losses.add(Loss::StackMissing, events),
            }
        }
    }

    /// The same of waits. Those of one stack that are told apart by what they are have a key each.
    /// `partners`: stacks that ended waits, by their bits in a class, and those of waits that were charged to them.
    pub fn settle_waits(&mut self, counted: &[(TallyKey, DelayCounts)], partners: &Partners) {
        for (kernel_key, counts) in counted.iter().filter(|(_, counts)| counts.events > 0) {
            let shown = self.named.get(kernel_key).and_then(|(key, ended)| Some((shown_side(kernel_key, *key, partners)?, *ended)));
            let Some((key, ended)) = shown else {
                self.losses.add(Loss::StackMissing, counts.events);
                continue;
            };
            self.events += counts.events;
            self.endings.add(ended, counts.events);
            let is_off_cpu = kernel_key.source() == Source::OFF_CPU.number();
            let ongoing = key.class & CLASS_ONGOING;
            let class = if is_off_cpu { of_partner(key.class) | CLASS_BLOCKED | ongoing } else { key.class };
            let parts =
                [(class, counts.events_for, counts.ns_for), (CLASS_RUNNABLE | ongoing, counts.runnable_for, counts.runnable_ns_for)];
            for (class, events_for, ns) in parts.into_iter().filter(|(_, events, ns)| events + ns > 0) {
                let mine = self.tallies.entry(SampleKey { class, ..key }).or_default();
                mine.events += (events_for + ONE_BLOCK / 2) / ONE_BLOCK;
                mine.weight += ns;
            }
        }
    }

    /// What has been named, and nothing else: stacks that ended waits, each with its bits in a class.
    pub fn into_wakers(self) -> Vec<(u64, SampleKey)> {
        self.named.into_iter().map(|(kernel_key, (key, _))| (waker_bits(kernel_key.stack_hash), key)).collect()
    }

    /// What has been named of waits that others have ended, whose stacks are named by bits in the class.
    pub fn with_wakers(&self) -> impl Iterator<Item = SampleKey> {
        self.named.iter().filter(|(kernel_key, _)| of_partner(kernel_key.class()) != 0).map(|(_, (key, _))| *key)
    }

    /// Counts events that the window has no room for.
    pub fn refuse(&mut self, events: u64) {
        self.losses.add(Loss::WindowFull, events);
    }

    /// About how much memory the counts hold, bytes.
    pub fn bytes(&self) -> u64 {
        self.tallies.len() as u64 * KEY_BYTES + self.named.len() as u64 * NAMED_BYTES
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Hands over what was taken over of the kernel's own counts; what its keys are stays known.
    pub fn close_phase(&mut self) -> Aggregated {
        let fresh = Self { named: std::mem::take(&mut self.named), ..Self::default() };
        let ended = std::mem::replace(self, fresh);
        ended.finish()
    }

    /// Closes the window.
    pub fn finish(mut self) -> Aggregated {
        // All of it was told apart.
        self.blocks.retain(|_, counts| counts.allocated != Blocks::default());
        Aggregated { tallies: self.tallies, blocks: self.blocks, endings: self.endings, losses: self.losses, events: self.events }
    }
}

/// The bits of a class that stand for the other side.
const fn of_partner(class: u64) -> u64 {
    class >> CLASS_BITS << CLASS_BITS
}

/// How a wait that was counted by the stack of who waited is shown: by that, and the number of who ended it; or, where who ended it is charged, by that one's stack,
/// and the number of who waited. None: who ended it is not known.
fn shown_side(kernel_key: &TallyKey, key: SampleKey, partners: &Partners) -> Option<SampleKey> {
    let (own_bits, bits) = (key.class & ((1 << CLASS_BITS) - 1), of_partner(key.class));
    let other = partners.of_bits(bits);
    if kernel_key.source() != Source::MUTEX.number() || bits == 0 {
        return Some(SampleKey { class: other.map_or(0, |(number, _)| number << CLASS_BITS) | own_bits, ..key });
    }
    let Partner { process, thread, stack } = other?.1;
    // It is over, whether or not the one that waited is back.
    let class = partners.number(&key.side()) << CLASS_BITS | plain_class(own_bits);
    Some(SampleKey { process, thread, stack, class })
}

/// What was counted without what was freed soon, and that alone. Where not all is followed it is an estimate, and no more than what was freed at all.
fn without_temporary(counts: &TallyCounts) -> (TallyCounts, TallyCounts) {
    let gone = counts.allocated.beyond(&counts.in_use());
    let soon = counts.temporary.at_most(&gone);
    let rest = TallyCounts { allocated: counts.allocated.less(&soon), freed: counts.freed.less(&soon), temporary: Blocks::default() };
    (rest, TallyCounts { allocated: soon, freed: soon, temporary: Blocks::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::ProcessId;
    use crate::model::stack::StackId;
    use profiler_common::wait::CLASS_UNSURE;

    #[test]
    fn equal_keys_are_counted_together() {
        let mut aggregator = Aggregator::default();
        let key = |stack| SampleKey { process: ProcessId(0), thread: None, stack: StackId(stack), class: 0 };
        for stack in [1, 2, 1] {
            aggregator.add(key(stack), Counts { events: 1, weight: 5 }, Ended::Root);
        }
        aggregator.refuse(4);
        let done = aggregator.finish();
        assert_eq!(done.tallies[&key(1)], Counts { events: 2, weight: 10 });
        assert_eq!((done.events, done.losses.of(Loss::WindowFull)), (3, 4));
    }

    #[test]
    fn a_wait_that_is_charged_is_shown_by_who_ended_it_and_who_waited_beside_it() {
        let key = |process, stack| SampleKey { process: ProcessId(process), thread: None, stack: StackId(stack), class: CLASS_UNSURE };
        let (waiter, waker) = (key(0, 1), key(7, 2));
        let mut partners = Partners::default();
        let bits = waker_bits(0x1234_5678_9abc_def0);
        partners.add_as(bits, waker.side());
        let number = partners.add(waiter.side());
        let wait = |source, bits| {
            (
                TallyKey::new(source, 5, CLASS_UNSURE | bits),
                DelayCounts { events: 1, events_for: ONE_BLOCK, ns_for: 40, ..DelayCounts::default() },
            )
        };
        let shown = |wait: (TallyKey, DelayCounts)| {
            let mut aggregator = Aggregator::default();
            aggregator.name(wait.0, SampleKey { class: wait.0.class(), ..waiter }, Ended::Root);
            aggregator.settle_waits(&[wait], &partners);
            let done = aggregator.finish();
            (done.tallies.into_iter().collect::<Vec<_>>(), done.losses.of(Loss::StackMissing))
        };
        let counts = Counts { events: 1, weight: 40 };
        let charged = SampleKey { class: CLASS_UNSURE | number << CLASS_BITS, ..waker };
        assert_eq!(shown(wait(Source::MUTEX, bits)), (vec![(charged, counts)], 0));
        let blocked = SampleKey { class: CLASS_UNSURE | 1 << CLASS_BITS, ..waiter };
        assert_eq!(shown(wait(Source::BLOCK, bits)), (vec![(blocked, counts)], 0));
        // Of one whose end is not known there is nobody to be charged; of a lock by its value, what was counted is the end.
        assert_eq!(shown(wait(Source::MUTEX, waker_bits(1 << 30))), (vec![], 1));
        assert_eq!(shown(wait(Source::MUTEX, 0)), (vec![(waiter, counts)], 0));
    }

    #[test]
    fn what_was_removed_is_not_left() {
        let mut aggregator = Aggregator::default();
        let key = SampleKey { process: ProcessId(0), thread: None, stack: StackId(1), class: 0 };
        let kernel = |stack_hash| TallyKey::new(Source::CALLS, stack_hash, 0);
        let blocks = |count| Blocks { count, bytes: 10 * count, ..Blocks::default() };
        let counts = |allocated, freed| TallyCounts { allocated: blocks(allocated), freed: blocks(freed), ..TallyCounts::default() };
        aggregator.name(kernel(1), key, Ended::Root);
        aggregator.settle_left(&[(kernel(1), counts(5, 2)), (kernel(2), counts(4, 4)), (kernel(3), counts(2, 1))]);
        let done = aggregator.finish();
        assert_eq!(done.tallies[&key], Counts { events: 3, weight: 30 });
        assert_eq!((done.events, done.losses.of(Loss::StackMissing)), (3, 1));
    }

    #[test]
    fn what_lives_is_told_apart_by_age_and_what_was_freed_soon_is_beside_it() {
        let mut aggregator = Aggregator::default();
        let key = SampleKey { process: ProcessId(0), thread: None, stack: StackId(1), class: 64 };
        let kernel = TallyKey::new(Source::CALLS, 1, 64);
        let blocks = |count| Blocks { count, bytes: 60 * count, stand_for: count << 16, stand_for_bytes: (60 * count) << 8 };
        let counts = TallyCounts { allocated: blocks(10), freed: blocks(6), temporary: blocks(5) };
        let (young, old) = (Age::of(std::time::Duration::ZERO), Age::of(std::time::Duration::from_secs(5)));
        aggregator.name(kernel, key, Ended::Root);
        aggregator.settle(&[(kernel, counts)]);
        aggregator.settle_ages(&std::collections::HashMap::from([((kernel, young), blocks(1)), ((kernel, old), blocks(3))]));
        let done = aggregator.finish().blocks;
        let of = |class| done.get(&SampleKey { class, ..key }).map(|counts| (counts.allocated.count, counts.in_use().count));
        assert_eq!(of(life::temporary(64)), Some((5, 0)));
        assert_eq!(of(life::with_age(64, young)), Some((1, 1)));
        assert_eq!(of(life::with_age(64, old)), Some((3, 3)));
        assert_eq!(of(64), Some((1, 0)));
        assert_eq!(done.len(), 4);
        // An estimate of what was freed soon is no more than what was freed.
        let (rest, soon) = without_temporary(&TallyCounts { temporary: blocks(8), ..counts });
        assert_eq!((rest.allocated, rest.in_use(), soon.allocated), (blocks(4), blocks(4), blocks(6)));
    }

    #[test]
    fn what_the_kernel_counted_is_taken_over_under_its_name_and_the_rest_is_lost() {
        let mut aggregator = Aggregator::default();
        let key = SampleKey { process: ProcessId(0), thread: None, stack: StackId(1), class: 64 };
        let kernel = |stack_hash| TallyKey::new(Source::CALLS, stack_hash, 64);
        let blocks = |count, bytes| Blocks { count, bytes, ..Blocks::default() };
        let counts =
            |allocated| TallyCounts { allocated: blocks(allocated, 60 * allocated), freed: blocks(1, 60), ..TallyCounts::default() };
        // Two stacks that turned out to be one.
        aggregator.name(kernel(1), key, Ended::Root);
        aggregator.name(kernel(2), key, Ended::NoTable);
        aggregator.settle(&[(kernel(1), counts(3)), (kernel(2), counts(2)), (kernel(3), counts(7))]);
        let done = aggregator.finish();
        assert_eq!(done.blocks[&key], TallyCounts { allocated: blocks(5, 300), freed: blocks(2, 120), ..TallyCounts::default() });
        assert_eq!((done.events, done.losses.of(Loss::StackMissing)), (5, 7));
    }
}
