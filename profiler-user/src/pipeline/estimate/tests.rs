//! Standard errors that are stated, against the errors of many recordings that are made up by the kernel side's own rules.

use super::*;
use profiler_common::sampling::{is_followed, odds, weight};
use profiler_common::source::Source;
use profiler_common::tally::LiveBlock;
use std::collections::{BTreeMap, HashMap};

fn tally(hash: u64, in_use: u64, size: u64) -> (TallyKey, TallyCounts) {
    let allocated =
        Blocks { count: in_use, bytes: in_use * size, stand_for: in_use * ONE_BLOCK, stand_for_bytes: in_use * size * ONE_BYTE };
    (TallyKey::new(Source::CALLS, hash, size), TallyCounts { allocated, ..TallyCounts::default() })
}

fn in_use(tallies: &[(TallyKey, TallyCounts)], level: u32) -> Estimate {
    Estimate::of(tallies.iter().map(|(_, counts)| counts.in_use()), level)
}

#[test]
fn what_was_all_followed_has_no_error() {
    assert_eq!(in_use(&[tally(1, 100, 64), tally(2, 5, 1024)], 0).percent, 0.0);
    assert!(of_in_use(&[tally(1, 100, 64)], 0).is_empty() && of_in_use(&[], 0).is_empty());
}

#[test]
fn the_error_is_that_of_so_many_taken_with_equal_odds() {
    // 100 of 800: sqrt((1 - 1/8) / 100).
    let error = in_use(&[tally(1, 800, 64)], 3);
    assert_eq!(error.blocks, 100.0);
    assert!((error.percent - 9.354).abs() < 0.001, "{error:?}");
    // The same in two keys; and a large one beside many small ones counts for more.
    assert!((in_use(&[tally(1, 400, 64), tally(2, 400, 64)], 3).percent - 9.354).abs() < 0.001);
    assert!(in_use(&[tally(1, 8, 1 << 20), tally(2, 792, 64)], 3).percent > 80.0);
    let notes = of_in_use(&[tally(1, 800, 64)], 3);
    assert!(notes[0].contains("one in 8 ") && notes[1].contains("from 100 blocks: standard error 9.35 %"), "{notes:?}");
}

#[test]
fn small_samples_have_the_error_of_their_number_and_what_is_always_taken_has_none() {
    let sampled = |size: u64, times: u64, distance: u64| {
        let weight = weight(size, odds(size, distance));
        let allocated =
            Blocks { count: times, bytes: times * size, stand_for: times * weight.blocks, stand_for_bytes: times * weight.bytes };
        (TallyKey::new(Source::CALLS, size, size), TallyCounts { allocated, ..TallyCounts::default() })
    };
    assert_eq!((of_allocated(1, &[sampled(64, 100, 1)]), of_allocated(1024, &[])), (None, None));
    let said = |tallies: &[_]| of_allocated(1 << 20, tallies).expect("an estimate");
    assert!(said(&[sampled(64, 400, 1 << 20)]).ends_with("from 400 samples: standard error 5.00 %"));
    assert!(said(&[sampled(64 << 20, 400, 1 << 20)]).ends_with("from 400 samples: standard error 0.00 %"));
    // 400 that stand for 400 MiB, beside 1,200 MiB that are certain.
    let both = said(&[sampled(64, 400, 1 << 20), sampled(400 << 20, 3, 1 << 20)]);
    assert!(both.ends_with("from 403 samples: standard error 1.25 %"), "{both}");
}

/// Numbers as if by chance, the same ones in each run (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) >> 32) as u32
    }
}

/// A process that allocates, and the kernel side's count of it: `follow` and `thin` of profiler-ebpf/src/live.rs, in one thread.
struct Counted {
    chance: Chance,
    distance: u64,
    room: usize,
    level: u32,
    /// By the number of the block.
    live: BTreeMap<u64, LiveBlock>,
    tallies: HashMap<TallyKey, TallyCounts>,
}

impl Counted {
    fn of(seed: u64, distance: u64, room: usize) -> Self {
        Self { chance: Chance(seed), distance, room, level: 0, live: BTreeMap::new(), tallies: HashMap::new() }
    }

    fn freed(&mut self, block: &LiveBlock, blocks: Blocks) {
        let counts = self.tallies.get_mut(&block.tally).expect("it was allocated");
        counts.freed = counts.freed.plus(&blocks);
    }

