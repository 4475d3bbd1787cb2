//! Rows of a whole file to parts that can be searched: `profiler_common::unwind::table` says how a part looks.

use crate::model::unwind::UnwindPart;
use foldhash::HashMap;
use profiler_common::limits::ARENA_CHUNK_WORDS;
use profiler_common::unwind::rule::Rule;
use profiler_common::unwind::short_rule;
use profiler_common::unwind::table::{BY_NUMBER, HEADER_WORDS, PART_ROWS_MAX, SHIFT_MAX};

/// Distinct rules of one part that have no short form; of all, short or not, the most that one was seen to have is 707, in a whole compiler.
const RULES_MAX: usize = 8192;
/// Bytes of code that one part covers.
const LENGTH_MAX: u64 = 1 << 31;
/// Rows for each bucket, at the least and in the mean: fewer make the search shorter and the index longer. At 16 it is an eighth of a byte a row.
const ROWS_PER_BUCKET: usize = 16;

// Whatever the rows are, a part fits into a chunk of the arena.
const _: () = assert!(RULES_MAX < BY_NUMBER as usize);
const _: () = assert!(4 + 2 * RULES_MAX + PART_ROWS_MAX + ((LENGTH_MAX >> SHIFT_MAX) / 2) as usize + 2 < ARENA_CHUNK_WORDS as usize);

/// Takes rows in the order of their places and packs them.
#[derive(Default)]
pub(super) struct Parts {
    done: Vec<UnwindPart>,
    /// The part at work: its first place, and rows (by their distance from it) with the short form or the number of their rule.
    first: u64,
    rows: Vec<(u32, u16)>,
    rules: Vec<Rule>,
    numbers: HashMap<Rule, u16>,
    last: Option<Rule>,
    /// Where the last row begins.
    reached: u64,
    total: u64,
}

impl Parts {
    /// A rule holds from `place` on. Places do not go down: a file that says otherwise is not believed in that row.
    pub(super) fn push(&mut self, place: u64, rule: Rule) {
        if self.last == Some(rule) || place < self.reached {
            return;
        }
        self.reached = place;
        let distance = place.saturating_sub(self.first);
        if let Some((at, _)) = self.rows.last()
            && u64::from(*at) == distance
        {
            self.rows.pop(); // Of two rows at one place the later one holds.
            self.total -= 1;
        }
        let is_full = self.rows.len() >= PART_ROWS_MAX || self.rules.len() >= RULES_MAX || distance >= LENGTH_MAX;
        if is_full && !self.rows.is_empty() {
            self.close(place);
        }
        if self.rows.is_empty() {
            self.first = place;
        }
        let named = match short_rule::short(rule) {
            Some(short) => short as u16,
            None => self.number(rule) | BY_NUMBER as u16,
        };
        self.rows.push(((place - self.first) as u32, named));
        self.last = Some(rule);
        self.total += 1;
    }

    /// Whether this rule holds where the next row begins, unless that says otherwise.
    pub(super) fn goes_on_with(&self, rule: Rule) -> bool {
        self.last == Some(rule)
    }

    fn number(&mut self, rule: Rule) -> u16 {
        let next = self.rules.len() as u16;
        let number = *self.numbers.entry(rule).or_insert(next);
        if number == next {
            self.rules.push(rule);
        }
        number
    }

    /// Everything, after the last row; nothing is known from `end` on.
    pub(super) fn finish(mut self, end: u64) -> (Vec<UnwindPart>, u64) {
        self.close(end);
        (self.done, self.total)
    }

    fn close(&mut self, end: u64) {
        let (rows, rules) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.rules));
        self.numbers.clear();
        self.last = None;
        if !rows.is_empty() {
            let length = end.saturating_sub(self.first).min(LENGTH_MAX) as u32;
            self.done.push(UnwindPart { first: self.first, words: pack(length, &rows, &rules) });
        }
    }
}

fn pack(length: u32, rows: &[(u32, u16)], rules: &[Rule]) -> Vec<u32> {
    let buckets_wanted = (rows.len() / ROWS_PER_BUCKET).max(1);
    let shift = (4..SHIFT_MAX).find(|shift| (length >> shift) as usize <= buckets_wanted).unwrap_or(SHIFT_MAX);
    let ends = (length >> shift) + 2;
    let index = HEADER_WORDS as u32 + 2 * rules.len() as u32;
    let rows_at = index + ends.div_ceil(2);
    let mut words = Vec::with_capacity(rows_at as usize + rows.len());
    words.extend([length, shift, rows_at, index]);
    words.extend(rules.iter().flat_map(|rule| [rule.0 as u32, (rule.0 >> 32) as u32]));
    let mut before = 0;
    let mut rows_before = |bucket: u32| {
        let place = u64::from(bucket) << shift;
        before += rows[before..].iter().take_while(|(at, _)| u64::from(*at) < place).count();
        before as u32
    };
    words.extend((0..ends.div_ceil(2)).map(|pair| rows_before(2 * pair) | rows_before(2 * pair + 1) << 16));
    let mask = (1u32 << shift) - 1;
    words.extend(rows.iter().map(|(at, rule)| (at & mask) << 16 | u32::from(*rule)));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::unwind::rule::{Cfa, Saved};
    use profiler_common::unwind::table::find;
    use proptest::prelude::*;

    fn look_up(parts: &[UnwindPart], place: u64) -> Rule {
        let inside = |part: &&UnwindPart| place.checked_sub(part.first).is_some_and(|at| at < u64::from(part.length()));
        let Some(part) = parts.iter().find(inside) else { return Rule::NONE };
        find(|word| part.word(word), place - part.first, |value| value)
    }

    proptest! {
        #[test]
        fn every_place_finds_its_row(rows in proptest::collection::vec((1u64..3000, 0i32..40), 1..600), from in 0u64..1 << 40) {
            let (mut parts, mut place, mut expected) = (Parts::default(), from, Vec::new());
            for (length, number) in rows {
                let rule = if number == 0 { Rule::NONE } else { Rule::new(Cfa::Sp(number * 8), Saved::Same, Saved::Same) };
                parts.push(place, rule);
                expected.push((place, place + length - 1, rule));
                place += length;
            }
            let (parts, _) = parts.finish(place);
            for (first, last, rule) in expected {
                prop_assert_eq!(look_up(&parts, first), rule);
                prop_assert_eq!(look_up(&parts, last), rule);
            }
            prop_assert_eq!(look_up(&parts, place), Rule::NONE);
        }
    }

    #[test]
    fn a_large_file_becomes_several_parts_at_little_more_than_four_bytes_a_row() {
        let mut parts = Parts::default();
        for row in 0..200_000u64 {
            parts.push(row * 37, Rule::new(Cfa::Sp((row % 300) as i32 * 8 + 8), Saved::Same, Saved::Same));
        }
        let (parts, rows) = parts.finish(200_000 * 37);
        assert_eq!((rows, parts.len()), (200_000, 4));
        let bytes: usize = parts.iter().map(|part| part.words.len() * 4).sum();
        assert!(bytes as f64 / rows as f64 <= 4.3, "{} bytes a row", bytes as f64 / rows as f64);
        assert_eq!(look_up(&parts, 70_000 * 37 + 36), Rule::new(Cfa::Sp((70_000 % 300) * 8 + 8), Saved::Same, Saved::Same));
    }
}
