//! The way into the ring: the stack once for each hash, then the sample that names it.

use crate::maps::{RING, SENT_STACKS, UNFINISHED_WORDS};
use crate::place::Place;
use crate::settings::setting;
use crate::stack::{Taken, unfinished};
use aya_ebpf::helpers::generated::{bpf_ringbuf_output, bpf_ringbuf_query};
use profiler_common::counter::Counter;
use profiler_common::limits::{SENT_STACK_SLOTS, STACK_FRAMES_MAX};
use profiler_common::loss::Loss;
use profiler_common::record::{SampleRecord, StackHeader, TallyRecord};
use profiler_common::source::Source;

// include/uapi/linux/bpf.h
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
const AVAILABLE_BYTES: u64 = 0;

/// Sends a sample, and its stack if it is new.
#[inline(always)]
pub fn sample<P: Place>(source: Source, record: &SampleRecord, stack: &Taken<P>) {
    if !new_stack(source, stack) {
        return;
    }
    if output::<P>(source, core::ptr::from_ref(record).cast(), size_of::<SampleRecord>() as u64, stack.wake) {
        P::add(source, Counter::Samples, 1);
    } else {
        P::lose(source, Loss::RingFull);
    }
}

/// Sends what a key of the counts in the kernel stands for, and its stack if that is new; false if there was no room, which is counted.
#[inline(always)]
pub fn tally<P: Place>(source: Source, record: &TallyRecord, stack: &Taken<P>) -> bool {
    if !new_stack(source, stack) {
        return false;
    }
    let sent = output::<P>(source, core::ptr::from_ref(record).cast(), size_of::<TallyRecord>() as u64, stack.wake);
    if !sent {
        P::lose(source, Loss::RingFull);
    }
    sent
}

/// Sends a stack unless it has been sent; false if there was no room, which is counted.
#[inline(always)]
fn new_stack<P: Place>(source: Source, stack: &Taken<P>) -> bool {
    let slot = (stack.hash & (SENT_STACK_SLOTS as u64 - 1)) as u32;
    let Some(sent) = SENT_STACKS.get_ptr_mut(slot) else {
        P::lose(source, Loss::NoScratch);
        return false;
    };
    // SAFETY: a live map value; the word is read and written whole.
    if unsafe { core::ptr::read_volatile(sent) } == stack.hash {
        return true;
    }
    if !send_stack(source, stack) {
        P::lose(source, Loss::StackRingFull);
        return false;
    }
    if stack.more_at != 0 {
        unfinished::send_more(source, stack);
    }
    // Noted only now: a stack that found no room must be sent again.
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(sent, stack.hash) };
    P::add(source, Counter::Stacks, 1);
    true
}

#[inline(always)]
fn send_stack<P: Place>(source: Source, stack: &Taken<P>) -> bool {
    // The verifier must see the bound on the very number that the helper gets; LLVM, which knows it already, would check an earlier one.
    let bytes = core::hint::black_box(u64::from(stack.words) * 8);
    if bytes > (STACK_FRAMES_MAX + UNFINISHED_WORDS) as u64 * 8 {
        return false;
    }
    output::<P>(source, stack.scratch.cast_const().cast(), size_of::<StackHeader>() as u64 + bytes, Wake::WhenMuchWaits)
}

/// Whether more than half of the ring is waiting (`wake_bytes` is a quarter): what comes now should be small.
#[inline(always)]
pub fn is_half_full() -> bool {
    // SAFETY: the map is live; the query has no other preconditions.
    let waiting = unsafe { bpf_ringbuf_query((&raw const RING).cast_mut().cast(), AVAILABLE_BYTES) };
    waiting >= 2 * u64::from(setting!(wake_bytes))
}

/// When the drain is woken; it comes by itself on a timer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    WhenMuchWaits,
    Now,
}

/// Writes bytes to the ring.
#[inline(always)]
pub fn output<P: Place>(source: Source, data: *const u8, bytes: u64, wake: Wake) -> bool {
    let ring = (&raw const RING).cast_mut().cast();
    // SAFETY: the map is live; the query has no other preconditions.
    let waiting = unsafe { bpf_ringbuf_query(ring, AVAILABLE_BYTES) };
    let flags = if wake == Wake::Now || waiting >= u64::from(setting!(wake_bytes)) { FORCE_WAKEUP } else { NO_WAKEUP };
    // SAFETY: the verifier checks that `data` has `bytes` readable bytes.
    let failed = unsafe { bpf_ringbuf_output(ring, data.cast_mut().cast(), bytes, flags) };
    if failed == 0 {
        P::add(source, Counter::RingBytes, bytes + 8); // 8: the ring's own header.
    }
    failed == 0
}