    fn allocates(&mut self, number: u64, stack: u64, size: u64) {
        let odds = odds(size, self.distance);
        if u64::from(self.chance.next()) >= odds {
            return;
        }
        let tally = TallyKey::new(Source::CALLS, stack, size);
        let mut block = LiveBlock { tally, bytes: size, stands_for: weight(size, odds).blocks, ..LiveBlock::default() };
        let counts = self.tallies.entry(tally).or_default();
        counts.allocated = counts.allocated.plus(&block.alone());
        block.begin(self.chance.next(), self.level, 0);
        if self.live.len() >= self.room && is_followed(block.ticket(), self.level) {
            self.thin();
            block.set_level(self.level);
        }
        if is_followed(block.ticket(), self.level) && self.live.len() < self.room {
            self.freed(&block, block.alone().less(&block.with_others()));
            self.live.insert(number, block);
        } else {
            self.freed(&block, block.alone());
        }
    }

    fn thin(&mut self) {
        self.level += 1;
        for (number, mut block) in std::mem::take(&mut self.live) {
            self.freed(&block, block.with_others());
            if is_followed(block.ticket(), self.level) {
                block.set_level(self.level);
                self.freed(&block, Blocks::default().less(&block.with_others()));
                self.live.insert(number, block);
            }
        }
    }

    fn frees(&mut self, number: u64) {
        if let Some(block) = self.live.remove(&number) {
            self.freed(&block, block.with_others());
        }
    }
}

/// Blocks of several stacks: how many, and their size. Some are so large that they are always taken at most distances.
const STACKS: [(u64, u64); 5] = [(12_000, 48), (6_000, 200), (2_000, 1_000), (120, 20_000), (10, 300_000)];

/// By how many bytes sums are off, and by how many they say that they may be: what was allocated, and what is in use.
fn errors(seed: u64, distance: u64, room: usize) -> [(f64, f64); 2] {
    let (mut counted, mut number, mut truth) = (Counted::of(seed, distance, room), 0, [0, 0]);
    let most = STACKS.iter().map(|(blocks, _)| *blocks).max().unwrap_or(0);
    for round in 0..most {
        for (stack, (_, size)) in STACKS.into_iter().enumerate().filter(|(_, (blocks, _))| round % (most / blocks) == 0) {
            counted.allocates(number, stack as u64, size);
            truth[0] += size;
            // One of three goes.
            if number % 3 == 2 {
                counted.frees(number);
            } else {
                truth[1] += size;
            }
            number += 1;
        }
    }
    let sums = |of: fn(&TallyCounts) -> Blocks| counted.tallies.values().map(of).collect::<Vec<_>>();
    let off = |sums: Vec<Blocks>, truth: u64, level: u32| {
        let bytes: f64 = sums.iter().map(|sum| sum.stand_for_bytes as f64 / ONE_BYTE as f64).sum();
        (bytes - truth as f64, bytes * Estimate::of(sums.into_iter(), level).percent / 100.0)
    };
    [off(sums(|counts| counts.allocated), truth[0], 0), off(sums(TallyCounts::in_use), truth[1], counted.level)]
}

/// The root of the mean square of what many recordings are off, over that of what they say.
fn off_of_stated(distance: u64, room: usize) -> [f64; 2] {
    const TIMES: u64 = 300;
    let all: Vec<_> = (0..TIMES).map(|seed| errors(seed << 40, distance, room)).collect();
    std::array::from_fn(|which| {
        let squares = |of: fn(&(f64, f64)) -> f64| all.iter().map(|both| of(&both[which]).powi(2)).sum::<f64>();
        let mean = all.iter().map(|both| both[which].0).sum::<f64>() / TIMES as f64;
        let spread = (squares(|both| both.0) / TIMES as f64).sqrt();
        assert!(mean.abs() <= 4.0 * spread / (TIMES as f64).sqrt(), "{distance}, {room}: off by {mean} on the average");
        (squares(|both| both.0) / squares(|both| both.1)).sqrt()
    })
}

#[test]
fn what_is_stated_is_what_many_recordings_are_off() {
    let is_right = |ratio: f64| (0.7..=1.4).contains(&ratio);
    // Samples alone; where the largest are certain, and where they are not.
    for distance in [4_096, 16 << 10, 64 << 10] {
        let [allocated, in_use] = off_of_stated(distance, usize::MAX);
        assert!(is_right(allocated) && is_right(in_use), "{distance}: {allocated:.2} {in_use:.2}");
    }
    // All of them, but not all that live are followed.
    let [_, thinned] = off_of_stated(1, 1_500);
    assert!(is_right(thinned), "thinned: {thinned:.2}");
    // Both.
    let [allocated, thinned] = off_of_stated(2_048, 400);
    assert!(is_right(allocated) && is_right(thinned), "both: {allocated:.2} {thinned:.2}");
}
