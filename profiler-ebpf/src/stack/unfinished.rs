//! A stack that meets no table takes its registers and its bytes along, and user space walks on. Bounded for each process and for the ring.

use crate::emit::{Wake, is_half_full, output};
use crate::maps::{Scratch, UNFINISHED, Walk};
use crate::place::Place;
use crate::stack::Taken;
use crate::stack::registers::current_leaf;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_loop, bpf_probe_read_user};
use profiler_common::limits::{STACK_FRAMES_MAX, UNFINISHED_BYTES_MAX, UNFINISHED_MORE_PAGES_MAX, UNFINISHED_PER_SPAN, UNFINISHED_SLOTS};
use profiler_common::record::{MoreHeader, RecordKind, UnfinishedAt};
use profiler_common::source::Source;

const PAGE: u64 = 4096;
const SPAN_SHIFT: u32 = 28;

/// What becomes of an unfinished stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// It ends where its table is missing.
    Not,
    /// It goes along.
    Yes,
    /// It goes along, and the drain is woken: the sooner the table is there, the fewer follow.
    AndWakes,
}

/// Of so many in one span the drain is woken.
const WAKING: u64 = 4;

/// Whether a process may send one more. Not when samples need the room; and counted by a few bits of its id; two CPUs may count one for two, which does no harm.
#[inline(always)]
pub fn is_allowed(tgid: u32) -> Allowed {
    if is_half_full() {
        return Allowed::Not;
    }
    let Some(slot) = UNFINISHED.get_ptr_mut(tgid & (UNFINISHED_SLOTS as u32 - 1)) else { return Allowed::Not };
    // SAFETY: no arguments, no preconditions.
    let span = unsafe { bpf_ktime_get_ns() } >> SPAN_SHIFT;
    // SAFETY: a live map value, read and written whole.
    let held = unsafe { core::ptr::read_volatile(slot) };
    let count = if held >> 32 == span & 0xffff_ffff { held & 0xffff_ffff } else { 0 };
    if count >= UNFINISHED_PER_SPAN {
        return Allowed::Not;
    }
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(slot, span << 32 | (count + 1)) };
    if count < WAKING { Allowed::AndWakes } else { Allowed::Yes }
}

/// What was written behind the addresses.
pub struct Appended {
    pub words: u32,
    /// Where the stack goes on; 0: it was copied whole.
    pub more_at: u64,
}

/// Writes registers and bytes behind `frames` addresses.
#[inline(always)]
pub fn append(scratch: *mut Scratch, frames: u32, walk: *const Walk) -> Appended {
    // SAFETY: the walk is this program's own, and over.
    let (registers, is_exact) = unsafe { ((*walk).registers, (*walk).is_exact as u32) };
    let at = core::hint::black_box(u64::from(frames));
    if at > STACK_FRAMES_MAX as u64 {
        return Appended { words: 0, more_at: 0 };
    }
    // SAFETY: behind the last address there is room for an unfinished stack of full length.
    let head = unsafe { (&raw mut (*scratch).frames).cast::<u64>().add(at as usize) };
    let head_words = size_of::<UnfinishedAt>() / 8;
    let from = registers.sp & !7;
    // SAFETY: as above.
    let bytes = unsafe { copy(head.add(head_words).cast(), from) };
    let unfinished = UnfinishedAt {
        ip: registers.ip,
        sp: registers.sp,
        fp: registers.fp,
        bx: registers.bx,
        is_exact,
        stack_bytes: bytes as u32,
        leaf: current_leaf(),
    };
    // SAFETY: as above; the words are aligned as the structure is.
    unsafe { head.cast::<UnfinishedAt>().write(unfinished) };
    let more_at = if bytes > UNFINISHED_BYTES_MAX as u64 - PAGE { from + bytes } else { 0 };
    Appended { words: head_words as u32 + (bytes >> 3) as u32, more_at }
}

/// A page on its way, behind its head.
#[repr(C)]
struct More {
    head: MoreHeader,
    page: [u8; PAGE as usize],
}

/// What the pages that follow have in common.
struct Sending {
    /// The place's number.
    place: u64,
    at: u64,
    hash: u64,
    source: Source,
}

/// Sends the pages that follow, until one cannot be read or finds no room. `scratch` has been sent, and is used again.
#[inline(always)]
pub fn send_more<P: Place>(source: Source, stack: &Taken<P>) {
    let mut sending = Sending { place: stack.place.number(), at: stack.more_at, hash: stack.hash, source };
    let callback: extern "C" fn(u64, *mut c_void) -> i64 = send_page::<P>;
    // SAFETY: the callback takes what is passed here, and `sending` outlives the call.
    unsafe { bpf_loop(UNFINISHED_MORE_PAGES_MAX, callback as *const () as *mut c_void, (&raw mut sending).cast(), 0) };
}

#[inline(never)]
extern "C" fn send_page<P: Place>(index: u64, sending: *mut c_void) -> i64 {
    // SAFETY: `bpf_loop` passes on the pointer that `send_more` gave it.
    let sending = unsafe { &*sending.cast::<Sending>() };
    let Some(scratch) = P::numbered(sending.place).scratch() else { return 1 };
    let more = scratch.cast::<More>();
    // SAFETY: scratch is this program's own and longer than this.
    let failed = unsafe {
        (*more).head = MoreHeader { kind: RecordKind::More as u16, reserved: [0; 3], stack_hash: sending.hash };
        bpf_probe_read_user((&raw mut (*more).page).cast(), PAGE as u32, sending.at.wrapping_add(index << 12) as *const _)
    };
    if failed != 0 || is_half_full() || !output::<P>(sending.source, more.cast(), size_of::<More>() as u64, Wake::WhenMuchWaits) {
        return 1;
    }
    0
}

/// Copies the stack page by page until one cannot be read; gives the bytes.
///
/// # Safety
/// There is room for `UNFINISHED_BYTES_MAX` bytes at `to`.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: u64) -> u64 {
    let mut have = 0u64;
    let mut next = PAGE - (from & (PAGE - 1));
    for _ in 0..UNFINISHED_BYTES_MAX as u64 / PAGE {
        let bytes = core::hint::black_box(next);
        let at = core::hint::black_box(have);
        if bytes == 0 || bytes > PAGE || at > UNFINISHED_BYTES_MAX as u64 - PAGE {
            break;
        }
        // SAFETY: it ends within the bytes that the caller promised.
        if unsafe { bpf_probe_read_user(to.add(at as usize).cast(), bytes as u32, (from + at) as *const _) } != 0 {
            break;
        }
        have = at + bytes;
        next = PAGE;
    }
    have
}
