//! The executable ranges of one process, as they are now. Shared by a fork until one of the two changes.

use crate::model::mapping::{MappedRange, MappingId, MappingKind};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ranges of one process at most; a process that maps more keeps the newest.
const RANGES_MAX: usize = 70_000;
/// No mapping yet.
const NONE: u32 = u32::MAX;

/// A range and what is behind it.
#[derive(Debug)]
pub struct Range {
    /// Where and of what.
    pub mapped: MappedRange,
    /// What is behind it.
    pub kind: MappingKind,
    /// Its [`MappingId`] once a frame has needed one: looked up once, not once a frame.
    id: AtomicU32,
}

impl Range {
    pub(super) fn new(mapped: MappedRange, kind: MappingKind) -> Self {
        Self { mapped, kind, id: AtomicU32::new(NONE) }
    }

    /// Whether it is the kernel's page where functions with a return probe return to. No process can name its own memory so.
    pub fn is_return_probes(&self) -> bool {
        self.mapped.file.inode == 0 && self.mapped.path == b"[uprobes]"
    }

    pub(super) fn id(&self) -> Option<MappingId> {
        let id = self.id.load(Ordering::Relaxed);
        (id != NONE).then_some(MappingId(id))
    }

    pub(super) fn set_id(&self, id: MappingId) {
        self.id.store(id.0, Ordering::Relaxed);
    }
}

/// Ranges by their first address; none overlap. A copy is cheap, and stays as it is.
#[derive(Clone, Debug, Default)]
pub struct AddressSpace {
    ranges: Arc<BTreeMap<u64, Arc<Range>>>,
    /// Raised when a range takes the place of another: what was normalized before may mean something else now.
    pub(super) generation: u32,
    /// Raised by any change.
    changes: u32,
    /// Raised when other code takes the place of code: rules for it do not hold any more.
    replaced: u32,
    /// Whether there is a page of return probes.
    has_return_probes: bool,
}

impl AddressSpace {
    /// Maps a range over whatever was there.
    pub(super) fn insert(&mut self, range: Range) {
        let (start, end) = (range.mapped.start, range.mapped.end);
        if self.find(start).is_some_and(|old| is_same(old, &range)) {
            return; // A replayed event, or mprotect.
        }
        self.changes = self.changes.wrapping_add(1);
        let ranges = Arc::make_mut(&mut self.ranges);
        let overlapped: Vec<u64> =
            ranges.range(..end).rev().take_while(|(_, old)| old.mapped.end > start).map(|(old_start, _)| *old_start).collect();
        for old_start in overlapped {
            self.generation = self.generation.wrapping_add(1);
            let Some(old) = ranges.remove(&old_start) else { continue };
            self.replaced = self.replaced.wrapping_add(u32::from(!is_same_code(&old, &range)));
            keep_outside(ranges, &old, start, end);
        }
        self.has_return_probes |= range.is_return_probes();
        if ranges.len() < RANGES_MAX {
            ranges.insert(start, Arc::new(range));
        }
    }

    /// How often anything has changed.
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// How often other code took the place of code.
    pub fn replaced(&self) -> u32 {
        self.replaced
    }

    /// The range that holds an address.
    pub fn find(&self, address: u64) -> Option<&Arc<Range>> {
        self.ranges.range(..=address).next_back().map(|(_, range)| range).filter(|range| address < range.mapped.end)
    }

    /// Whether an address is one that the kernel has put in the place of a return address.
    pub fn is_return_probe(&self, address: u64) -> bool {
        self.has_return_probes && self.find(address).is_some_and(|range| range.is_return_probes())
    }

    /// Everything is unmapped: an exec.
    pub(super) fn clear(&mut self) {
        self.has_return_probes = false;
        self.ranges = Arc::default();
        self.changes = self.changes.wrapping_add(1);
        self.generation = self.generation.wrapping_add(1);
    }

    /// All ranges, by their first address.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Range>> {
        self.ranges.values()
    }
}

