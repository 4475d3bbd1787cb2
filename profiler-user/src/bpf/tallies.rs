//! What was counted in the kernel, by key.

use super::error::BpfError;
use aya::maps::{HashMap, MapData};
use profiler_common::source::Source;
use profiler_common::tally::{TallyCounts, TallyKey};

/// Words of a [`TallyKey`], and of [`TallyCounts`].
pub(super) const KEY_WORDS: usize = size_of::<TallyKey>() / 8;
/// As above.
pub(super) const COUNTS_WORDS: usize = size_of::<TallyCounts>() / 8;
/// The map of counts.
pub(super) type Tallies = HashMap<MapData, [u64; KEY_WORDS], [u64; COUNTS_WORDS]>;

/// All counts of a source. Nothing writes any more.
pub(super) fn read(tallies: &Tallies, source: Source) -> Result<Vec<(TallyKey, TallyCounts)>, BpfError> {
    let failed = |error: aya::maps::MapError| BpfError::Map { map: "TALLIES", reason: error.to_string() };
    tallies
        .iter()
        .map(|entry| {
            let (key, counts) = entry.map_err(failed)?;
            Ok((zerocopy::transmute!(key), zerocopy::transmute!(counts)))
        })
        .filter(|entry| entry.as_ref().map_or(true, |(key, _): &(TallyKey, TallyCounts)| key.source() == source.number()))
        .collect()
}
