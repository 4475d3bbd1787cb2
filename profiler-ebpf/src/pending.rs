//! Calls that have begun and not returned: what their entry knows, for their return.
//!
//! A table of our own, of four places for each hash: what the kernel's maps do for such a pair (an insertion into its LRU map, a look-up and a removal) costs as
//! much as all else that a call is charged with, beside its traps. A place is claimed by its first word; after that only the call's own thread looks at it.
//! What never returns (its thread has died, it was jumped out of) stays until its place is wanted.

use crate::maps::PENDING;
use crate::place::{compare_and_swap, swap};
use crate::settings::setting;
use crate::stack::mix;
use profiler_common::limits::PENDING_CALLS_MAX;
use profiler_common::tally::{PendingCall, PendingKey};

/// Places that a call may have.
const WAYS: u32 = 4;
/// The word of a place that is empty.
const EMPTY: u64 = 0;
/// And of one that is being written.
const CLAIMED: u64 = 1;

const _: () = assert!(PENDING_CALLS_MAX.is_power_of_two() && PENDING_CALLS_MAX.is_multiple_of(WAYS));

/// A place.
#[repr(C)]
pub struct Pending {
    /// The hash of the key, or that there is none.
    state: u64,
    key: PendingKey,
    call: PendingCall,
}

/// A place that was claimed for a call.
pub struct Slot {
    pending: *mut Pending,
    hash: u64,
    /// Another call was forgotten for it.
    pub has_displaced: bool,
}

impl Slot {
    /// Claims a place; None if others are at it right now, in all that there are.
    #[inline(always)]
    pub fn claim(key: &PendingKey) -> Option<Self> {
        let hash = hash(key);
        for way in 0..WAYS {
            let pending = place(hash, way)?;
            // SAFETY: a live map value; the word is read whole, and written by atomic operations.
            let state = unsafe { core::ptr::read_volatile(&raw const (*pending).state) };
            // What is left of a call from the same place of the same stack was jumped out of.
            if (state == EMPTY || state == hash) && Self::is_had(pending, state) {
                return Some(Self::of(pending, key, hash, false));
            }
        }
        let pending = place(hash, (hash >> 32) as u32 % WAYS)?;
        // SAFETY: as above.
        let state = unsafe { core::ptr::read_volatile(&raw const (*pending).state) };
        (state != CLAIMED && Self::is_had(pending, state)).then(|| Self::of(pending, key, hash, true))
    }

    #[inline(always)]
    fn is_had(pending: *mut Pending, state: u64) -> bool {
        // SAFETY: as above.
        unsafe { compare_and_swap(&raw mut (*pending).state, state, CLAIMED) == state }
    }

    #[inline(always)]
    fn of(pending: *mut Pending, key: &PendingKey, hash: u64, has_displaced: bool) -> Self {
        // SAFETY: a live map value, which is claimed.
        unsafe { ((*pending).key.thread, (*pending).key.return_at) = (key.thread, key.return_at) };
        Self { pending, hash, has_displaced }
    }

    /// What is to be known of the call: whatever another one has left there.
    #[inline(always)]
    pub fn call(&mut self) -> &mut PendingCall {
        // SAFETY: a live map value, which is claimed.
        unsafe { &mut (*self.pending).call }
    }

    /// The call waits from now on.
    #[inline(always)]
    pub fn waits(self) {
        // SAFETY: as above. The exchange is a barrier: who sees the hash sees the rest.
        unsafe { swap(&raw mut (*self.pending).state, self.hash) };
    }
}

/// A call that has returned, until its place is left.
pub struct Returned(*mut Pending);

impl Returned {
    /// Finds it, if it waits.
    #[inline(always)]
    pub fn find(key: &PendingKey) -> Option<Self> {
        let hash = hash(key);
        for way in 0..WAYS {
            let pending = place(hash, way)?;
            // SAFETY: a live map value; where the key is the thread's own, nobody else writes it but who displaces it.
            let (state, held) = unsafe { (core::ptr::read_volatile(&raw const (*pending).state), (*pending).key) };
            if state == hash && held == *key {
                return Some(Self(pending));
            }
        }
        None
    }

    /// What was known of it.
    #[inline(always)]
    pub fn call(&self) -> &PendingCall {
        // SAFETY: as above.
        unsafe { &(*self.0).call }
    }

    /// Leaves its place; false if another call was given it meanwhile, and what was read may be that one's.
    #[inline(always)]
    pub fn leave(self, key: &PendingKey) -> bool {
        let hash = hash(key);
        // SAFETY: as above.
        unsafe { compare_and_swap(&raw mut (*self.0).state, hash, EMPTY) == hash }
    }
}

/// Neither of the words that say that there is none.
#[inline(always)]
fn hash(key: &PendingKey) -> u64 {
    mix(mix(setting!(seed), key.thread), key.return_at) | 2
}

#[inline(always)]
fn place(hash: u64, way: u32) -> Option<*mut Pending> {
    let at = (hash >> 8) as u32 & (PENDING_CALLS_MAX - 1);
    PENDING.get_ptr_mut(at ^ way)
}
