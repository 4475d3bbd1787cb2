//! Calls that have begun and not returned: what their entry knows, for their return.
//!
//! A table of our own, of four places for each hash: what the kernel's maps do for such a pair (an insertion into its LRU map, a look-up and a removal) costs as
//! much as all else that a call is charged with, beside its traps. A place is claimed by its first word; after that only the call's own thread looks at it.
//! What never returns (its thread has died, it was jumped out of) stays until its place is wanted: the oldest one goes first.

use crate::maps::PENDING;
use crate::place::{compare_and_swap, swap};
use crate::settings::setting;
use crate::stack::mix;
use aya_ebpf::helpers::generated::bpf_jiffies64;
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
    /// When it began, in jiffies.
    begun: u64,
    key: PendingKey,
    call: PendingCall,
}

/// A place that was claimed for a call.
pub struct Slot {
    pending: *mut Pending,
    hash: u64,
    is_taken: bool,
}

impl Slot {
    /// Claims a place: one of the same key, which was jumped out of, or else an empty one, or else that of the oldest call. None if others are at all of them
    /// right now. Calls that give up their place, or find none, are in no count, and so among those that have not returned when all is added up.
    #[inline(always)]
    pub fn claim(key: &PendingKey) -> Option<Self> {
        let hash = hash(key);
        let pending = place(hash, chosen(hash)?)?;
        // SAFETY: a live map value; the word is read whole, and only written by atomic operations.
        let state = unsafe { core::ptr::read_volatile(&raw const (*pending).state) };
        // SAFETY: as above.
        if state == CLAIMED || unsafe { compare_and_swap(&raw mut (*pending).state, state, CLAIMED) } != state {
            return None;
        }
        // SAFETY: a live map value, which is claimed; the helper has no preconditions.
        unsafe { ((*pending).key, (*pending).begun) = (*key, bpf_jiffies64()) };
        Some(Self { pending, hash, is_taken: state != EMPTY })
    }

    /// The call that has given up its place, and will not be found when it returns.
    #[inline(always)]
    pub fn former(&self) -> Option<&PendingCall> {
        // SAFETY: a live map value, which is claimed, and was written before.
        self.is_taken.then(|| unsafe { &(*self.pending).call })
    }

    /// What is to be known of the call: until it is written, what another one has left there.
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

/// The place for a new call: the one whose word comes first. None if others are at all of them.
#[inline(always)]
fn chosen(hash: u64) -> Option<u32> {
    let (mut chosen, mut least) = (WAYS, u64::MAX);
    for way in 0..WAYS {
        let pending = place(hash, way)?;
        // SAFETY: a live map value; the words are read whole.
        let (state, begun) =
            unsafe { (core::ptr::read_volatile(&raw const (*pending).state), core::ptr::read_volatile(&raw const (*pending).begun)) };
        let rank = if state == hash {
            0
        } else if state == EMPTY {
            1
        } else if state == CLAIMED {
            u64::MAX
        } else {
            begun | 2
        };
        if rank < least {
            (chosen, least) = (way, rank);
        }
    }
    (chosen < WAYS).then_some(chosen)
}

#[inline(always)]
fn place(hash: u64, way: u32) -> Option<*mut Pending> {
    let at = (hash >> 8) as u32 & (PENDING_CALLS_MAX - 1);
    PENDING.get_ptr_mut(at ^ way)
}
