//! What is counted beside what the kernel has counted: waits that are not over, and threads that were there.

use crate::bpf::Sleeper;
use crate::config::Config;
use profiler_common::sampling::ONE_BLOCK;
use profiler_common::source::Source;
use profiler_common::tally::TallyKey;
use profiler_common::wait::{CLASS_ONGOING, DelayCounts, RELEASED, STATE_RUNNABLE, Sleep, SleepFilter, waker_bits};
use std::collections::BTreeMap;

/// Threads that wait still, and for how long all together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Asleep {
    pub(super) threads: u64,
    pub(super) ns: u64,
}

/// What is counted beside what the kernel has counted.
#[derive(Default)]
pub(super) struct Beside {
    counts: Vec<(TallyKey, DelayCounts)>,
    asleep: BTreeMap<Source, Asleep>,
    /// Of time off the CPU, what its filter leaves out.
    pub(super) left_out: Asleep,
}

impl Beside {
    /// Of a source.
    pub(super) fn of(&self, source: Source) -> impl Iterator<Item = (TallyKey, DelayCounts)> {
        self.counts.iter().filter(move |(key, _)| key.source() == source.number()).copied()
    }

    /// Counts something more under a key.
    pub(super) fn push(&mut self, key: TallyKey, counts: DelayCounts) {
        self.counts.push((key, counts));
    }

    /// Who waits still.
    pub(super) fn asleep(&self, source: Source) -> Asleep {
        self.asleep.get(&source).copied().unwrap_or_default()
    }

    /// Adds what a thread has waited until now; the keys of its stack are those that it is counted under.
    pub(super) fn add(&mut self, number: usize, sleeper: &Sleeper, at: (u64, &Config)) -> Vec<TallyKey> {
        let (sleep, (stopped_ns, config)) = (&sleeper.sleep, at);
        let (sources, before) = (config.sources(), self.counts.len());
        let (slept, waited) = sleep.parts(stopped_ns);
        let is_blocked = sleep.state != STATE_RUNNABLE;
        // On kernels that do not show each return, one that was preempted may have been running since.
        if !is_blocked && sleep.has_gone_on == 0 && sleeper.seen.record.is_on_cpu != 0 {
            return Vec::new();
        }
        for source in [Source::OFF_CPU, Source::BLOCK, Source::MUTEX].into_iter().filter(|source| sources.contains(source)) {
            if is_blocked && (source == Source::OFF_CPU || sleep.word != 0) {
                if source == Source::MUTEX && sleep.released == RELEASED {
                    continue; // It waits for a CPU.
                }
                let asleep = self.asleep.entry(source).or_default();
                *asleep = Asleep { threads: asleep.threads + 1, ns: asleep.ns + slept + waited + sleep_before(source, sleep) };
            }
        }
        let waker = waker_bits(sleep.waker);
        let shown_waker = if config.waiting.pairs { waker } else { 0 };
        let key = |source, class| TallyKey::new(source, number as u64 + 1, class | CLASS_ONGOING);
        if sources.contains(&Source::OFF_CPU) {
            match off_cpu(config.waiting.sleeps, sleep.state, (slept, waited)) {
                Some(counts) => self.counts.push((key(Source::OFF_CPU, shown_waker), counts)),
                None => self.left_out = Asleep { threads: self.left_out.threads + 1, ns: self.left_out.ns + slept + waited },
            }
        }
        if sources.contains(&Source::BLOCK) && sleep.word != 0 {
            // A timed wait that is repeated at the same word is one.
            let events_for = if sleep.unreleased == sleep.word { 0 } else { ONE_BLOCK };
            let counts = DelayCounts { events: 1, events_for, ns_for: slept + waited, ..DelayCounts::default() };
            self.counts.push((key(Source::BLOCK, u64::from(sleep.class) | shown_waker), counts));
        }
        if sources.contains(&Source::MUTEX) && sleep.is_charged != 0 {
            let fraction = u64::from(config.waiting.mutex_fraction);
            let counts =
                DelayCounts { events: 1, events_for: fraction * ONE_BLOCK, ns_for: sleep.charged_ns * fraction, ..DelayCounts::default() };
            self.counts.push((key(Source::MUTEX, u64::from(sleep.class) | waker), counts));
        }
        self.counts[before..].iter().map(|(key, _)| *key).collect()
    }
}

/// What of a wait that is repeated was not charged yet.
fn sleep_before(source: Source, sleep: &Sleep) -> u64 {
    if source == Source::MUTEX { sleep.carried_ns } else { 0 }
}

