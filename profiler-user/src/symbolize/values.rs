//! What is measured of a key, in the columns of its kind.

use super::jobs::Measured;
use crate::model::kind::Kind;
use crate::model::profile::RawBlocks;
use crate::model::window::{CLASS_LESS, Counts};
use profiler_common::sampling::{ONE_BLOCK, ONE_BYTE};
use profiler_common::tally::TallyCounts;

/// The columns, and for blocks the sampled ones themselves. `period`: what an event of the clock weighs.
pub(super) fn of((kind, class): (Kind, u64), period: u64, measured: &Measured) -> (Vec<i64>, Option<RawBlocks>) {
    match measured {
        Measured::Events(counts) if kind == Kind::Mmap => (growth(class, *counts), None),
        Measured::Events(counts) => (events(kind, period, *counts), None),
        Measured::Blocks(counts) => (blocks(kind, counts), Some(raw(counts))),
    }
}

/// Events, and their weight in the unit of the kind: a tick of the clock weighs its period, the others are counted already. A sample of page faults stands for
/// as many as it weighs, and each brings in a page.
fn events(kind: Kind, period: u64, counts: Counts) -> Vec<i64> {
    if kind.sample_types().len() == 1 {
        return vec![signed(counts.events)];
    }
    let columns = match kind {
        Kind::Cpu => [counts.events, counts.weight.saturating_mul(period)],
        Kind::Faults => [counts.weight, counts.weight.saturating_mul(rustix::param::page_size() as u64)],
        _ => [counts.events, counts.weight],
    };
    columns.into_iter().map(signed).collect()
}

/// How often and by how much an address space has grown, and the same of shrinking; the weight is in pages.
fn growth(class: u64, counts: Counts) -> Vec<i64> {
    let (events, bytes) = (signed(counts.events), signed(counts.weight.saturating_mul(rustix::param::page_size() as u64)));
    if class == CLASS_LESS { vec![0, 0, events, bytes] } else { vec![events, bytes, 0, 0] }
}

/// What the sampled blocks stand for.
fn blocks(kind: Kind, counts: &TallyCounts) -> Vec<i64> {
    let objects = |number: u64| signed((number + ONE_BLOCK / 2) / ONE_BLOCK);
    let bytes = |number: u64| signed((number + ONE_BYTE / 2) / ONE_BYTE);
    let mut values = vec![objects(counts.allocated.stand_for), bytes(counts.allocated.stand_for_bytes)];
    if kind.tells_what_lives() {
        let in_use = counts.in_use();
        values.extend([objects(in_use.stand_for), bytes(in_use.stand_for_bytes)]);
    }
    values
}

fn raw(counts: &TallyCounts) -> RawBlocks {
    let in_use = counts.in_use();
    RawBlocks {
        allocated: signed(counts.allocated.count),
        allocated_bytes: signed(counts.allocated.bytes),
        in_use: signed(in_use.count),
        in_use_bytes: signed(in_use.bytes),
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::tally::Blocks;

    #[test]
    fn a_sampled_block_stands_for_many_and_one_that_was_freed_for_none_that_lives() {
        let blocks =
            |count| Blocks { count, bytes: 100 * count, stand_for: 10 * count * ONE_BLOCK, stand_for_bytes: 1000 * count * ONE_BYTE };
        let counts = TallyCounts { allocated: blocks(3), freed: blocks(1), ..TallyCounts::default() };
        let (values, raw) = of((Kind::Heap, 0), 1, &Measured::Blocks(counts));
        assert_eq!(values, [30, 3000, 20, 2000]);
        assert_eq!(raw, Some(RawBlocks { allocated: 3, allocated_bytes: 300, in_use: 2, in_use_bytes: 200 }));
        assert_eq!(of((Kind::Allocs, 0), 1, &Measured::Blocks(counts)).0, [30, 3000]);
    }

    #[test]
    fn a_tick_weighs_its_period() {
        let counts = Measured::Events(Counts { events: 2, weight: 2 });
        let bytes = 2 * rustix::param::page_size() as i64;
        assert_eq!(of((Kind::Mmap, 0), 1, &counts).0, [2, bytes, 0, 0]);
        assert_eq!(of((Kind::Mmap, CLASS_LESS), 1, &counts).0, [0, 0, 2, bytes]);
        assert_eq!(of((Kind::Cpu, 0), 10, &counts), (vec![2, 20], None));
        assert_eq!(of((Kind::Faults, 0), 10, &counts), (vec![2, 2 * rustix::param::page_size() as i64], None));
    }
}
