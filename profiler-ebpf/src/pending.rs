//! Calls that have begun and not returned: what their entry knows, for their return.
//!
//! A table of our own, of four places for each hash: what the kernel's maps do for such a pair (an insertion into its LRU map, a look-up and a removal) costs as
//! much as all else that a call is charged with, beside its traps. A place is claimed by its first word; after that only the call's own thread looks at it.
//! What never returns (its thread has died, it was jumped out of) stays until its place is wanted: the oldest one goes first.

use crate::maps::PENDING;
use crate::place::{OfProbe, Place as _, compare_and_swap, swap};
use crate::settings::setting;
use crate::stack::mix;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use profiler_common::limits::PENDING_CALLS_MAX;
use profiler_common::loss::Loss;
use profiler_common::source::Source;
use profiler_common::tally::{PendingCall, PendingKey};

/// Places that a call may have.
const WAYS: u32 = 4;
/// The word of a place that is empty.
const EMPTY: u64 = 0;
/// And of one that is being written.
const CLAIMED: u64 = 1;
/// A call that has not returned by then is taken for one that never will, jiffies: a minute where there are a thousand a second.
const RETURNS_WITHIN: u64 = 60_000;

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
}

impl Slot {
    /// Claims a place: one of the same key, which was jumped out of, or else an empty one, or else that of the oldest call. What is lost is counted: a call that
    /// finds no place since others are at them right now, and one that gives up its place while it may still return.
    #[inline(always)]
    pub fn claim(key: &PendingKey, source: Source) -> Option<Self> {
        let hash = hash(key);
        // SAFETY: no arguments, no preconditions.
        let now = unsafe { bpf_jiffies64() };
        let claimed = chosen(hash).and_then(|way| place(hash, way)).and_then(|pending| {
            // SAFETY: a live map value; the words are read whole, and the first is written by atomic operations.
            let (state, begun) =
                unsafe { (core::ptr::read_volatile(&raw const (*pending).state), core::ptr::read_volatile(&raw const (*pending).begun)) };
            // SAFETY: as above.
            let is_had = state != CLAIMED && unsafe { compare_and_swap(&raw mut (*pending).state, state, CLAIMED) == state };
            is_had.then_some((pending, state != EMPTY && state != hash && now.wrapping_sub(begun) < RETURNS_WITHIN))
        });
        let Some((pending, is_dear)) = claimed else {
            OfProbe::lose(source, Loss::NoReturn);
            return None;
        };
        if is_dear {
            OfProbe::lose(source, Loss::NoReturn);
        }
        // SAFETY: a live map value, which is claimed.
        unsafe { ((*pending).key, (*pending).begun) = (*key, now) };
        Some(Self { pending, hash })
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
