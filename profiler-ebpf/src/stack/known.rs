//! Stacks that a place has walked before: looked at whether they still are what they were, instead of being walked again.
//!
//! Of a tick, what is kept begins at the leaf's caller, for a tick seldom meets a leaf at the same instruction twice, and who has called it mostly is the same.
//! A stack is taken down when it was met a few times from there on, so that programs whose stacks never repeat pay for a look at one line of memory.

use super::lookup::hide;
use super::mix;
use crate::maps::{Dependence, KNOWN_SEEN, KNOWN_TAGS, Known, WINDOW_WORDS, Walk};
use crate::place::Place;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use profiler_common::ended::Ended;
use profiler_common::limits::{KERNEL_FRAMES_MAX, KNOWN_SLOTS, PROBE_KNOWN_SLOTS, STACK_FRAMES_MAX};
use profiler_common::unwind::known::{Depends, KNOWN_BYTES_MAX, KNOWN_FRAMES_MAX, KNOWN_POINTERS_MAX, PointerAt};
use profiler_common::unwind::rule::Rule;

/// After how many meetings a stack is taken down anew that was another one than was known.
const MEETINGS_AGAIN: u64 = 8;
/// Stacks of one set: each may be in any place of its set.
const WAYS: usize = 4;
/// No stack is to be taken down.
pub const NONE: u64 = u64::MAX;

const _: () = assert!(KNOWN_SLOTS <= KNOWN_TAGS && PROBE_KNOWN_SLOTS <= KNOWN_TAGS && PROBE_KNOWN_SLOTS.is_multiple_of(WAYS));
const _: () = assert!(KNOWN_BYTES_MAX <= WINDOW_WORDS as u64 * 8);

/// Finishes a walk that stands at its leaf, or at the leaf's caller, if its stack is one that is known: 1. Otherwise it goes on, and may be to be taken down.
#[inline(never)]
pub extern "C" fn finish<P: Place>(number: u64) -> u64 {
    let place = P::numbered(number);
    let Some(walk) = place.walk() else { return 0 };
    // SAFETY: the walk is this program's own.
    let walk = unsafe { &mut *walk };
    let (ip, sp, begin) = (walk.registers.ip, walk.registers.sp, walk.frames);
    // The caller of a leaf may be what a signal has interrupted: not that.
    if walk.ranges.list == 0 || sp & 7 != 0 || begin > 1 || walk.is_exact == begin {
        return 0;
    }
    let tag = mix(mix(mix(ip, sp), begin), walk.ranges.list);
    let Some(slot) = slot::<P>(place, tag) else { return 0 };
    let Some(known) = known::<P>(place, slot) else { return 0 };
    if known.ip != ip || known.sp != sp || known.begin != begin || known.list != walk.ranges.list {
        (known.ip, known.sp, known.begin, known.list) = (ip, sp, begin, walk.ranges.list);
        (known.frames, known.wanted) = (0, 1);
    }
    if known.frames == 0 {
        known.wanted = known.wanted.wrapping_sub(1);
        if known.wanted == 0 {
            (known.fp, walk.known, known.wanted) = (walk.registers.fp, slot, MEETINGS_AGAIN);
        }
        return 0;
    }
    if (known.needs_register == 0 || known.fp == walk.registers.fp)
        && is_at_hand(walk, sp, known.bytes)
        && are_pointers_same(walk, known)
        && are_same::<P>(place, walk, known)
    {
        walk.ended = Ended::Root as u64;
        return 1;
    }
    (known.frames, known.wanted) = (0, MEETINGS_AGAIN);
    0
}