/// What is counted of a time off the CPU; None: nothing.
fn off_cpu(filter: SleepFilter, state: u16, (slept, waited): (u64, u64)) -> Option<DelayCounts> {
    let (slept, waited) = filter.kept(state, slept, waited);
    let one_if = |ns| if ns > 0 { ONE_BLOCK } else { 0 };
    let counts = DelayCounts { events: 1, events_for: one_if(slept), ns_for: slept, runnable_for: one_if(waited), runnable_ns_for: waited };
    (slept + waited > 0).then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::SeenThread;
    use profiler_common::snapshot::ThreadRecord;
    use profiler_common::wait::{STATE_INTERRUPTIBLE, Sleep};
    use zerocopy::FromZeros as _;

    fn sleeper(sleep: Sleep) -> Sleeper {
        Sleeper { sleep, seen: SeenThread { record: ThreadRecord::new_zeroed(), kernel: Vec::new() } }
    }

    #[test]
    fn a_wait_that_goes_on_is_counted_up_to_the_end_in_each_kind_that_it_belongs_to() {
        use crate::config::Event;
        let config = Config { events: vec![Event::OffCpu, Event::Block, Event::Mutex], ..Config::default() };
        let mut beside = Beside::default();
        let sleep = Sleep { left_ns: 100, leaves: 2, returns: 1, state: STATE_INTERRUPTIBLE, word: 8, ..Sleep::default() };
        assert_eq!(beside.add(0, &sleeper(sleep), (150, &config)).len(), 2);
        // One that waits for no other thread, and one that was woken and waits for a CPU.
        assert_eq!(beside.add(1, &sleeper(Sleep { word: 0, ..sleep }), (150, &config)).len(), 1);
        assert_eq!(beside.add(2, &sleeper(Sleep { word: 0, woken_ns: 140, ..sleep }), (150, &config)).len(), 1);
        let off_cpu: Vec<_> = beside.of(Source::OFF_CPU).map(|(_, counts)| (counts.ns_for, counts.runnable_ns_for)).collect();
        assert_eq!(off_cpu, [(50, 0), (50, 0), (40, 10)]);
        assert_eq!(beside.of(Source::BLOCK).map(|(_, counts)| counts.ns_for).collect::<Vec<_>>(), [50]);
        assert_eq!(beside.asleep(Source::MUTEX), Asleep { threads: 1, ns: 50 });
        assert_eq!(beside.asleep(Source::OFF_CPU), Asleep { threads: 3, ns: 150 });
    }

    #[test]
    fn a_charge_whose_thread_is_not_back_is_counted_and_the_thread_waits_no_longer() {
        use crate::config::{Event, Waiting};
        let config =
            Config { events: vec![Event::Mutex], waiting: Waiting { mutex_fraction: 3, ..Waiting::default() }, ..Config::default() };
        let mut beside = Beside::default();
        let waits = Sleep { left_ns: 100, leaves: 2, returns: 1, state: STATE_INTERRUPTIBLE, word: 8, ..Sleep::default() };
        let charged = Sleep { woken_ns: 140, released: RELEASED, is_charged: 1, charged_ns: 30, waker: 1 << 30, ..waits };
        let keys = beside.add(0, &sleeper(charged), (150, &config));
        assert_eq!(keys.iter().map(|key| key.class()).collect::<Vec<_>>(), [CLASS_ONGOING | waker_bits(1 << 30)]);
        assert_eq!(beside.of(Source::MUTEX).map(|(_, counts)| (counts.events, counts.ns_for)).collect::<Vec<_>>(), [(1, 90)]);
        assert_eq!(beside.asleep(Source::MUTEX), Asleep::default());
        // One that goes on with what it has waited before.
        assert!(beside.add(1, &sleeper(Sleep { carried_ns: 7, ..waits }), (150, &config)).is_empty());
        assert_eq!(beside.asleep(Source::MUTEX), Asleep { threads: 1, ns: 57 });
    }

    #[test]
    fn who_was_preempted_and_runs_is_not_asleep() {
        let config = Config { events: vec![crate::config::Event::OffCpu], ..Config::default() };
        let mut running = sleeper(Sleep { left_ns: 100, leaves: 1, state: STATE_RUNNABLE, ..Sleep::default() });
        let mut beside = Beside::default();
        assert_eq!(beside.add(0, &running, (150, &config)).len(), 1);
        running.seen.record.is_on_cpu = 1;
        assert!(beside.add(1, &running, (150, &config)).is_empty());
        assert_eq!(beside.asleep(Source::OFF_CPU), Asleep::default());
    }
}
