//! Words of memory at which threads wait: how long they all have, and who is charged with it: the one that lets them go on.

use crate::maps::LOCKS;
use crate::place::{OfProbe, Place as _, add_atomically, swap};
use crate::settings::setting;
use profiler_common::loss::Loss;
use profiler_common::source::Source;
use profiler_common::wait::{LOCK_UNIT_BITS, Lock, LockKey};

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h.
const NEW_ONLY: u64 = 1;

/// A thread begins to wait.
#[inline(always)]
pub fn begins(key: &LockKey, now_ns: u64) {
    let Some(lock) = of(key) else { return OfProbe::lose(Source::MUTEX, Loss::WaitsFull) };
    // SAFETY: a live map value, which is only written by atomic operations.
    unsafe {
        add_atomically(&raw mut (*lock).state, Lock::one_that_waits(time(now_ns)));
    }
}

/// What is kept of a word, new or known.
#[inline(always)]
fn of(key: &LockKey) -> Option<*mut Lock> {
    if let Some(lock) = LOCKS.get_ptr_mut(key) {
        return Some(lock);
    }
    let _ = LOCKS.insert(key, Lock::default(), NEW_ONLY);
    LOCKS.get_ptr_mut(key)
}

/// It waits no longer. What it has waited stays to be charged.
#[inline(always)]
pub fn ends(key: &LockKey, now_ns: u64) {
    let Some(lock) = LOCKS.get_ptr_mut(key) else { return };
    // SAFETY: as above.
    unsafe {
        add_atomically(&raw mut (*lock).state, Lock::one_that_waits(time(now_ns)).wrapping_neg());
    }
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
pub fn charge(key: &LockKey, now_ns: u64) -> u64 {
    let Some(lock) = LOCKS.get_ptr_mut(key) else { return UNKNOWN };
    // SAFETY: a live map value; the word is read whole, and written by atomic operations.
    unsafe {
        let Some(waited) = Lock::waited(core::ptr::read_volatile(&raw const (*lock).state), time(now_ns)) else { return UNKNOWN };
        let before = swap(&raw mut (*lock).charged, waited);
        if waited < before {
            // Another thread that let one go on was faster, by a later clock.
            swap(&raw mut (*lock).charged, before);
            return 0;
        }
        (waited - before) << LOCK_UNIT_BITS
    }
}