/// Where a stack is kept that begins so: a place is given to those that are met twice.
#[inline(always)]
fn slot<P: Place>(place: P, tag: u64) -> Option<u64> {
    let index = place.known_index()?;
    // SAFETY: it is this program's own.
    let index = unsafe { &mut *index };
    let first = (tag >> 40) as usize & (P::STACKS / WAYS - 1);
    for way in 0..WAYS {
        let slot = first * WAYS + way;
        if index.tags[hide(slot as u64) as usize & (KNOWN_TAGS - 1)] == tag {
            return Some(slot as u64);
        }
    }
    let seen = &mut index.seen[hide(tag >> 50) as usize & (KNOWN_SEEN - 1)];
    if *seen != tag {
        *seen = tag;
        return None;
    }
    index.next = index.next.wrapping_add(1);
    let slot = first * WAYS + (index.next as usize & (WAYS - 1));
    index.tags[hide(slot as u64) as usize & (KNOWN_TAGS - 1)] = tag;
    Some(slot as u64)
}

#[inline(always)]
fn known<'a, P: Place>(place: P, slot: u64) -> Option<&'a mut Known> {
    let first = place.known()?;
    // The mask must be seen by the verifier of Linux 6.1; LLVM, which knows the bound, would leave it out.
    // SAFETY: the slot is masked to the bounds; what is kept is this program's own.
    Some(unsafe { &mut *first.add((hide(slot) & (P::STACKS as u64 - 1)) as usize) })
}

/// Has so many bytes above a stack pointer in the window.
#[inline(always)]
fn is_at_hand(walk: &mut Walk, sp: u64, bytes: u64) -> bool {
    let distance = sp.wrapping_sub(walk.view.base);
    if distance < walk.view.have && walk.view.have - distance >= bytes {
        return true;
    }
    // The verifier must see the bound on the number that the helper gets.
    let bytes = core::hint::black_box(bytes);
    if bytes == 0 || bytes > KNOWN_BYTES_MAX {
        return false;
    }
    walk.view.have = 0;
    // SAFETY: the window is longer than that.
    if unsafe { bpf_probe_read_user(walk.window.as_mut_ptr().cast(), bytes as u32, sp as *const _) } != 0 {
        return false;
    }
    (walk.view.base, walk.view.have) = (sp, bytes);
    true
}

/// Whether the saved frame pointers that the stack depends on are as they were.
#[inline(always)]
fn are_pointers_same(walk: &Walk, known: &Known) -> bool {
    let (first, pointers) = (words_below(walk), known.pointers);
    for at in 0..KNOWN_POINTERS_MAX {
        // Two bounds, and not the lesser of the two as one, which the verifier of Linux 6.1 does not follow.
        if hide(at as u64) >= pointers {
            break;
        }
        if word(walk, first, known.pointer_at[at]) != known.pointer_is[at] {
            return false;
        }
    }
    true
}

/// Words of the window that lie below the stack pointer.
#[inline(always)]
fn words_below(walk: &Walk) -> u64 {
    walk.registers.sp.wrapping_sub(walk.view.base) >> 3
}

/// Whether all return addresses of the stack are as they were: then they are written down.
#[inline(always)]
fn are_same<P: Place>(place: P, walk: &mut Walk, known: &Known) -> bool {
    let Some(scratch) = place.scratch() else { return false };
    let (first, frames) = (words_below(walk), known.frames);
    let (mut hash, begin) = (mix(walk.hash, walk.registers.ip), walk.first.wrapping_add(walk.frames));
    if begin > KERNEL_FRAMES_MAX as u64 + 1 {
        return false;
    }
    // SAFETY: the index was checked; scratch is this program's own, and there are more frames than these and those of the kernel.
    let words = unsafe { (&raw mut (*scratch).frames).cast::<u64>().add(begin as usize) };
    // SAFETY: as above.
    unsafe { *words = walk.registers.ip };
    for at in 0..KNOWN_FRAMES_MAX {
        if hide(at as u64) >= frames {
            break;
        }
        let address = word(walk, first, known.frame_at[at]);
        if address != known.frame_is[at] {
            return false;
        }
        hash = mix(hash, address);
        // SAFETY: as above.
        unsafe { *words.add(at + 1) = address };
    }
    (walk.hash, walk.frames) = (hash, walk.frames.wrapping_add(frames).wrapping_add(1));
    true
}

/// The word of the window that lies so far above the stack pointer.
#[inline(always)]
fn word(walk: &Walk, first: u64, at: u16) -> u64 {
    walk.window[(first.wrapping_add(u64::from(at))) as usize & (WINDOW_WORDS - 1)]
}

