//! The counts of blocks, the blocks that live, and the calls that have not returned.

use super::Return;
use crate::maps::{COUNTING, LIVE, PENDING, TALLIES};
use crate::place::{OfProbe, Place as _, add_atomically};
use profiler_common::counter::Counter;
use profiler_common::loss::Loss;
use profiler_common::source::Source;
use profiler_common::tally::{
    COUNTING_ALL, COUNTING_NOTHING, COUNTING_RETURNS, LiveBlock, LiveKey, PendingCall, PendingKey, TallyCounts, TallyKey,
};

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h.
const NEW_ONLY: u64 = 1;

/// What happened to a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Added {
    Allocated,
    Freed,
}

/// Whether anything is to be counted now.
#[inline(always)]
pub fn are_counted() -> bool {
    counting() == COUNTING_ALL
}

/// Of a call that is not counted: whether its return is to be seen nevertheless.
#[inline(always)]
pub fn uncounted() -> Return {
    if counting() == COUNTING_RETURNS { Return::Seen } else { Return::NotSeen }
}

/// One of the `COUNTING_*`.
#[inline(always)]
fn counting() -> u32 {
    // SAFETY: a live map value; user space writes it whole.
    COUNTING.get_ptr(0).map_or(COUNTING_NOTHING, |counting| unsafe { core::ptr::read_volatile(counting) })
}

/// Whether blocks are counted under the key already.
#[inline(always)]
pub fn is_known(key: &TallyKey) -> bool {
    TALLIES.get_ptr(key).is_some()
}

/// Begins a count; false if there is no room, which is counted.
#[inline(always)]
pub fn begin(key: &TallyKey) -> bool {
    if TALLIES.insert(key, TallyCounts::default(), NEW_ONLY).is_ok() || is_known(key) {
        return true;
    }
    OfProbe::lose(Source::CALLS, Loss::TallyFull);
    false
}

/// Counts a block.
#[inline(always)]
pub fn add(block: &LiveBlock, what: Added) {
    let Some(counts) = TALLIES.get_ptr_mut(&block.tally) else { return };
    // SAFETY: a live map value, which is only written by atomic operations.
    unsafe {
        if what == Added::Allocated {
            add_atomically(&raw mut (*counts).allocated, 1);
            add_atomically(&raw mut (*counts).allocated_bytes, block.bytes);
            add_atomically(&raw mut (*counts).allocated_for, block.stands_for);
            add_atomically(&raw mut (*counts).allocated_for_bytes, block.stands_for_bytes);
        } else {
            add_atomically(&raw mut (*counts).freed, 1);
            add_atomically(&raw mut (*counts).freed_bytes, block.bytes);
            add_atomically(&raw mut (*counts).freed_for, block.stands_for);
            add_atomically(&raw mut (*counts).freed_for_bytes, block.stands_for_bytes);
        }
    }
}

/// Counts a block that was given back.
#[inline(always)]
pub fn freed(block: &LiveBlock) {
    add(block, Added::Freed);
    OfProbe::add(Source::CALLS, Counter::Frees, 1);
}

/// Takes a block from those that live. Of two that try at once one has it.
#[inline(always)]
pub fn take_away(key: &LiveKey) -> Option<LiveBlock> {
    let held = LIVE.get_ptr(key)?;
    // SAFETY: a live map value; it is not written after it was inserted.
    let held = unsafe { *held };
    LIVE.remove(key).ok().map(|()| held)
}

/// Puts a block among those that live. If one lives there already, its end was not seen.
#[inline(always)]
pub fn insert(key: &LiveKey, block: &LiveBlock) {
    if LIVE.insert(key, *block, NEW_ONLY).is_ok() {
        return;
    }
    if let Some(old) = take_away(key) {
        add(&old, Added::Freed);
        OfProbe::lose(Source::CALLS, Loss::FreeUnseen);
        if LIVE.insert(key, *block, NEW_ONLY).is_ok() {
            return;
        }
    }
    // No room: it is not known when it is freed, so it does not count as living.
    add(block, Added::Freed);
    OfProbe::lose(Source::CALLS, Loss::LiveFull);
}

/// Puts a block back that was not given back after all.
#[inline(always)]
pub fn put_back(key: &LiveKey, block: &LiveBlock) {
    if LIVE.insert(key, *block, NEW_ONLY).is_err() {
        add(block, Added::Freed);
        OfProbe::lose(Source::CALLS, Loss::LiveFull);
    }
}

/// Waits for a call to return.
#[inline(always)]
pub fn wait(key: &PendingKey, call: &PendingCall) -> Return {
    if PENDING.insert(key, *call, 0).is_ok() {
        return Return::Seen;
    }
    OfProbe::lose(Source::CALLS, Loss::NoReturn);
    Return::NotSeen
}

/// The call that has returned, if it was waited for.
#[inline(always)]
pub fn over(key: &PendingKey) -> Option<PendingCall> {
    let held = PENDING.get_ptr(key)?;
    // SAFETY: a live map value, which only this thread writes.
    let held = unsafe { *held };
    PENDING.remove(key).ok().map(|()| held)
}
