//! A part of a file's table: the rules of up to [`PART_ROWS_MAX`] places in a stretch of its code, at 4 bytes a row.
//!
//! ```text
//!   word 0      bytes of code that the part covers
//!   word 1      shift: a bucket is 2^shift bytes of code
//!   word 2      where the rows begin            (words from the part's beginning, as all places here)
//!   word 3      where the index begins
//!   word 4..    the distinct rules that have no short form, 2 words each (low word first)
//!   index       u16 for each bucket and one more: rows that begin before it
//!   rows        u32: where in its bucket the row begins (high half); its rule (low half): the short form, or [`BY_NUMBER`] and which of the rules it is
//! ```
//!
//! A search is made for the processor's caches: what it touches is cold, and so is the way to each page. So the head is read once for a range ([`Head`]), and most
//! rows need no third page. Row 0 begins at place 0. The rows of a bucket are searched by quarters; if none begins at or before the place, the row before them holds.
//! Nothing that stands in a part is trusted: every access goes through `word`, which must be harmless for any place.

use super::quarters;
use super::rule::Rule;
use super::short_rule;

/// Rows of one part.
pub const PART_ROWS_MAX: usize = 0xffff;
/// Words in front of the rules.
pub const HEADER_WORDS: u64 = 4;
/// A place in a bucket has 16 bits.
pub const SHIFT_MAX: u32 = 16;

/// In a row: its rule has no short form, and this is its number.
pub const BY_NUMBER: u32 = 1 << 15;

const _: () = assert!(short_rule::BITS == 15);

/// What stands in front of a part.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Head {
    /// Bytes of code.
    pub length: u64,
    /// A bucket is 2^shift bytes of code; below 32.
    pub shift: u64,
    /// Where the rows begin.
    pub rows: u64,
    /// Where the index begins.
    pub index: u64,
}

impl Head {
    /// Of a part.
    #[inline(always)]
    pub fn of(word: impl Fn(u64) -> u32) -> Self {
        Self { length: u64::from(word(0)), shift: u64::from(word(1) & 31), rows: u64::from(word(2)), index: u64::from(word(3)) }
    }

    /// The rule for a place of the part; [`Rule::NONE`] where it has none. `hide` is that of `quarters`.
    #[inline(always)]
    pub fn find(&self, word: impl Fn(u64) -> u32, at: u64, hide: impl Fn(u64) -> u64) -> Rule {
        if at >= self.length {
            return Rule::NONE;
        }
        let shift = self.shift & 31;
        let bucket = at >> shift;
        let first = half(&word, self.index, bucket);
        let count = half(&word, self.index, bucket.wrapping_add(1)).wrapping_sub(first) & 0xffff;
        let rows = self.rows.wrapping_add(first);
        let place = at & (1u64 << shift).wrapping_sub(1);
        let begun = quarters::at_or_before(|row| u64::from(word(rows.wrapping_add(row)) >> 16), count, place, hide);
        let rule = word(rows.wrapping_add(begun).wrapping_sub(1));
        if rule & BY_NUMBER == 0 {
            return short_rule::long(rule);
        }
        let rule = HEADER_WORDS.wrapping_add(u64::from(rule & (BY_NUMBER - 1)).wrapping_mul(2));
        Rule(u64::from(word(rule)) | u64::from(word(rule.wrapping_add(1))) << 32)
    }
}

/// [`Head::find`] for one place.
#[inline(always)]
pub fn find(word: impl Fn(u64) -> u32, at: u64, hide: impl Fn(u64) -> u64) -> Rule {
    Head::of(&word).find(word, at, hide)
}

#[inline(always)]
fn half(word: &impl Fn(u64) -> u32, index: u64, at: u64) -> u64 {
    u64::from(word(index.wrapping_add(at >> 1)) >> ((at & 1) << 4) & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Two rules, rows at 0, 10, 100 (none), 300, in buckets of 64 bytes.
    fn part() -> Vec<u32> {
        let rows = [(0u32, 0u32), (10, 1), (100, 2), (300, 1)];
        let (shift, code) = (6, 400u32);
        let buckets = (code >> shift) + 2;
        let before = |bucket: u32| rows.iter().filter(|(at, _)| *at < bucket << shift).count() as u32;
        let mut words = std::vec![code, shift, 0, 0, 0x11, 0x21, 0x12, 0x22, 0, 0];
        words[3] = words.len() as u32;
        words.extend((0..buckets.div_ceil(2)).map(|pair| before(2 * pair) | before(2 * pair + 1) << 16));
        words[2] = words.len() as u32;
        words.extend(rows.map(|(at, rule)| (at & 63) << 16 | BY_NUMBER | rule));
        words
    }

    #[test]
    fn the_row_that_holds_is_the_last_one_at_or_before_the_place() {
        let part = part();
        let find = |at| find(|word| part.get(word as usize).copied().unwrap_or(0), at, |value| value);
        let (a, b) = (Rule(0x21_0000_0011), Rule(0x22_0000_0012));
        for (at, rule) in [(0, a), (9, a), (10, b), (63, b), (64, b), (99, b), (100, Rule::NONE), (299, Rule::NONE), (300, b), (399, b)] {
            assert_eq!(find(at), rule, "at {at}");
        }
        assert_eq!(find(400), Rule::NONE);
    }

    proptest::proptest! {
        #[test]
        fn any_words_give_some_rule(words in proptest::collection::vec(proptest::prelude::any::<u32>(), 1..200), at: u32) {
            find(|word| words[word as usize % words.len()], at.into(), |value| value);
        }
    }
}
