//! The kernel part of a stack, walked by the kernel's own unwinder.

use super::mix;
use crate::maps::Scratch;
use crate::place::Place;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_get_stack, bpf_loop};
use profiler_common::limits::KERNEL_FRAMES_MAX;

/// Frames of a program that a tracepoint runs, and of what runs it: they come first, and are no part of what called the tracepoint.
pub const OWN_FRAMES: u64 = 2;

/// Takes the kernel part to the front of the frames, without the first few; returns how many there are.
#[inline(always)]
pub fn take(context: *mut c_void, scratch: *mut Scratch, skip: u64) -> u32 {
    // SAFETY: the frames hold more than `KERNEL_FRAMES_MAX` words.
    let bytes = unsafe { bpf_get_stack(context, (&raw mut (*scratch).frames).cast(), (KERNEL_FRAMES_MAX * 8) as u32, skip) };
    if bytes < 0 || bytes > (KERNEL_FRAMES_MAX * 8) as i64 { 0 } else { bytes as u32 / 8 }
}

struct Hashing {
    /// The place's number; first, as [`Place::passed`] has it.
    place: u64,
    hash: u64,
}

/// The hash of the kernel part, begun with another.
#[inline(always)]
pub fn hash<P: Place>(place: P, start: u64, frames: u32) -> u64 {
    let mut state = Hashing { place: place.number(), hash: start };
    if frames == 0 {
        return start;
    }
    let callback: extern "C" fn(u64, *mut c_void) -> i64 = one::<P>;
    // SAFETY: the callback takes what is passed here, and `state` outlives the call.
    unsafe { bpf_loop(frames, callback as *const () as *mut c_void, (&raw mut state).cast(), 0) };
    state.hash
}

#[inline(never)]
extern "C" fn one<P: Place>(at: u64, state: *mut c_void) -> i64 {
    // SAFETY: `bpf_loop` passes on the pointer that `hash` gave it.
    let state = unsafe { &mut *state.cast::<Hashing>() };
    let Some(scratch) = P::numbered(state.place).scratch() else { return 1 };
    if at >= KERNEL_FRAMES_MAX as u64 {
        return 1;
    }
    // SAFETY: the index was checked.
    state.hash = mix(state.hash, unsafe { (*scratch).frames[at as usize] });
    0
}
