//! Waits that were counted in the kernel.

use super::error::BpfError;
use super::options::CaptureOptions;
use crate::config::Traced;
use aya::maps::{HashMap, MapData, MapError};
use profiler_common::source::Source;
use profiler_common::tally::TallyKey;
use profiler_common::wait::DelayCounts;

/// Words of a [`TallyKey`], and of [`DelayCounts`].
const KEY_WORDS: usize = size_of::<TallyKey>() / 8;
/// As above.
const COUNTS_WORDS: usize = size_of::<DelayCounts>() / 8;

/// The map of counts.
pub(super) type Delays = HashMap<MapData, [u64; KEY_WORDS], [u64; COUNTS_WORDS]>;

/// The counts.
pub(super) struct Waits {
    delays: Delays,
}

impl Waits {
    pub(super) fn new(delays: Delays) -> Self {
        Self { delays }
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
