//! Where mappings stand in a profile. Those of several processes overlap in the machine; in a profile each distinct one has addresses of its own.

use super::jobs::plain_name;
use crate::model::address::FileAddress;
use crate::model::mapping::{Mapping, MappingId, MappingKind};
use crate::model::profile::ProfileMapping;
use crate::model::window::MappingTable;
use std::collections::{BTreeMap, HashMap};

/// Mappings begin on pages.
const PAGE: u64 = 0x1000;
/// Where made-up addresses begin: far from where the kernel maps programs, libraries and stacks.
const MADE_UP: u64 = 0x1000_0000_0000;
/// Where they end: below the kernel.
const MADE_UP_END: u64 = 0xffff_8000_0000_0000;

/// A mapping in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// Index into the profile's mappings.
    pub(super) index: usize,
    /// The address that its first byte has in frames.
    base: u64,
}

/// The mappings of a profile.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) mappings: Vec<ProfileMapping>,
    /// By the window's ids. A mapping that finds no room is missing.
    pub(super) placed: HashMap<MappingId, Placed>,
    /// Taken ranges: start to limit.
    taken: BTreeMap<u64, u64>,
}

impl Layout {
    /// Places mappings: where they are in the machine if nothing is there yet, else where room is. The kernel comes first: it stays where it is.
    pub(super) fn of(table: &MappingTable, used: &[MappingId]) -> Self {
        let mut layout = Self::default();
        let mut known: HashMap<(&MappingKind, u64, u64), usize> = HashMap::new();
        let mut distinct: Vec<MappingId> = Vec::new();
        let mut indexes = Vec::with_capacity(used.len());
        for id in used {
            let mapping = table.get(*id);
            let key = (&mapping.kind, base_of(mapping), mapping.end.saturating_sub(mapping.start));
            indexes.push(*known.entry(key).or_insert_with(|| {
                distinct.push(*id);
                distinct.len() - 1
            }));
        }
        let starts = layout.place(table, &distinct);
        let mut final_index = vec![None; distinct.len()];
        for (at, (id, start)) in distinct.iter().zip(starts).enumerate() {
            let (mapping, Some(start)) = (table.get(*id), start) else { continue };
            final_index[at] = Some(layout.mappings.len());
            layout.mappings.push(ProfileMapping {
                start,
                limit: start + (mapping.end - mapping.start),
                file_offset: mapping.file_offset,
                filename: plain_name(&mapping.name).into(),
                build_id: "".into(),
            });
        }
        for (id, at) in used.iter().zip(indexes) {
            if let Some(index) = final_index[at] {
                layout.placed.insert(*id, Placed { index, base: base_of(table.get(*id)) });
            }
        }
        layout
    }

    /// The starts of mappings, in their order.
    fn place(&mut self, table: &MappingTable, distinct: &[MappingId]) -> Vec<Option<u64>> {
        let mut starts = vec![None; distinct.len()];
        let is_kernel = |mapping: &Mapping| matches!(mapping.kind, MappingKind::Kernel | MappingKind::KernelModule);
        for kernel in [true, false] {
            for (at, id) in distinct.iter().enumerate() {
                let mapping = table.get(*id);
                if is_kernel(mapping) == kernel && mapping.end > mapping.start && self.is_free(mapping.start, mapping.end) {
                    self.taken.insert(mapping.start, mapping.end);
                    starts[at] = Some(mapping.start);
                }
            }
        }
        let mut next = MADE_UP;
        for (at, id) in distinct.iter().enumerate() {
            let mapping = table.get(*id);
            if starts[at].is_none() && mapping.end > mapping.start {
                starts[at] = self.find_room(&mut next, mapping.end - mapping.start);
            }
        }
        starts
    }

    fn is_free(&self, start: u64, limit: u64) -> bool {
        self.taken.range(..limit).next_back().is_none_or(|(_, taken)| *taken <= start)
    }

    /// The first room behind `next`.
    fn find_room(&mut self, next: &mut u64, size: u64) -> Option<u64> {
        let mut start = *next;
        loop {
            let limit = start.checked_add(size).filter(|limit| *limit <= MADE_UP_END)?;
            match self.taken.range(..limit).next_back() {
                Some((_, taken)) if *taken > start => start = taken.checked_next_multiple_of(PAGE)?,
                _ => {
                    self.taken.insert(start, limit);
                    *next = limit.next_multiple_of(PAGE);
                    return Some(start);
                }
            }
        }
    }

    /// The index of a frame's mapping and the frame's address in it. A frame outside of its mapping keeps its address and has none.
    pub(super) fn locate(&self, mapping: MappingId, address: FileAddress) -> (Option<usize>, u64) {
        let Some(placed) = self.placed.get(&mapping) else { return (None, address.0) };
        let place = &self.mappings[placed.index];
        let offset = address.0.checked_sub(placed.base).filter(|offset| *offset < place.limit - place.start);
        offset.map_or((None, address.0), |offset| (Some(placed.index), place.start + offset))
    }
}

/// What frames in a mapping count from: the file's beginning, the mapping's, or nothing.
fn base_of(mapping: &Mapping) -> u64 {
    match mapping.kind {
        MappingKind::Object(_) | MappingKind::Unopened(_) => mapping.file_offset,
        MappingKind::Vdso => 0,
        MappingKind::Anonymous(_) | MappingKind::Kernel | MappingKind::KernelModule | MappingKind::Lost => mapping.start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mapping::InodeId;
    use proptest::prelude::*;

    fn mapping(inode: u64, start: u64, size: u64, file_offset: u64) -> Mapping {
        let kind = MappingKind::Unopened(InodeId { major: 8, minor: 1, inode });
        Mapping { kind, start, end: start + size, file_offset, name: "/x (deleted)".into() }
    }

    #[test]
    fn a_file_mapped_twice_is_one_and_two_files_in_one_place_are_two() {
        let mut table = MappingTable::default();
        let ids = [mapping(1, 0x40_0000, 0x2000, 0x1000), mapping(1, 0x7000_0000, 0x2000, 0x1000), mapping(2, 0x40_0000, 0x3000, 0)];
        let ids = ids.map(|mapping| table.push(mapping));
        let layout = Layout::of(&table, &ids);
        assert_eq!(layout.mappings.len(), 2);
        assert_eq!(layout.mappings[0].filename.as_ref(), "/x");
        assert_eq!(layout.locate(ids[0], FileAddress(0x1234)), (Some(0), 0x40_0234));
        assert_eq!(layout.locate(ids[1], FileAddress(0x1234)), (Some(0), 0x40_0234));
        assert_eq!(layout.locate(ids[2], FileAddress(0x234)), (Some(1), MADE_UP + 0x234));
        assert_eq!(layout.locate(ids[2], FileAddress(0x3000)), (None, 0x3000));
    }

    proptest! {
        #[test]
        fn no_two_overlap(ranges in proptest::collection::vec((0u64..1 << 50, 1u64..1 << 50, 0u64..4), 1..60)) {
            let mut table = MappingTable::default();
            let ids: Vec<_> = ranges.iter().enumerate().map(|(at, (start, size, shift))| {
                table.push(mapping(at as u64, (start >> (shift * 9)) & !0xfff, size >> (shift * 9), 0))
            }).collect();
            let mut placed: Vec<_> = Layout::of(&table, &ids).mappings.iter().map(|mapping| (mapping.start, mapping.limit)).collect();
            placed.sort_unstable();
            prop_assert!(placed.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        }
    }
}
