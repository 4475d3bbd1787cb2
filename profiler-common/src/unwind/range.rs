//! The executable ranges of a process as the kernel side sees them: a sorted list of 16-byte entries, each valid until the next one begins.
//!
//! ```text
//!   word 0   start (bits 0..56) | kind (bits 56..64)
//!   word 1   for a table: its part's place in the arena (bits 0..32) | place in the part of the range's start (bits 32..64)
//! ```

use super::quarters;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What stands for nothing known: user space is asked.
pub const RANGE_UNKNOWN: u8 = 0;
/// Code with a part of a table.
pub const RANGE_TABLE: u8 = 1;
/// Code with frame pointers and without a table.
pub const RANGE_FRAME_POINTER: u8 = 2;
/// Go's code.
pub const RANGE_GO: u8 = 3;
/// The kernel's page where functions with a return probe (`uretprobe`) return to.
pub const RANGE_RETURN_PROBE: u8 = 4;

const START_BITS: u64 = (1 << 56) - 1;

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RangeEntry {
    /// First address and kind.
    pub start_and_kind: u64,
    /// For a table: which, and where in it.
    pub table: u64,
}

impl RangeEntry {
    /// A range with a part of a table: `place` is where in the part `start` lies.
    pub const fn table(start: u64, part: u32, place: u32) -> Self {
        Self { start_and_kind: start & START_BITS | (RANGE_TABLE as u64) << 56, table: part as u64 | (place as u64) << 32 }
    }

    /// A range without.
    pub const fn plain(start: u64, kind: u8) -> Self {
        Self { start_and_kind: start & START_BITS | (kind as u64) << 56, table: 0 }
    }

    /// First address.
    #[inline(always)]
    pub const fn start(self) -> u64 {
        self.start_and_kind & START_BITS
    }

    /// What is known of the range.
    #[inline(always)]
    pub const fn kind(self) -> u8 {
        (self.start_and_kind >> 56) as u8
    }

    /// The part's place in the arena.
    #[inline(always)]
    pub const fn part(self) -> u32 {
        self.table as u32
    }

    /// Where in the part an address of the range lies.
    #[inline(always)]
    pub const fn place(self, address: u64) -> u32 {
        (address.wrapping_sub(self.start()) as u32).wrapping_add((self.table >> 32) as u32)
    }
}

/// Entries of one list.
pub const RANGES_MAX: usize = quarters::SEARCHED_MAX as usize;

/// The number of the last entry that begins at or before an address, if there is one. `start` gives an entry's first word; `hide` is that of `quarters`.
#[inline(always)]
pub fn find(start: impl Fn(u64) -> u64, entries: u64, address: u64, hide: impl Fn(u64) -> u64) -> Option<u64> {
    quarters::at_or_before(|entry| start(entry) & START_BITS, entries, address & START_BITS, hide).checked_sub(1)
}

/// Where the list of a process stands, in the map of processes; the key is the process id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessRanges {
    /// Start of the group leader: together with the next, whose list it is. 0: that of the image which meets it first.
    pub start_boot_ns: u64,
    /// Which image.
    pub exec_generation: u32,
    /// Entries.
    pub entries: u32,
    /// Number of this list, never given to another: what the cache of rules is valid for. Never 0.
    pub list: u64,
    /// Place of the first entry in the arena, in words of 4 bytes; even.
    pub at: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<RangeEntry>() == 16 && size_of::<ProcessRanges>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_holds_until_the_next() {
        let list = [RangeEntry::plain(100, RANGE_GO), RangeEntry::table(200, 7, 40), RangeEntry::plain(300, RANGE_UNKNOWN)];
        let find = |address| find(|at| list[at as usize].start_and_kind, 3, address, |value| value);
        for (address, at) in
            [(99, None), (100, Some(0)), (199, Some(0)), (200, Some(1)), (299, Some(1)), (300, Some(2)), (1 << 55, Some(2))]
        {
            assert_eq!(find(address), at, "{address}");
        }
        assert_eq!((list[1].start(), list[1].kind(), list[1].part(), list[1].place(210)), (200, RANGE_TABLE, 7, 50));
        assert_eq!(super::find(|_| 0, 0, 5, |value| value), None);
    }
}