/// Notes by which rule a walk has gone to a caller, while it is to be taken down.
#[inline(always)]
pub fn note(walk: &mut Walk, index: u64, rule: Rule, caller_sp: u64) {
    if walk.known != NONE {
        let note = &mut walk.notes[index as usize & (KNOWN_FRAMES_MAX - 1)];
        (note.rule, note.caller_sp) = (rule.0, caller_sp);
    }
}

/// Takes down a walk, if it has come to its root.
#[inline(always)]
pub fn take_down(walk: &mut Walk, number: &mut u64, frame: extern "C" fn(u64, *mut c_void) -> i64) {
    if walk.ended != Ended::Root as u64 || walk.frames < 3 {
        return;
    }
    walk.depends = Dependence { pointer: PointerAt::REGISTER.0, pointers: 0, bytes: 0, needs_register: 0 };
    // SAFETY: the callback takes what is passed here, and `number` outlives the call.
    unsafe { bpf_loop(KNOWN_FRAMES_MAX as u32, frame as *const () as *mut c_void, (&raw mut *number).cast(), 0) };
}

/// One frame of it. 1 ends the loop.
#[inline(never)]
pub extern "C" fn frame_taken<P: Place>(at: u64, context: *mut c_void) -> i64 {
    // SAFETY: `bpf_loop` passes on the pointer that `take_down` gave it.
    let place = unsafe { P::passed(context) };
    let (Some(walk), Some(scratch)) = (place.walk(), place.scratch()) else { return 1 };
    // SAFETY: the walk is this program's own.
    let walk = unsafe { &mut *walk };
    let Some(known) = known::<P>(place, walk.known) else { return 1 };
    let (index, at) = (at.wrapping_add(known.begin), at as usize & (KNOWN_FRAMES_MAX - 1));
    let note = &walk.notes[index as usize & (KNOWN_FRAMES_MAX - 1)];
    let (rule, caller_sp) = (Rule(note.rule), note.caller_sp);
    if index.wrapping_add(1) >= walk.frames {
        if rule.is_root() && index.wrapping_add(1) == walk.frames {
            (known.pointers, known.bytes, known.needs_register) = (walk.depends.pointers, walk.depends.bytes, walk.depends.needs_register);
            known.frames = at as u64;
        }
        return 1;
    }
    let mut pointer = PointerAt(walk.depends.pointer);
    let depends = pointer.next(rule, caller_sp);
    walk.depends.pointer = pointer.0;
    match depends {
        Depends::No => {}
        Depends::OnRegister => walk.depends.needs_register = 1,
        Depends::OnWord { at: address, is } => {
            let pointers = walk.depends.pointers as usize;
            let Some(words) = words_above(walk, known.sp, address) else { return 1 };
            if pointers >= KNOWN_POINTERS_MAX {
                return 1;
            }
            (known.pointer_at[pointers], known.pointer_is[pointers]) = (words, is);
            walk.depends.pointers = pointers as u64 + 1;
        }
        Depends::Unknown => return 1,
    }
    let Some(words) = words_above(walk, known.sp, caller_sp.wrapping_sub(8)) else { return 1 };
    let from = walk.first.wrapping_add(index).wrapping_add(1);
    if from >= STACK_FRAMES_MAX as u64 {
        return 1;
    }
    // SAFETY: the index was checked; scratch is this program's own.
    (known.frame_at[at], known.frame_is[at]) = (words, unsafe { (*scratch).frames[from as usize] });
    0
}

/// How many words above the stack pointer an address lies, if it is not too far: all up to there is to be at hand.
#[inline(always)]
fn words_above(walk: &mut Walk, sp: u64, address: u64) -> Option<u16> {
    let distance = address.wrapping_sub(sp);
    if distance & 7 != 0 || distance >= KNOWN_BYTES_MAX {
        return None;
    }
    walk.depends.bytes = walk.depends.bytes.max(distance + 8);
    Some((distance >> 3) as u16)
}