/// Whether a range is what is there already. What was read from `/proc` at the start says no generation; that it is the same file then says the file itself.
fn is_same(old: &Range, new: &Range) -> bool {
    let (one, other) = (&old.mapped, &new.mapped);
    let differ = one.generation.zip(other.generation).is_some_and(|(one, other)| one != other);
    let place = |mapped: &MappedRange| (mapped.start, mapped.end, mapped.file_offset, mapped.file);
    old.kind == new.kind && !differ && place(one) == place(other) && one.path == other.path
}

/// Whether two ranges have the same code at the same addresses. Code without a file is walked by frame pointers, whatever it is.
fn is_same_code(old: &Range, new: &Range) -> bool {
    let place = |range: &Range| range.mapped.file_offset.wrapping_sub(range.mapped.start);
    old.kind == new.kind && (new.mapped.file.inode == 0 || place(old) == place(new))
}

/// What is left of an old range in front of and behind a new one.
fn keep_outside(ranges: &mut BTreeMap<u64, Arc<Range>>, old: &Range, start: u64, end: u64) {
    let mut keep = |from: u64, to: u64| {
        if from < to {
            let mut mapped = old.mapped.clone();
            mapped.file_offset = mapped.file_offset.wrapping_add(from - mapped.start);
            (mapped.start, mapped.end) = (from, to);
            ranges.insert(from, Arc::new(Range::new(mapped, old.kind.clone())));
        }
    };
    keep(old.mapped.start, start.min(old.mapped.end));
    keep(end.max(old.mapped.start), old.mapped.end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mapping::InodeId;
    use proptest::prelude::*;

    fn range(start: u64, end: u64, inode: u64) -> Range {
        let file = InodeId { major: 1, minor: 1, inode };
        let mapped = MappedRange { start, end, file_offset: start * 0x10, file, generation: None, path: Vec::new() };
        Range::new(mapped, MappingKind::Unopened(file))
    }

    proptest! {
        #[test]
        fn the_newest_mapping_of_an_address_wins(maps in proptest::collection::vec((0u64..60, 1u64..20), 1..40)) {
            let mut space = AddressSpace::default();
            let mut expected = [None; 96];
            for (number, (start, length)) in maps.iter().enumerate() {
                let (start, end) = (*start, start + length);
                space.insert(range(start, end, number as u64));
                expected[start as usize..end as usize].fill(Some((number as u64, start)));
            }
            for (address, wanted) in expected.iter().enumerate() {
                let found = space.find(address as u64);
                prop_assert_eq!(found.map(|range| range.mapped.file.inode), wanted.map(|(inode, _)| inode));
                if let (Some(found), Some((_, start))) = (found, wanted) {
                    // The offset in the file of an address does not depend on what was cut away around it.
                    let offset = found.mapped.file_offset + (address as u64 - found.mapped.start);
                    prop_assert_eq!(offset, start * 0x10 + (address as u64 - start));
                }
            }
        }
    }

    #[test]
    fn what_is_told_again_changes_nothing() {
        let told = |generation| {
            let mut told = range(0, 10, 1);
            told.mapped.generation = generation;
            told
        };
        for (first, second, changes) in
            [(None, None, 1), (None, Some(7), 1), (Some(7), Some(7), 1), (Some(7), Some(8), 2), (Some(7), None, 1)]
        {
            let mut space = AddressSpace::default();
            space.insert(told(first));
            space.insert(told(second));
            assert_eq!(space.changes(), changes, "{first:?}, then {second:?}");
        }
    }

    #[test]
    fn a_fork_keeps_its_own_view() {
        let mut parent = AddressSpace::default();
        parent.insert(range(0, 10, 1));
        let child = parent.clone();
        parent.insert(range(5, 10, 2));
        assert_eq!(child.find(7).expect("mapped").mapped.file.inode, 1);
        assert_eq!(parent.find(7).expect("mapped").mapped.file.inode, 2);
    }
}
