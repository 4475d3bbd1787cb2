//! Waits that were counted in the kernel.

use super::error::BpfError;
use super::lock_words::LockWords;
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
    /// Where who ends waits is charged.
    words: Option<LockWords>,
}

impl Waits {
    pub(super) fn new(delays: Delays, sleeps: Sleeps, words: Option<LockWords>) -> Self {
        Self { delays, sleeps, words }
    }

    /// Gives back what processes have left that have ended.
    pub(super) fn tidy(&mut self) -> Result<(), BpfError> {
        self.words.as_mut().map_or(Ok(()), LockWords::tidy)
    }

    /// Whether a thread that slept when the counting stopped has come back since, or is gone.
    pub(super) fn has_gone_on(&self, tid: u32, task: u64) -> bool {
        let Ok(sleep) = self.sleeps.get(&tid, 0) else { return true };
        let sleep: Sleep = zerocopy::transmute!(sleep);
        sleep.task != task || sleep.has_gone_on != 0
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
