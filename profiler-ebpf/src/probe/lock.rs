//! Words of memory at which threads wait: how long they all have, and who is charged with it: the one that lets them go on.

use crate::maps::{LOCK_PLACES, LOCKS, LOCKS_FREE, LOCKS_USED};
use crate::place::{add_atomically, fetch_add, swap};
use crate::settings::setting;
use profiler_common::limits::LOCKS_MAX;
use profiler_common::wait::{LOCK_UNIT_BITS, LOCKS_GIVEN_BACK, LOCKS_NEW, LOCKS_TAKEN, Lock, LockKey};

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h.
const NEW_ONLY: u64 = 1;

/// No place: nothing is kept of the word, or it is not known yet.
pub const NOWHERE: u32 = 0;
/// There is no room for it.
pub const NO_ROOM: u32 = u32::MAX;

/// The place of what is kept of a word, new or known, or [`NO_ROOM`]. A word keeps its place, so a thread that waits there again needs not look it up.
#[inline(always)]
pub fn place(key: &LockKey) -> u32 {
    if let Some(place) = LOCKS.get_ptr(key) {
        // SAFETY: a live map value, which is never changed.
        return unsafe { *place };
    }
    let place = new_place();
    if place == NO_ROOM {
        return NO_ROOM;
    }
    // Where another thread was faster, the word has that one's place, and this one stays unused.
    let _ = LOCKS.insert(key, place, NEW_ONLY);
    // SAFETY: as above.
    LOCKS.get_ptr(key).map_or(NO_ROOM, |place| unsafe { *place })
}

/// A place that no word has: one that was given back, or a new one.
#[inline(always)]
fn new_place() -> u32 {
    let (Some(taken), Some(back)) = (LOCKS_USED.get_ptr_mut(LOCKS_TAKEN), LOCKS_USED.get_ptr(LOCKS_GIVEN_BACK)) else { return NO_ROOM };
    // SAFETY: live map values; the first one is only written by atomic operations, the other one by user space.
    unsafe {
        let used = fetch_add(taken, 1).wrapping_sub(core::ptr::read_volatile(back));
        if used >= LOCKS_MAX as u64 - 1 {
            fetch_add(taken, u64::MAX);
            return NO_ROOM;
        }
    }
    if let Ok(Some(place)) = LOCKS_FREE.pop() {
        return place;
    }
    let Some(new) = LOCKS_USED.get_ptr_mut(LOCKS_NEW) else { return NO_ROOM };
    // SAFETY: as above.
    let place = unsafe { fetch_add(new, 1) }.wrapping_add(1);
    if place < LOCKS_MAX as u64 { place as u32 } else { NO_ROOM }
}

/// A thread begins to wait.
#[inline(always)]
pub fn begins(place: u32, now_ns: u64) {
    let Some(lock) = LOCK_PLACES.get_ptr_mut(place) else { return };
    // SAFETY: a live map value, which is only written by atomic operations.
    unsafe {
        add_atomically(&raw mut (*lock).state, Lock::one_that_waits(time(now_ns)));
    }
}

/// It waits no longer. What it has waited stays to be charged.
#[inline(always)]
pub fn ends(place: u32, now_ns: u64) {
    let Some(lock) = LOCK_PLACES.get_ptr_mut(place) else { return };
    // SAFETY: as above.
    unsafe {
        add_atomically(&raw mut (*lock).state, Lock::one_that_waits(time(now_ns)).wrapping_neg());
    }
}

/// It waits no longer, and nobody has let it go: what it has waited since somebody else was charged last is not to be charged to the next one. How much that is, ns.
#[inline(always)]
pub fn ends_unreleased(place: u32, begun_ns: u64, now_ns: u64) -> u64 {
    if place == NOWHERE {
        return 0;
    }
    let Some(lock) = LOCK_PLACES.get_ptr_mut(place) else { return 0 };
    // SAFETY: a live map value; the word is read whole.
    let charged_at_ns = unsafe { core::ptr::read_volatile(&raw const (*lock).charged_at_ns) };
    let until_ns = if charged_at_ns > begun_ns && charged_at_ns < now_ns { charged_at_ns } else { begun_ns };
    ends(place, until_ns);
    now_ns.saturating_sub(until_ns)
}

/// What [`charge`] gives where it cannot be told yet: then a later release is charged. (Of an `Option` the compiler copies what is not there, which the verifier
/// refuses.)
pub const UNKNOWN: u64 = u64::MAX;

/// Since the recording began, in the unit of locks.
#[inline(always)]
fn time(now_ns: u64) -> u64 {
    now_ns.saturating_sub(setting!(start_ns)) >> LOCK_UNIT_BITS
}

/// What threads have waited there since it was charged last, ns.
#[inline(always)]
pub fn charge(place: u32, now_ns: u64) -> u64 {
    if place == NOWHERE {
        return UNKNOWN;
    }
    let Some(lock) = LOCK_PLACES.get_ptr_mut(place) else { return UNKNOWN };
    // SAFETY: a live map value; the word is read whole, and written by atomic operations.
    unsafe {
        let Some(waited) = Lock::waited(core::ptr::read_volatile(&raw const (*lock).state), time(now_ns)) else { return UNKNOWN };
        let before = swap(&raw mut (*lock).charged, waited);
        if waited < before {
            // Another thread that let one go on was faster, by a later clock.
            swap(&raw mut (*lock).charged, before);
            return 0;
        }
        core::ptr::write_volatile(&raw mut (*lock).charged_at_ns, now_ns);
        (waited - before) << LOCK_UNIT_BITS
    }
}
