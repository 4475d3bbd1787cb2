//! Searching a sorted list by quarters, in a form that the verifier can follow and the processor need not guess.
//!
//! What is searched is cold: a line of memory takes a hundred times as long as a comparison. By halves each look would wait for the one before; of three that do not
//! depend on each other, the processor waits for all at once.
//!
//! An `if` in the loop would be several ways for the verifier at each round, and a wrong guess every second time for the processor.
//! So a comparison becomes a mask. LLVM sees through that and makes the `if` again, unless the values are hidden from it: `hide` gives back what it is
//! given, and in the kernel program does so behind a line of inline assembly. The masks in the loop keep its variables within the same bounds in each round;
//! without them the verifier would follow the way out of each round to the end of the program.

/// What a search can look at: 8 rounds, until no more than 3 are left.
pub const SEARCHED_MAX: u64 = 0xffff;

/// How many of the first `count` items are at or before `wanted`, when they do not go down. `item` must be harmless for any number; items and `wanted`
/// have at most 63 bits.
#[inline(always)]
pub fn at_or_before(item: impl Fn(u64) -> u64, count: u64, wanted: u64, hide: impl Fn(u64) -> u64) -> u64 {
    let (mut before, mut left) = (0u64, hide(count) & SEARCHED_MAX);
    for _ in 0..8 {
        let part = left >> 2;
        if part == 0 {
            break;
        }
        let last = |parts: u64| item(before.wrapping_add(part.wrapping_mul(parts)).wrapping_sub(1));
        let (one, two, three) = (last(1), last(2), last(3));
        let not_all = later(three, wanted, &hide);
        let parts = 3u64.wrapping_add(later(one, wanted, &hide)).wrapping_add(later(two, wanted, &hide)).wrapping_add(not_all);
        before = hide(before.wrapping_add(part.wrapping_mul(parts))) & SEARCHED_MAX;
        left = hide(part.wrapping_add(left.wrapping_sub(part << 2) & !not_all)) & SEARCHED_MAX;
    }
    let (one, two, three) = (item(before), item(before.wrapping_add(1)), item(before.wrapping_add(2)));
    let is_in = |item: u64, at: u64| 1 & !later(item, wanted, &hide) & !later(at + 1, left, &hide);
    before.wrapping_add(is_in(one, 0)).wrapping_add(is_in(two, 1)).wrapping_add(is_in(three, 2))
}

/// All ones if `item` is later than `wanted`, else 0.
#[inline(always)]
fn later(item: u64, wanted: u64, hide: impl Fn(u64) -> u64) -> u64 {
    let difference = hide(wanted.wrapping_sub(item));
    hide((difference as i64 >> 63) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn counts_as_the_library_does(mut items in proptest::collection::vec(0u64..1 << 63, 0..300), wanted in 0u64..1 << 63, near in any::<usize>()) {
            items.sort_unstable();
            let near = if items.is_empty() { wanted } else { items[near % items.len()] };
            for wanted in [wanted, near] {
                let item = |at: u64| items.get(at as usize).copied().unwrap_or(0);
                let expected = items.iter().filter(|item| **item <= wanted).count() as u64;
                prop_assert_eq!(at_or_before(item, items.len() as u64, wanted, |value| value), expected);
            }
        }
    }

    #[test]
    fn the_longest_list_is_searched_whole() {
        let items: Vec<u64> = (0..SEARCHED_MAX).map(|at| at * 3).collect();
        for wanted in [0, 1, 2, 3, 100_000, 3 * (SEARCHED_MAX - 1), u64::from(u32::MAX)] {
            let expected = items.iter().filter(|item| **item <= wanted).count() as u64;
            assert_eq!(at_or_before(|at| items[at as usize], SEARCHED_MAX, wanted, |value| value), expected);
        }
    }
}
