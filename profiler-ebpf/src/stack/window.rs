//! Reading the walked thread's stack: a page at a time, and not before a frame needs it. One copy costs as much as a dozen single reads.

use crate::maps::{WINDOW_WORDS, Walk};
use aya_ebpf::helpers::generated::bpf_probe_read_user;

const PAGE: u64 = 4096;
/// With less than this copied, the next page is copied, too.
const LITTLE: u64 = 1024;
/// Frames of a stack that is short.
const SHORT: u64 = 32;
/// How far below the first word that is read of a frame its others may lie: the return address comes first, and registers were pushed below it. (A window that
/// began at the return address was left for each of them: on a mix of compilers a stack of 22 frames took 17 copies, and takes 8.)
const BELOW: u64 = 64;

const _: () = assert!(LITTLE + PAGE <= WINDOW_WORDS as u64 * 8);

/// The word at an address of the walked thread's stack.
#[inline(always)]
pub fn read(walk: &mut Walk, at: u64) -> Option<u64> {
    let mut distance = at.wrapping_sub(walk.view.base);
    if at & 7 != 0 {
        return read_one(walk, at);
    }
    if distance >= walk.view.have {
        if !move_to(walk, at) {
            return None;
        }
        distance = at.wrapping_sub(walk.view.base);
    }
    Some(walk.window[(distance >> 3) as usize & (WINDOW_WORDS - 1)])
}

/// Copies from just below an address to the end of its page, for a read beyond that may fail as a whole; and the next page if that was little. Less as long as the
/// stack may be a short one, as most are: what is copied is cold. (Measured at depth 20: a wait that is walked at both ends costs 845 ns so, and 990 if only the first copy is short.)
#[inline(always)]
fn move_to(walk: &mut Walk, wanted: u64) -> bool {
    let at = wanted.wrapping_sub((wanted & (PAGE - 1)).min(BELOW));
    walk.view.have = 0;
    walk.view.base = at;
    // The verifier must see the bound on the number that the helper gets.
    let most = if walk.frames <= SHORT { LITTLE } else { PAGE };
    let first = core::hint::black_box((PAGE - (at & (PAGE - 1))).min(most));
    if first == 0 || first > PAGE {
        return false;
    }
    let window = walk.window.as_mut_ptr().cast::<u8>();
    // SAFETY: the window is longer than a page.
    if unsafe { bpf_probe_read_user(window.cast(), first as u32, at as *const _) } != 0 {
        return false;
    }
    let mut have = first;
    if first < LITTLE && most == PAGE {
        // SAFETY: what is copied ends at `LITTLE + PAGE` at the latest.
        let failed = unsafe { bpf_probe_read_user(window.add(first as usize).cast(), PAGE as u32, (at + first) as *const _) };
        if failed == 0 {
            have += PAGE;
        }
    }
    walk.view.have = have;
    true
}

/// A word that is not aligned, as no compiler makes it. It is read into the map: for a place on the stack, or a call, the programs that walk have no room on Linux 6.12.
#[inline(always)]
fn read_one(walk: &mut Walk, at: u64) -> Option<u64> {
    // SAFETY: the helper writes 8 bytes to the walk, or fails.
    let failed = unsafe { bpf_probe_read_user((&raw mut walk.unaligned).cast(), 8, at as *const _) };
    (failed == 0).then_some(walk.unaligned)
}
