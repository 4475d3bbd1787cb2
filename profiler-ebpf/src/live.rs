//! The sampled blocks that live, and the keys of custom profiles that are there.
//!
//! Where more live than there is room for, one in a power of two is followed, and stands for the others: each has a random ticket, and those with the lowest are
//! kept. Who finds no room doubles the distance, and looks once through all to let the others go, so half of the map is free again. What is counted as freed is
//! changed by as much as what is followed stands for more, so the difference to what was allocated is unbiased at every moment.

use crate::maps::{LIVE, THINNING};
use crate::place::{OfProbe, Place as _, swap};
use crate::settings::setting;
use crate::tally::{Added, NEW_ONLY, count};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_for_each_map_elem, bpf_get_prandom_u32, bpf_ktime_get_ns};
use profiler_common::counter::Counter;
use profiler_common::loss::Loss;
use profiler_common::sampling::{LEVEL_MAX, is_followed};
use profiler_common::source::Source;
use profiler_common::tally::{LiveBlock, LiveKey};

// include/uapi/asm-generic/errno-base.h
const E2BIG: i32 = -7;
const EEXIST: i32 = -17;

/// Takes a block from those that live. Of two that try at once one has it.
#[inline(always)]
pub fn take_away(key: &LiveKey) -> Option<LiveBlock> {
    let held = LIVE.get_ptr(key)?;
    // SAFETY: a live map value. That what it stands for is changed in between is a matter of one block.
    let held = unsafe { *held };
    LIVE.remove(key).ok().map(|()| held)
}

/// Counts a block that was given back.
#[inline(always)]
pub fn freed(source: Source, block: &LiveBlock) {
    let times = 1 << block.level();
    count(block, times, Added::Freed);
    OfProbe::add(source, Counter::Frees, 1);
    let temporary_ns = setting!(temporary_ns);
    // SAFETY: no arguments, no preconditions.
    if temporary_ns != 0 && block.lived_ns(unsafe { bpf_ktime_get_ns() }) <= temporary_ns {
        count(block, times, Added::Temporary);
    }
}

/// What became of a block that was to be put in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    In,
    /// One of its address is there.
    IsThere,
    /// There is no room.
    Full,
    /// The kernel had no memory at hand.
    Failed,
    /// It is not one of those that are followed.
    Out,
}

/// What it means that one of the same address, or key, is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Former {
    /// Its end was not seen.
    Unseen,
    /// The new one takes its place.
    Replaced,
}

/// Puts a block, which was counted as allocated, among those that live, in the place of one that lives there.
#[inline(always)]
pub fn follow(source: Source, key: &LiveKey, block: &mut LiveBlock, former: Former) {
    // SAFETY: no arguments, no preconditions.
    let (random, now_ns) = unsafe { (bpf_get_prandom_u32() as u32, bpf_ktime_get_ns()) };
    block.begin(random, level(), now_ns);
    let mut put = if is_followed(block.ticket(), block.level()) { insert(key, block) } else { Put::Out };
    if put == Put::Out || put == Put::IsThere {
        if let Some(old) = take_away(key) {
            freed(source, &old);
            match former {
                Former::Unseen => OfProbe::lose(source, Loss::FreeUnseen),
                Former::Replaced => OfProbe::add(source, Counter::Replaced, 1),
            }
        }
        if put == Put::IsThere {
            put = insert(key, block);
        }
    } else if put == Put::Full {
        make_room();
        block.set_level(level());
        if is_followed(block.ticket(), block.level()) {
            // Where another program is at it still, this block is lost: those that have been let go by now are too few.
            put = insert(key, block);
        }
    }
    if put != Put::In {
        not_followed(source, block);
    }
}

/// Puts a block in, with what it stands for beside itself.
#[inline(always)]
fn insert(key: &LiveKey, block: &LiveBlock) -> Put {
    match LIVE.insert(key, *block, NEW_ONLY) {
        Ok(()) => {}
        Err(E2BIG) => return Put::Full,
        Err(EEXIST) => return Put::IsThere,
        Err(_) => return Put::Failed,
    }
    if block.level() != 0 {
        count(block, 1u64.wrapping_sub(1 << block.level()), Added::Freed);
    }
    Put::In
}

/// It is not known when it is freed, so it does not count as living; others stand for it.
#[inline(always)]
fn not_followed(source: Source, block: &LiveBlock) {
    count(block, 1, Added::Freed);
    OfProbe::lose(source, Loss::LiveFull);
}

/// Puts a block back that was not given back after all.
#[inline(always)]
pub fn put_back(source: Source, key: &LiveKey, block: &LiveBlock) {
    if LIVE.insert(key, *block, NEW_ONLY).is_err() {
        count(block, 1 << block.level(), Added::Freed);
        OfProbe::lose(source, Loss::LiveFull);
    }
}

/// One block in 2^`level` is followed now.
#[inline(always)]
fn level() -> u32 {
    // SAFETY: a live map value; the word is read whole.
    THINNING.get_ptr(0).map_or(0, |thinning| unsafe { core::ptr::read_volatile(&raw const (*thinning).level) } as u32)
}

/// Doubles the distance of what is followed, and lets go of what is not any more. One program at a time.
#[inline(always)]
fn make_room() {
    let Some(thinning) = THINNING.get_ptr_mut(0) else { return };
    // SAFETY: a live map value; the word is only written by atomic operations.
    if unsafe { swap(&raw mut (*thinning).is_busy, 1) } != 0 {
        return;
    }
    let mut level = u64::from(level());
    if level < u64::from(LEVEL_MAX) {
        level += 1;
        // SAFETY: as above; only who has claimed it writes it. First of all: what comes from now on is of this level.
        unsafe { core::ptr::write_volatile(&raw mut (*thinning).level, level) };
        let callback: extern "C" fn(*mut c_void, *const LiveKey, *mut LiveBlock, *mut c_void) -> i64 = thin;
        let live = (&raw const LIVE).cast_mut().cast();
        // SAFETY: the callback takes what is passed for an entry of this map, and `level` outlives the call.
        unsafe { bpf_for_each_map_elem(live, callback as *const () as *mut c_void, (&raw mut level).cast(), 0) };
    }
    // SAFETY: as above.
    unsafe { swap(&raw mut (*thinning).is_busy, 0) };
}

#[inline(never)]
extern "C" fn thin(_map: *mut c_void, key: *const LiveKey, held: *mut LiveBlock, level: *mut c_void) -> i64 {
    // SAFETY: `bpf_for_each_map_elem` gives an entry of the map, and passes on the pointer that `make_room` gave it.
    let (block, level) = unsafe { (*held, *level.cast::<u64>() as u32) };
    if block.level() >= level {
        return 0;
    }
    let times: u64 = 1 << block.level();
    if is_followed(block.ticket(), level) {
        // SAFETY: as above; one word of it changes.
        unsafe { (*held).set_level(level) };
        count(&block, times.wrapping_sub(1 << level), Added::Freed);
        return 0;
    }
    // SAFETY: the key of an entry.
    if LIVE.remove(unsafe { &*key }).is_ok() {
        count(&block, times, Added::Freed);
        if let Ok(source) = Source::try_from(block.tally.source()) {
            OfProbe::lose(source, Loss::LiveFull);
        }
    }
    0
}
