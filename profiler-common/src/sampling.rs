//! Which blocks are sampled, and what each stands for: the estimator of Go, jemalloc and tcmalloc without a countdown to keep.
//!
//! A block of S bytes is taken with probability p = 1 - e^(-S/R), decided for each call alone, and stands for 1/p blocks and S/p bytes. Whatever p is, the
//! sums are unbiased as long as the same p decides and weighs: so the error of the approximation below costs nothing but a slightly other rate.

/// Largest mean distance between samples, bytes: what keeps the arithmetic within 64 bits.
pub const SAMPLE_BYTES_MAX: u64 = 1 << 30;
/// A block of so many times the distance is always taken: p differs from 1 by less than 2^-23.
const CERTAIN: u64 = 16;
/// One in the numbers of blocks that a sample stands for.
pub const ONE_BLOCK: u64 = 1 << 16;
/// One in the numbers of bytes that a sample stands for.
pub const ONE_BYTE: u64 = 1 << 8;

/// What 2^32 is to the odds of a sample: certainty.
const CERTAINTY: u64 = 1 << 32;
/// e^(-i/16) in units of 2^-32.
const TABLE: [u64; 256] = table();
/// Bits behind the point of S/R.
const POINT: u32 = 28;

/// The odds of a block, out of 2^32; never 0.
#[inline(always)]
pub fn odds(size: u64, sample_bytes: u64) -> u64 {
    if sample_bytes <= 1 || size >= sample_bytes.wrapping_mul(CERTAIN) {
        return CERTAINTY;
    }
    let x = (size << POINT) / sample_bytes;
    let whole = (x >> (POINT - 4)) as usize & 255;
    let rest = x & ((1 << (POINT - 4)) - 1);
    // 1 - e^(-rest), for a rest below 1/16.
    let square = (rest * rest) >> POINT;
    let cube = (square * rest) >> POINT;
    let leaves = rest - square / 2 + cube / 6;
    let kept = TABLE[whole];
    let odds = (CERTAINTY - kept) + ((kept * leaves) >> POINT);
    if odds == 0 { 1 } else { odds }
}

/// What a sampled block stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weight {
    /// Blocks, in units of 2^-16.
    pub blocks: u64,
    /// Bytes, in units of 2^-8.
    pub bytes: u64,
}

/// What a block that was taken with these odds stands for.
#[inline(always)]
pub fn weight(size: u64, odds: u64) -> Weight {
    if odds >= CERTAINTY {
        return Weight { blocks: ONE_BLOCK, bytes: size * ONE_BYTE };
    }
    let blocks = (ONE_BLOCK << 32) / odds;
    Weight { blocks, bytes: bytes_for(size, blocks) }
}

/// The bytes that a block stands for, in units of 2^-8, when it stands for so many blocks.
#[inline(always)]
pub const fn bytes_for(size: u64, blocks: u64) -> u64 {
    size.wrapping_mul(blocks) / (ONE_BLOCK / ONE_BYTE)
}

/// How many blocks one stands for that stands for so many bytes, in units of 2^-16. One without a size stands for itself.
#[inline(always)]
pub const fn blocks_for(size: u64, bytes: u64) -> u64 {
    const MOST: u64 = u64::MAX / ONE_BLOCK;
    if size == 0 || bytes > MOST { ONE_BLOCK } else { bytes * ONE_BLOCK / size }
}

/// The highest level of [`is_followed`].
pub const LEVEL_MAX: u32 = 27;

/// Whether a sampled block is one of those that are followed, where one in 2^`level` is: by a random number of its own, so that one that is followed at a level was
/// followed at all below it. Whatever the level has become, a block is followed with the same odds, and stands for what they say: the sum is unbiased.
#[inline(always)]
pub const fn is_followed(ticket: u32, level: u32) -> bool {
    level == 0 || ticket >> (32 - level) == 0
}

/// The longest `longest` of [`delay_odds`], ns: what keeps the arithmetic within 64 bits.
pub const DELAY_NS_MAX: u64 = 1 << 32;

/// The odds of a delay, out of 2^32: certain from `longest` on, and in proportion to its length below.
#[inline(always)]
pub fn delay_odds(delay_ns: u64, longest_ns: u64) -> u64 {
    if delay_ns >= longest_ns { CERTAINTY } else { (delay_ns << 32).checked_div(longest_ns).unwrap_or(CERTAINTY) }
}

/// How many delays one stands for that was taken with those odds, in units of 2^-16. Nothing has no odds, and stands for nothing.
#[inline(always)]
pub fn delay_stands_for(delay_ns: u64, longest_ns: u64) -> u64 {
    if delay_ns >= longest_ns {
        return ONE_BLOCK;
    }
    (longest_ns << 16).checked_div(delay_ns).unwrap_or(0)
}

