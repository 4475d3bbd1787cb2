//! How far off sums of blocks may be that are estimates: blocks are taken by chance, and where more live than there is room for, they are followed by chance.

use crate::bpf::Counted;
use crate::model::loss::Loss;
use profiler_common::sampling::{ONE_BLOCK, ONE_BYTE};
use profiler_common::tally::{Blocks, TallyCounts, TallyKey};

/// What was allocated: blocks are taken by chance, and the larger, the likelier.
pub(super) fn of_allocated(sample_bytes: u64, tallies: &[(TallyKey, TallyCounts)]) -> Option<String> {
    let Estimate { blocks, percent } = Estimate::of(tallies.iter().map(|(_, counts)| counts.allocated), 0);
    (sample_bytes > 1 && blocks > 0.0)
        .then(|| format!("alloc_space is an estimate from {blocks:.0} samples: standard error {percent:.2} %"))
}

/// How many frees were of blocks that were never seen: those that no block of the recording can account for.
pub(super) fn of_unseen(sample_bytes: u64, freed: &Frees, counted: &Counted) -> Option<String> {
    // Where there was no room for all that lives, frees of what was let go look like those of what was never seen.
    if sample_bytes <= 1 && counted.losses.of(Loss::LiveFull) == 0 {
        return Some(format!("frees of blocks that were never seen, such as older ones: {}", counted.other_frees));
    }
    let all = counted.frees + counted.other_frees;
    let unseen = (all as f64 - freed.number).max(0.0);
    Some(format!(
        "frees of blocks that were never seen, such as older ones: about {unseen:.0} of {all} frees, standard error {:.0}",
        freed.variance.sqrt()
    ))
}

/// How many blocks were freed that were allocated here, by those of them that were sampled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frees {
    number: f64,
    variance: f64,
}

impl Frees {
    /// By what was counted, at a moment at which nothing counts.
    pub(super) fn of(tallies: &[(TallyKey, TallyCounts)]) -> Self {
        let (mut number, mut variance) = (0.0, 0.0);
        let sums = tallies.iter().map(|(_, counts)| counts.allocated.beyond(&counts.in_use()));
        for sum in sums.filter(|sum| sum.count > 0) {
            let (taken, objects) = (sum.count as f64, sum.stand_for as f64 / ONE_BLOCK as f64);
            number += objects;
            // As below: each of n that were taken with odds q stands for 1/q.
            variance += objects * objects / taken * (1.0 - (taken / objects.max(taken)));
        }
        Self { number, variance }
    }
}

/// What is in use, where one sampled block in 2^`level` was followed.
pub(super) fn of_in_use(tallies: &[(TallyKey, TallyCounts)], level: u32) -> Vec<String> {
    let mut notes = thinned(level);
    let error = Estimate::of(tallies.iter().map(|(_, counts)| counts.in_use()), level);
    notes.extend(
        (error.percent > 0.0)
            .then(|| format!("inuse_space is an estimate from {:.0} blocks: standard error {:.2} %", error.blocks, error.percent)),
    );
    notes
}

/// Says that not all that lives was followed.
pub(super) fn thinned(level: u32) -> Vec<String> {
    let one_in = 1_u64 << level;
    let note = || {
        format!(
            "there was more at once than --live-entries has room for: one in {one_in} was followed to its end, and stands for the others"
        )
    };
    (level > 0).then(note).into_iter().collect()
}

/// From how many blocks a sum of bytes is estimated, and its standard error.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Estimate {
    blocks: f64,
    percent: f64,
}

impl Estimate {
    /// Of sums, each of blocks that are about as large. Each was taken, and one in 2^`level` followed, with odds q in all; n of them stand for n/q, with a variance of
    /// n (1-q) / q^2.
    fn of(sums: impl Iterator<Item = Blocks>, level: u32) -> Self {
        let (mut blocks, mut bytes, mut variance) = (0.0, 0.0, 0.0);
        for sum in sums {
            let taken = sum.count as f64 / (1_u64 << level) as f64;
            if taken > 0.0 {
                let (objects, of_sum) = (sum.stand_for as f64 / ONE_BLOCK as f64, sum.stand_for_bytes as f64 / ONE_BYTE as f64);
                let odds = (taken / objects.max(taken)).min(1.0);
                blocks += taken;
                bytes += of_sum;
                variance += of_sum * of_sum / taken * (1.0 - odds);
            }
        }
        Self { blocks, percent: if bytes > 0.0 { 100.0 * f64::sqrt(variance) / bytes } else { 0.0 } }
    }
}

#[cfg(test)]
mod tests;
