//! The user part of a stack: frame by frame with `step()` of profiler-common, hashed while walking.

use super::lookup::{rule, take_list};
use super::registers::{RETURN_ADDRESS_ON_STACK, UserSide, code_address, register, user_side};
use super::return_probe::replaced;
use super::window::read;
use super::{NO_USER, known, mix};
use crate::maps::Walk;
use crate::place::Place;
use crate::settings::setting;
use crate::task::Current;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_loop;
use profiler_common::ended::Ended;
use profiler_common::limits::{STACK_FRAMES_MAX, USER_FRAMES_MAX};
use profiler_common::process::ProcessKey;
use profiler_common::settings::WALK_FRAME_POINTERS;
use profiler_common::unwind::rule::Rule;
use profiler_common::unwind::{Registers, caller_word, step};

/// A user part that is in scratch.
pub struct Walked {
    pub hash: u64,
    pub frames: u32,
    pub ended: u8,
    /// The list that it was walked with; 0: none.
    pub list: u32,
    /// A table was missing: the walk, to go on from.
    pub unfinished: Option<*const Walk>,
}

impl Walked {
    /// A stack without a user part.
    #[inline(always)]
    pub fn none(hash: u64) -> Self {
        Self { hash, frames: 0, ended: NO_USER as u8, list: 0, unfinished: None }
    }
}

/// Walks the user part of a task; hash and addresses go on behind the kernel part, of which there are `first`.
#[inline(always)]
pub fn walk<P: Place>(place: P, process: &ProcessKey, (task, leaf): (Current, Leaf), (hash, first): (u64, u32)) -> Walked {
    let Some(walk) = place.walk() else { return Walked::none(hash) };
    // SAFETY: the walk is this program's own.
    let walk = unsafe { &mut *walk };
    (walk.hash, walk.first, walk.frames, walk.unfinished, walk.is_exact) = (hash, u64::from(first), 0, 0, 1);
    (walk.view.have, walk.ended, walk.ranges.list, walk.known) = (0, Ended::DepthLimit as u64, 0, known::NONE);
    match user_side(task) {
        UserSide::None => return Walked::none(hash),
        UserSide::Compat(ip) => {
            walk.registers = Registers { ip, sp: 0, fp: 0, bx: 0 };
            push(place, walk, 0);
            walk.ended = Ended::Compat as u64;
            return walked(walk);
        }
        UserSide::Native(registers) => walk.registers = registers,
    }
    if leaf == Leaf::AtEntry {
        leaves_entry(place, walk);
    }
    if setting!(walk) != WALK_FRAME_POINTERS {
        take_list(&mut walk.ranges, process);
    }
    let mut number = place.number();
    if leaf == Leaf::Anywhere {
        frames::<P>(1, &mut number);
        if walk.ended != Ended::DepthLimit as u64 {
            return walked(walk);
        }
    }
    if RETURN_ADDRESS_ON_STACK && known::finish::<P>(number) != 0 {
        return walked(walk);
    }
    let most = (USER_FRAMES_MAX as u64).wrapping_sub(walk.frames) as u32;
    frames::<P>(most, &mut number);
    if walk.known != known::NONE {
        known::take_down(walk, &mut number, known::frame_taken::<P>);
    }
    walked(walk)
}

/// Where in its function the leaf stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// Anywhere, and mostly elsewhere the next time.
    Anywhere,
    /// At an instruction that waits there or is probed there.
    AtCall,
    /// At the entry of a function, which has done nothing yet: no rule is needed to leave it.
    AtEntry,
}

/// Walks on, so many frames at most.
#[inline(always)]
fn frames<P: Place>(most: u32, number: &mut u64) {
    let callback: extern "C" fn(u64, *mut c_void) -> i64 = frame::<P>;
    // SAFETY: the callback takes what is passed here, and `number` outlives the call.
    unsafe { bpf_loop(most, callback as *const () as *mut c_void, (&raw mut *number).cast(), 0) };
}

