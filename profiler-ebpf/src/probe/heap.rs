//! Calls of an allocator: which blocks are sampled, where they were allocated, and which of them live.
//!
//! The decision is made at the entry, statelessly, so that a call that is not sampled costs its trap and a coin. The stack is taken there, too, where it is
//! clean. Only a sampled call waits for its return, which tells the block's address. Programs of probes can be preempted: nothing here is per CPU but what
//! is claimed (`place.rs`).

pub mod blocks;
pub mod call;

use crate::emit;
use crate::live::{Former, follow, freed, put_back, take_away};
use crate::place::{OfProbe, Place as _};
use crate::settings::setting;
use crate::stack::{From, process_hash, take};
use crate::tally::{Added, begin, count, has_room, is_known};
use crate::task::Current;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_get_func_ip, bpf_get_prandom_u32, bpf_ktime_get_ns};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use aya_ebpf::{EbpfContext as _, bindings::pt_regs};
use call::Call;
use core::arch::asm;
use profiler_common::counter::Counter;
use profiler_common::loss::Loss;
use profiler_common::process::ProcessKey;
use profiler_common::record::{RecordKind, TallyRecord};
use profiler_common::sampling::{odds, weight};
use profiler_common::size_class::class_bytes;
use profiler_common::source::Source;
use profiler_common::tally::{CALL_REALLOC, LiveBlock, LiveKey, PendingCall, Site, TallyKey};

/// Whether a call's return is to be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Return {
    Seen,
    NotSeen,
}

/// Both ends of a call, in a session: the kernel asks at the entry whether it wants the return.
#[inline(always)]
pub fn session(context: &ProbeContext) -> Return {
    // SAFETY: the context of a uprobe program; the helper gives the address of the probe at both ends.
    let probe = unsafe { bpf_get_func_ip(context.as_ptr()) };
    if call::instruction(context) == probe {
        return entered(context);
    }
    returned(context.regs);
    Return::NotSeen
}

/// The entry of a call that makes a block.
#[inline(always)]
pub fn entered(context: &ProbeContext) -> Return {
    if !blocks::are_counted() {
        return blocks::uncounted();
    }
    OfProbe::add(Source::CALLS, Counter::Runs, 1);
    let call = Call::of(context);
    call.note_stepped();
    let odds = sampled(&call);
    // A `realloc` that is not sampled, or lost, still gives back a block that may be.
    let gives_back = call.kind == CALL_REALLOC && call.old != 0;
    if odds.is_none() {
        OfProbe::add(Source::CALLS, Counter::Filtered, 1);
        if !gives_back {
            return Return::NotSeen;
        }
    }
    let Some(site) = call.site() else { return Return::NotSeen };
    let process = current();
    // How much it asks for, to know what nothing means when it returns.
    let unsampled = LiveBlock { bytes: call.size, ..LiveBlock::default() };
    let mut pending = PendingCall { new: unsampled, result_at: call.result_at, ..PendingCall::default() };
    if let Some(odds) = odds {
        if call.is_within(context, &site) {
            OfProbe::add(Source::CALLS, Counter::Filtered, 1);
        } else if let Some(new) = counted_under(&process, &call, &site, odds) {
            (pending.new, pending.is_sampled) = (new, 1);
        }
    }
    if gives_back {
        take_old(&process, &call, &mut pending);
    }
    if pending.is_sampled == 0 && pending.has_old == 0 {
        return Return::NotSeen;
    }
    blocks::wait(&call.key(context, &site), &pending)
}

/// The entry of a call, where only what is allocated is counted.
#[inline(always)]
pub fn allocated(context: &ProbeContext) {
    if !blocks::are_counted() {
        return;
    }
    OfProbe::add(Source::CALLS, Counter::Runs, 1);
    let call = Call::of(context);
    call.note_stepped();
    let Some(odds) = sampled(&call) else { return OfProbe::add(Source::CALLS, Counter::Filtered, 1) };
    let Some(site) = call.site() else { return };
    if call.is_within(context, &site) {
        return OfProbe::add(Source::CALLS, Counter::Filtered, 1);
    }
    if let Some(new) = counted_under(&current(), &call, &site, odds) {
        count(&new, 1, Added::Allocated);
        OfProbe::add(Source::CALLS, Counter::Samples, 1);
    }
}

/// The odds of a call, if it is to be sampled.
#[inline(always)]
fn sampled(call: &Call) -> Option<u64> {
    if call.is_forwarded() {
        return None;
    }
    // SAFETY: no arguments, no preconditions.
    let coin = u64::from(unsafe { bpf_get_prandom_u32() } as u32);
    let odds = blurred(odds(call.size, setting!(sample_bytes)), coin);
    (coin < odds).then_some(odds)
}

