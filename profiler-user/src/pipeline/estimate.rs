//! How far off sums of blocks may be that are estimates: blocks are taken by chance, and where more live than there is room for, they are followed by chance.

use profiler_common::sampling::{ONE_BLOCK, ONE_BYTE};
use profiler_common::tally::{TallyCounts, TallyKey};

/// What was allocated: blocks are taken by chance, each for about as many bytes as any other.
pub(super) fn of_allocated(sample_bytes: u64, sampled: u64) -> Option<String> {
    let percent = 100.0 / (sampled as f64).sqrt();
    (sample_bytes > 1 && sampled > 0).then(|| format!("alloc_space is an estimate from {sampled} samples: standard error {percent:.2} %"))
}

/// What is in use, where one sampled block in 2^`level` was followed.
pub(super) fn of_in_use(tallies: &[(TallyKey, TallyCounts)], level: u32) -> Vec<String> {
    let mut notes = thinned(level);
    let error = InUse::of(tallies, level);
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

/// From how many blocks what is in use is estimated, and the standard error.
#[derive(Clone, Copy, PartialEq, Debug)]
struct InUse {
    blocks: f64,
    percent: f64,
}

impl InUse {
    /// Blocks of one key are about as large. Each was taken, and followed, with odds q; n that live stand for n/q, with a variance of n (1-q) / q^2.
    fn of(tallies: &[(TallyKey, TallyCounts)], level: u32) -> Self {
        let (mut blocks, mut bytes, mut variance) = (0.0, 0.0, 0.0);
        for (_, counts) in tallies {
            let in_use = counts.in_use();
            let followed = in_use.count as f64 / (1_u64 << level) as f64;
            if followed > 0.0 {
                let (objects, of_key) = (in_use.stand_for as f64 / ONE_BLOCK as f64, in_use.stand_for_bytes as f64 / ONE_BYTE as f64);
                let odds = (followed / objects.max(followed)).min(1.0);
                blocks += followed;
                bytes += of_key;
                variance += of_key * of_key / followed * (1.0 - odds);
            }
        }
        Self { blocks, percent: if bytes > 0.0 { 100.0 * f64::sqrt(variance) / bytes } else { 0.0 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::source::Source;
    use profiler_common::tally::Blocks;

    fn tally(hash: u64, in_use: u64, size: u64) -> (TallyKey, TallyCounts) {
        let allocated =
            Blocks { count: in_use, bytes: in_use * size, stand_for: in_use * ONE_BLOCK, stand_for_bytes: in_use * size * ONE_BYTE };
        (TallyKey::new(Source::CALLS, hash, size), TallyCounts { allocated, ..TallyCounts::default() })
    }

    #[test]
    fn what_was_all_followed_has_no_error() {
        assert_eq!(InUse::of(&[tally(1, 100, 64), tally(2, 5, 1024)], 0).percent, 0.0);
        assert!(of_in_use(&[tally(1, 100, 64)], 0).is_empty() && of_in_use(&[], 0).is_empty());
    }

    #[test]
    fn the_error_is_that_of_so_many_taken_with_equal_odds() {
        // 100 of 800: sqrt((1 - 1/8) / 100).
        let error = InUse::of(&[tally(1, 800, 64)], 3);
        assert_eq!(error.blocks, 100.0);
        assert!((error.percent - 9.354).abs() < 0.001, "{error:?}");
        // The same in two keys; and a large one beside many small ones counts for more.
        assert!((InUse::of(&[tally(1, 400, 64), tally(2, 400, 64)], 3).percent - 9.354).abs() < 0.001);
        assert!(InUse::of(&[tally(1, 8, 1 << 20), tally(2, 792, 64)], 3).percent > 80.0);
        let notes = of_in_use(&[tally(1, 800, 64)], 3);
        assert!(notes[0].contains("one in 8 ") && notes[1].contains("from 100 blocks: standard error 9.35 %"), "{notes:?}");
    }

    #[test]
    fn samples_have_the_error_of_their_number() {
        assert_eq!(of_allocated(1, 100), None);
        assert_eq!(of_allocated(1024, 0), None);
        assert!(of_allocated(1024, 400).is_some_and(|note| note.ends_with("from 400 samples: standard error 5.00 %")));
    }
}