/// Goes to the caller of a function that has done nothing yet, where that is as simple.
#[inline(always)]
fn leaves_entry<P: Place>(place: P, walk: &mut Walk) {
    if !RETURN_ADDRESS_ON_STACK {
        return;
    }
    let sp = walk.registers.sp;
    if let Some(address) = read(walk, sp) {
        push(place, walk, 0);
        (walk.registers.ip, walk.registers.sp, walk.is_exact) = (address, sp.wrapping_add(8), 0);
    }
}

#[inline(always)]
fn walked(walk: &Walk) -> Walked {
    let unfinished = (walk.unfinished != 0).then_some(core::ptr::from_ref(walk));
    Walked { hash: walk.hash, frames: walk.frames as u32, ended: walk.ended as u8, list: walk.ranges.list as u32, unfinished }
}

/// Writes the current frame down; false when there is no room.
#[inline(always)]
fn push<P: Place>(place: P, walk: &mut Walk, index: u64) -> bool {
    let Some(scratch) = place.scratch() else {
        walk.ended = Ended::NoScratch as u64;
        return false;
    };
    let at = walk.first.wrapping_add(index);
    if at >= STACK_FRAMES_MAX as u64 {
        return false;
    }
    let word = if index == 0 { walk.registers.ip } else { caller_word(walk.registers.ip, walk.is_exact) };
    // SAFETY: the index was checked; scratch is this program's own.
    unsafe { (*scratch).frames[at as usize] = word };
    walk.frames = index + 1;
    walk.hash = mix(walk.hash, word);
    true
}

/// One frame: write it down, find its caller. 1 ends the loop.
#[inline(never)]
extern "C" fn frame<P: Place>(_round: u64, context: *mut c_void) -> i64 {
    // SAFETY: `bpf_loop` passes on the pointer that `walk` gave it.
    let place = unsafe { P::passed(context) };
    let Some(walk) = place.walk() else { return 1 };
    // SAFETY: the walk is this program's own.
    let walk = unsafe { &mut *walk };
    let index = walk.frames;
    if !push(place, walk, index) {
        return 1;
    }
    let Some(rule) = rule_at(place, walk) else {
        walk.unfinished = 1;
        walk.ended = Ended::NoTable as u64;
        return 1;
    };
    known::note(walk, index, rule, 0);
    if rule.is_return_probe() {
        return through_return_probe(walk);
    }
    let from = walk.registers;
    match step(rule, &from, |at| read(walk, at), |number| if index == 0 { register(number) } else { None }) {
        Ok(caller) => {
            walk.registers = Registers { ip: code_address(caller.ip), ..caller };
            walk.is_exact = u64::from(rule.leads_to_interrupted());
            known::note(walk, index, rule, caller.sp);
            0
        }
        Err(ended) => {
            walk.ended = ended as u64;
            1
        }
    }
}

/// Goes on at the address that a return probe has taken the place of. The kernel's own address stays in the stack; user space leaves it out.
#[inline(always)]
fn through_return_probe(walk: &mut Walk) -> i64 {
    let Some(replaced) = replaced(walk.registers.sp, walk.is_exact != 0) else {
        walk.ended = Ended::NoRule as u64;
        return 1;
    };
    (walk.registers.ip, walk.registers.sp, walk.is_exact) = (replaced.ip, replaced.sp, 0);
    0
}

#[inline(always)]
fn rule_at<P: Place>(place: P, walk: &mut Walk) -> Option<Rule> {
    if setting!(walk) == WALK_FRAME_POINTERS {
        return Some(Rule::FRAME_POINTER);
    }
    // A call may be the last instruction of its function: where it returns to is the next one's.
    let before = if walk.is_exact != 0 { 0 } else { 1 };
    let address = walk.registers.ip.wrapping_sub(before);
    rule(place, &mut walk.ranges, address)
}