/// Gives back a number of which the verifier knows nothing any more: it would walk through all that follows once for each way in which the number was made.
#[inline(always)]
fn blurred(mut number: u64, unknown: u64) -> u64 {
    // SAFETY: it adds a register to another one and takes it away again.
    unsafe { asm!("{0} += {1}", "{0} -= {1}", inout(reg) number, in(reg) unknown, options(pure, nomem, nostack)) };
    number
}

#[inline(always)]
fn current() -> ProcessKey {
    // SAFETY: no arguments, no preconditions.
    let id = unsafe { bpf_get_current_pid_tgid() };
    Current::task().process((id >> 32) as u32)
}

/// Takes the stack and makes sure that there is a count for it. What found no room is lost, and counted.
#[inline(always)]
fn counted_under(process: &ProcessKey, call: &Call, site: &Site, odds: u64) -> Option<LiveBlock> {
    let Some(place) = OfProbe::claim() else {
        OfProbe::lose(Source::CALLS, Loss::NoScratch);
        return None;
    };
    let key = named(place, process, call.size, site.pushed == 0);
    place.leave();
    Some(LiveBlock { tally: key?, bytes: call.size, stands_for: weight(call.size, odds).blocks, ..LiveBlock::default() })
}

#[inline(always)]
fn named(place: OfProbe, process: &ProcessKey, size: u64, is_entry: bool) -> Option<TallyKey> {
    let Some(stack) = take(place, &From::Probe { is_entry }, process, Current::task()) else {
        OfProbe::lose(Source::CALLS, Loss::NoScratch);
        return None;
    };
    let key = TallyKey::new(Source::CALLS, stack.hash, class_bytes(size));
    if is_known(&key) {
        return Some(key);
    }
    // SAFETY: no arguments, no preconditions.
    let (time_ns, id) = unsafe { (bpf_ktime_get_ns(), bpf_get_current_pid_tgid()) };
    let record = TallyRecord { kind: RecordKind::Tally as u16, is_shared: 0, tid: id as u32, process: *process, time_ns, key };
    let is_begun =
        has_room(Source::CALLS, process.tgid) && emit::tally(Source::CALLS, &record, &stack) && begin(Source::CALLS, &key, process.tgid);
    is_begun.then_some(key)
}

/// Takes the block that a `realloc` gives back from those that live, before another thread can be given its address.
#[inline(always)]
fn take_old(process: &ProcessKey, call: &Call, pending: &mut PendingCall) {
    match take_away(&LiveKey { block: call.old, process: image_hash(process) }) {
        Some(old) => (pending.old, pending.old_block, pending.has_old) = (old, call.old, 1),
        None => OfProbe::add(Source::CALLS, Counter::OtherFrees, 1),
    }
}

/// A hash of the process image, with the process in its upper half: user space forgets what those leave behind that end.
#[inline(always)]
fn image_hash(process: &ProcessKey) -> u64 {
    let hash = crate::stack::mix(process_hash(process), u64::from(process.exec_generation));
    u64::from(process.tgid) << 32 | u64::from(hash as u32)
}

/// The return of a call that was waited for. A function of its own, and so is its stack: a program has 512 bytes for each chain of calls.
#[inline(never)]
pub fn returned(regs: *mut pt_regs) {
    if !blocks::are_counted() {
        return;
    }
    let Some(mut pending) = blocks::over(&call::returned_from(regs)) else { return };
    let process = current();
    let block = call::result(regs, pending.result_at);
    let image = image_hash(&process);
    if pending.has_old != 0 {
        // `realloc(old, 0)` gives the block back and returns nothing.
        if block != 0 || pending.new.bytes == 0 {
            freed(Source::CALLS, &pending.old);
        } else {
            put_back(Source::CALLS, &LiveKey { block: pending.old_block, process: image }, &pending.old);
        }
    }
    if pending.is_sampled != 0 && block != 0 {
        count(&pending.new, 1, Added::Allocated);
        OfProbe::add(Source::CALLS, Counter::Samples, 1);
        follow(Source::CALLS, &LiveKey { block, process: image }, &mut pending.new, Former::Unseen);
    } else if pending.is_sampled != 0 {
        OfProbe::add(Source::CALLS, Counter::Filtered, 1); // It failed, and no block is there.
    }
}

/// The same, where returns have a program of their own.
#[inline(always)]
pub fn returned_alone(context: &RetProbeContext) {
    returned(context.regs);
}

/// A block is given back.
#[inline(always)]
pub fn free(context: &ProbeContext) {
    if !blocks::are_counted() {
        return;
    }
    call::note_stepped_at(context);
    let Some(block) = context.arg::<u64>(0) else { return };
    if block == 0 {
        return;
    }
    match take_away(&LiveKey { block, process: image_hash(&current()) }) {
        Some(live) => freed(Source::CALLS, &live),
        None => OfProbe::add(Source::CALLS, Counter::OtherFrees, 1),
    }
}