/// A part of such a delay, times what it stands for.
#[inline(always)]
pub fn delay_weight(part_ns: u64, stands_for: u64) -> u64 {
    if stands_for == ONE_BLOCK { part_ns } else { (part_ns.wrapping_mul(stands_for)) >> 16 }
}

/// e^(-1/16) to the power of i, in units of 2^-32.
const fn table() -> [u64; 256] {
    // e^(-1/16) * 2^62.
    const STEP: u128 = 4_332_278_087_304_955_804;
    let mut table = [CERTAINTY; 256];
    let mut power: u128 = 1 << 62;
    let mut at = 0;
    while at < 256 {
        table[at] = (power >> 30) as u64;
        power = (power * STEP) >> 62;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_stands_for_as_many_as_its_bytes_are_more_than_its_size() {
        assert_eq!((blocks_for(100, 100), blocks_for(64, 64 * 8192)), (ONE_BLOCK, 8192 * ONE_BLOCK));
        assert_eq!((blocks_for(0, 5), blocks_for(1, u64::MAX)), (ONE_BLOCK, ONE_BLOCK));
        let bytes = bytes_for(1000, blocks_for(1000, 524_788)) / ONE_BYTE;
        assert!((524_787..=524_788).contains(&bytes), "{bytes}");
    }

    #[test]
    fn odds_are_those_of_the_exponential() {
        for sample_bytes in [2, 100, 4096, 512 << 10, 1 << 30] {
            for size in (0..40).flat_map(|bit| [1u64 << bit, (1 << bit) + (1 << bit) / 3]) {
                let exact = -(-(size as f64) / sample_bytes as f64).exp_m1() * CERTAINTY as f64;
                let ours = odds(size, sample_bytes) as f64;
                assert!((ours - exact).abs() <= (exact * 1e-3).max(17.0), "{size} of {sample_bytes}: {ours} instead of {exact}");
            }
        }
    }

    #[test]
    fn what_is_taken_stands_for_what_is_not() {
        // The expected weight is exact by construction, up to rounding.
        for sample_bytes in [1, 64, 4096, 512 << 10, 1 << 30] {
            for size in [1, 8, 24, 64, 1000, 4096, 100_000, 1 << 20, 1 << 26, 1 << 33] {
                let odds = odds(size, sample_bytes);
                let Weight { blocks, bytes } = weight(size, odds);
                let share = odds as f64 / CERTAINTY as f64;
                assert!((blocks as f64 / 65536.0 * share - 1.0).abs() < 1e-4, "{size} of {sample_bytes}");
                assert!((bytes as f64 / 256.0 * share / size as f64 - 1.0).abs() < 1e-3, "{size} of {sample_bytes}");
            }
        }
    }

    #[test]
    fn a_delay_that_is_taken_stands_for_those_that_are_not() {
        for longest in [1, 1_000, 10_000_000, DELAY_NS_MAX] {
            for delay in [1, 3, 999, 1_000, 65_537, 9_999_999, 1 << 31, 1 << 40] {
                let (odds, stands_for) = (delay_odds(delay, longest), delay_stands_for(delay, longest));
                let share = odds as f64 / CERTAINTY as f64;
                let expected = share * delay_weight(delay, stands_for) as f64;
                // Odds are whole numbers out of 2^32: the shortest delays at the longest distance lose by rounding.
                assert!((expected / delay as f64 - 1.0).abs() < 2e-3, "{delay} of {longest}: {expected}");
            }
        }
        assert_eq!((delay_odds(0, 1), delay_stands_for(0, 1)), (0, 0));
    }

    #[test]
    fn half_of_those_that_are_followed_are_at_the_next_level() {
        let tickets = (0..1u32 << 16).map(|at| at << 16);
        for level in 0..=8 {
            assert_eq!(tickets.clone().filter(|ticket| is_followed(*ticket, level)).count(), 1 << (16 - level));
            assert!(tickets.clone().filter(|ticket| is_followed(*ticket, level + 1)).all(|ticket| is_followed(ticket, level)));
        }
        assert!(is_followed(0, LEVEL_MAX) && is_followed(31, LEVEL_MAX) && !is_followed(32, LEVEL_MAX));
    }

    #[test]
    fn every_block_is_taken_at_a_distance_of_one() {
        assert_eq!((odds(0, 1), odds(1, 1)), (CERTAINTY, CERTAINTY));
        assert_eq!(weight(13, odds(13, 1)), Weight { blocks: ONE_BLOCK, bytes: 13 * ONE_BYTE });
        assert!(odds(0, 512 << 10) <= 1);
    }
}
