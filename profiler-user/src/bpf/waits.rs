//! Waits that were counted in the kernel.

use super::error::BpfError;
use super::options::CaptureOptions;
use crate::config::Traced;
use aya::maps::{HashMap, MapData, MapError};
use profiler_common::source::Source;
use profiler_common::tally::TallyKey;
use profiler_common::wait::{DelayCounts, Sleep};

/// Words of a [`TallyKey`], and of [`DelayCounts`].
const KEY_WORDS: usize = size_of::<TallyKey>() / 8;
/// As above.
const COUNTS_WORDS: usize = size_of::<DelayCounts>() / 8;

/// The map of counts.
pub(super) type Delays = HashMap<MapData, [u64; KEY_WORDS], [u64; COUNTS_WORDS]>;

/// Words of a [`Sleep`].
const SLEEP_WORDS: usize = size_of::<Sleep>() / 8;

/// The map of threads.
pub(super) type Sleeps = HashMap<MapData, u32, [u64; SLEEP_WORDS]>;

/// The counts, and the threads that are still to be counted.
pub(super) struct Waits {
    delays: Delays,
    sleeps: Sleeps,
}

/// Threads that have gone to sleep and are not back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asleep {
    /// How many.
    pub threads: u64,
    /// For how long until now, all together.
    pub ns: u64,
}

impl Asleep {
    /// Adds a thread, if its sleep is of that source.
    fn add(&mut self, source: Source, sleep: &Sleep, now_ns: u64) {
        let is_wait = source == Source::OFF_CPU || sleep.word != 0;
        if sleep.leaves != sleep.returns && sleep.is_runnable == 0 && is_wait {
            self.threads += 1;
            self.ns += now_ns.saturating_sub(sleep.left_ns);
        }
    }
}

impl Waits {
    pub(super) fn new(delays: Delays, sleeps: Sleeps) -> Self {
        Self { delays, sleeps }
    }

    /// Who sleeps still, of those that have gone to sleep while recording.
    pub(super) fn asleep(&self, source: Source, now_ns: u64) -> Result<Asleep, BpfError> {
        let mut asleep = Asleep::default();
        for entry in self.sleeps.iter() {
            let (_, sleep) = entry.map_err(|error| BpfError::Map { map: "SLEEPS", reason: error.to_string() })?;
            asleep.add(source, &zerocopy::transmute!(sleep), now_ns);
        }
        Ok(asleep)
    }

    /// All counts of a source. Nothing writes any more.
    pub(super) fn read(&self, source: Source) -> Result<Vec<(TallyKey, DelayCounts)>, BpfError> {
        let failed = |error: MapError| BpfError::Map { map: "DELAYS", reason: error.to_string() };
        let mut counts = Vec::new();
        for entry in self.delays.iter() {
            let (key, delays) = entry.map_err(failed)?;
            let key: TallyKey = zerocopy::transmute!(key);
            if key.source() == source.number() {
                counts.push((key, zerocopy::transmute!(delays)));
            }
        }
        Ok(counts)
    }
}

/// Whether anything is counted there.
pub(super) fn are_counted(options: &CaptureOptions) -> bool {
    options.traced.iter().any(|traced| matches!(traced, Traced::Waits | Traced::NewThreads))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_back_or_only_wants_a_cpu_is_not_asleep() {
        let sleep = Sleep { left_ns: 100, leaves: 2, returns: 1, ..Sleep::default() };
        let of = |source, sleep: Sleep| {
            let mut asleep = Asleep::default();
            asleep.add(source, &sleep, 150);
            asleep
        };
        assert_eq!(of(Source::OFF_CPU, sleep), Asleep { threads: 1, ns: 50 });
        assert_eq!(of(Source::BLOCK, sleep), Asleep::default());
        assert_eq!(of(Source::BLOCK, Sleep { word: 8, ..sleep }), Asleep { threads: 1, ns: 50 });
        assert_eq!(of(Source::OFF_CPU, Sleep { returns: 2, ..sleep }), Asleep::default());
        assert_eq!(of(Source::OFF_CPU, Sleep { is_runnable: 1, ..sleep }), Asleep::default());
    }
}
