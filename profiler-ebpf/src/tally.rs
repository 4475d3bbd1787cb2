//! What is counted by key, in the kernel: how many keys a process may have, and the counts.

use crate::maps::{TALLIES, TALLIES_USED, TALLY_OWNERS};
use crate::place::{OfProbe, Place as _, add_atomically};
use crate::settings::setting;
use profiler_common::loss::Loss;
use profiler_common::sampling::bytes_for;
use profiler_common::source::Source;
use profiler_common::tally::{LiveBlock, TallyCounts, TallyKey};

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h.
pub const NEW_ONLY: u64 = 1;

/// What happened to a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Added {
    Allocated,
    Freed,
    /// It was freed soon; beside `Freed`.
    Temporary,
}

/// Whether blocks are counted under the key already.
#[inline(always)]
pub fn is_known(key: &TallyKey) -> bool {
    TALLIES.get_ptr(key).is_some()
}

/// Whether there is room for one more key of a process; if not, that is counted. To be asked before its stack is sent: what finds no room would be sent at each
/// event, and what others send would be lost.
#[inline(always)]
pub fn has_room(source: Source, tgid: u32) -> bool {
    Room::of(tgid).is_some() || full(source)
}

/// Begins a count; false if there is no room, which is counted.
#[inline(always)]
pub fn begin(source: Source, key: &TallyKey, tgid: u32) -> bool {
    if is_known(key) {
        return true;
    }
    let Some(room) = Room::of(tgid) else { return full(source) };
    if TALLIES.insert(key, TallyCounts::default(), NEW_ONLY).is_ok() {
        room.take();
        return true;
    }
    is_known(key) || full(source)
}

#[inline(always)]
fn full(source: Source) -> bool {
    OfProbe::lose(source, Loss::TallyFull);
    false
}

/// Room for one more key of a process, of what all of them may have.
pub struct Room {
    own: *mut u64,
    used: *mut u64,
}

impl Room {
    /// If there is any: a process that has as many keys as are left gets no more. So the first has half of them at most, the next half of the rest, and who
    /// needs few finds some.
    #[inline(always)]
    pub fn of(tgid: u32) -> Option<Self> {
        let (used, keys) = (TALLIES_USED.get_ptr_mut(0)?, u64::from(setting!(tally_keys)));
        // SAFETY: a live map value, which is only written by atomic operations.
        let used_keys = unsafe { core::ptr::read_volatile(used) };
        if used_keys >= keys {
            return None;
        }
        if TALLY_OWNERS.get_ptr(tgid).is_none() {
            // Another thread may have been quicker.
            let _ = TALLY_OWNERS.insert(tgid, 0u64, NEW_ONLY);
        }
        let own = TALLY_OWNERS.get_ptr_mut(tgid)?;
        // SAFETY: as above.
        let own_keys = unsafe { core::ptr::read_volatile(own) };
        (own_keys.wrapping_add(used_keys) < keys).then_some(Self { own, used })
    }

    /// It is taken.
    #[inline(always)]
    pub fn take(self) {
        // SAFETY: as above.
        unsafe {
            add_atomically(self.own, 1);
            add_atomically(self.used, 1);
        }
    }
}

/// Counts a block so many times; fewer by a number that goes round 2^64. Nothing is put together on the stack for it, of which there is little.
#[inline(always)]
pub fn count(block: &LiveBlock, times: u64, what: Added) {
    let Some(counts) = TALLIES.get_ptr_mut(&block.tally) else { return };
    // SAFETY: a live map value.
    let to = unsafe {
        match what {
            Added::Allocated => &raw mut (*counts).allocated,
            Added::Freed => &raw mut (*counts).freed,
            Added::Temporary => &raw mut (*counts).temporary,
        }
    };
    // SAFETY: a part of a live map value, which is only written by atomic operations.
    unsafe {
        add_atomically(&raw mut (*to).count, times);
        add_atomically(&raw mut (*to).bytes, block.bytes.wrapping_mul(times));
        add_atomically(&raw mut (*to).stand_for, block.stands_for.wrapping_mul(times));
        add_atomically(&raw mut (*to).stand_for_bytes, bytes_for(block.bytes, block.stands_for).wrapping_mul(times));
    }
}
