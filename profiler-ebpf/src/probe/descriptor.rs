//! File descriptors: each that is got by a system call, with the stack that got it, until it is closed.
//!
//! What is closed is let go of when the call begins: once it has returned, the number may be another thread's. What is got is noted when the call returns, whose
//! registers still hold its arguments.

mod numbers;
mod way;

use crate::emit;
use crate::maps::{DESCRIPTORS, TALLIES};
use crate::place::{OfProbe, Place as _, add_atomically};
use crate::settings::setting;
use crate::stack::{From, take};
use crate::tally::{begin, has_room, is_known};
use crate::target::{is_own, is_wanted};
use crate::task::{Current, read_kernel};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_loop, bpf_probe_read_user};
use aya_ebpf::programs::RawTracePointContext;
use numbers::{ARGUMENTS, CLOSE, CLOSE_RANGE, NUMBER};
use profiler_common::counter::Counter;
use profiler_common::descriptor::{Descriptor, DescriptorKey, DescriptorType};
use profiler_common::loss::Loss;
use profiler_common::process::ProcessKey;
use profiler_common::record::{RecordKind, TallyRecord};
use profiler_common::source::Source;
use profiler_common::tally::TallyKey;
use way::{Got, Way, way};

/// Counters of this source.
const SOURCE: Source = Source::DESCRIPTORS;
/// Numbers of one `close_range` that are looked at.
const CLOSED_MAX: u32 = 65_536;
/// `CLOSE_RANGE_UNSHARE` of the same header as the next one.
const RANGE_UNSHARES: u64 = 2;
/// `CLOSE_RANGE_CLOEXEC` of include/uapi/linux/close_range.h: they are closed at the next exec.
const RANGE_AT_EXEC: u64 = 4;

/// A system call, by the registers with which it was made.
#[derive(Clone, Copy)]
pub struct SystemCall {
    registers: u64,
}

impl SystemCall {
    /// That of the tracepoint's registers.
    #[inline(always)]
    pub fn of(registers: u64) -> Self {
        Self { registers }
    }

    /// Its number.
    #[inline(always)]
    pub fn number(self) -> u64 {
        read_kernel::<u64>(self.registers + NUMBER) & 0xffff_ffff
    }

    /// An argument.
    #[inline(always)]
    pub fn argument(self, at: usize) -> u64 {
        read_kernel(self.registers + ARGUMENTS[at])
    }
}

/// Whether its numbers are those of this machine.
#[inline(always)]
pub fn are_native(call: &SystemCall) -> bool {
    numbers::are_native(call.registers)
}

/// The process that makes the call, if it is one that was asked for and its numbers are those of this machine.
#[inline(always)]
fn wanted(call: SystemCall) -> Option<ProcessKey> {
    // SAFETY: no arguments, no preconditions.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    let task = Current::task();
    if (setting!(own_count) != 0 && is_own(tgid)) || !is_wanted(task, tgid) || !numbers::are_native(call.registers) {
        return None;
    }
    Some(task.process(tgid))
}

/// The process that makes the call, if its numbers are those of this machine.
#[inline(always)]
fn native(call: SystemCall) -> Option<ProcessKey> {
    // SAFETY: no arguments, no preconditions.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    numbers::are_native(call.registers).then(|| Current::task().process(tgid))
}

#[inline(always)]
fn key_of(process: &ProcessKey, number: u64) -> DescriptorKey {
    DescriptorKey { number: number as u32, tgid: process.tgid, start_boot_ns: process.start_boot_ns }
}

/// A system call begins.
#[inline(always)]
pub fn entered(context: &RawTracePointContext) {
    let number = context.arg::<u64>(1);
    if number != CLOSE && number != CLOSE_RANGE {
        return;
    }
    let call = SystemCall { registers: context.arg(0) };
    // Whoever has one that is followed may close it, also when it has another name by now and would not be asked for.
    // For a range every number is looked at, which is dear: that is only for those that were asked for.
    let Some(process) = (if number == CLOSE { native(call) } else { wanted(call) }) else { return };
    let first = call.argument(0);
    if number == CLOSE {
        close(&key_of(&process, first));
        return;
    }
    let (first, last, flags) = (first & 0xffff_ffff, call.argument(1) & 0xffff_ffff, call.argument(2) & 0xffff_ffff);
    // What the kernel refuses closes nothing.
    if first > last || flags & !(RANGE_UNSHARES | RANGE_AT_EXEC) != 0 {
        return;
    }
    let mut closing = Closing { key: key_of(&process, first), flags };
    let count = (last - first + 1).min(u64::from(CLOSED_MAX)) as u32;
    let callback: extern "C" fn(u64, *mut c_void) -> i64 = close_next;
    // SAFETY: the callback takes what is passed here, and `closing` outlives the call.
    unsafe { bpf_loop(count, callback as *const () as *mut c_void, (&raw mut closing).cast(), 0) };
}

/// What a `close_range` still has to do.
struct Closing {
    key: DescriptorKey,
    flags: u64,
}

#[inline(never)]
extern "C" fn close_next(_index: u64, closing: *mut c_void) -> i64 {
    // SAFETY: `bpf_loop` passes on the pointer that `entered` gave it.
    let closing = unsafe { &mut *closing.cast::<Closing>() };
    if closing.flags & RANGE_AT_EXEC == 0 {
        close(&closing.key)
    } else {
        mark(&closing.key, 1)
    }
    closing.key.number = closing.key.number.wrapping_add(1);
    0
}

/// Lets go of a descriptor, if it is one that was got while we watched.
#[inline(always)]
fn close(key: &DescriptorKey) {
    let Some(held) = DESCRIPTORS.get_ptr(key) else { return };
    // SAFETY: a live map value.
    let tally = unsafe { (*held).tally };
    if DESCRIPTORS.remove(key).is_ok() {
        count_closed(&tally);
    }
}

#[inline(always)]
fn count_closed(tally: &TallyKey) {
    if let Some(counts) = TALLIES.get_ptr_mut(tally) {
        // SAFETY: a live map value, which is only written by atomic operations.
        unsafe { add_atomically(&raw mut (*counts).freed.count, 1) };
    }
    OfProbe::add(SOURCE, Counter::Frees, 1);
}

/// Says whether a descriptor is closed at the next exec.
#[inline(always)]
fn mark(key: &DescriptorKey, closes_at_exec: u64) {
    if let Some(held) = DESCRIPTORS.get_ptr_mut(key) {
        // SAFETY: a live map value; the word is written whole.
        unsafe { core::ptr::write_volatile(&raw mut (*held).closes_at_exec, closes_at_exec) };
    }
}

/// A system call returns.
#[inline(always)]
pub fn returned(context: &RawTracePointContext) {
    let call = SystemCall { registers: context.arg(0) };
    let result = context.arg::<u64>(1) as i64;
    let got = match way(call) {
        Way::Nothing => return,
        Way::Marks { number, closes_at_exec } => {
            if result == 0
                && let Some(process) = native(call)
            {
                mark(&key_of(&process, number), closes_at_exec);
            }
            return;
        }
        Way::Gets(got) => got,
    };
    let Some(process) = wanted(call) else { return };
    OfProbe::add(SOURCE, Counter::Runs, 1);
    if result < 0 {
        return OfProbe::add(SOURCE, Counter::Filtered, 1);
    }
    let Some(tally) = named(&process, got.what) else { return };
    if got.pair_at == 0 {
        return open(&process, result as u64, &tally, &got);
    }
    let mut pair = [0u32; 2];
    // SAFETY: the helper writes 8 bytes to the local, or fails.
    if unsafe { bpf_probe_read_user((&raw mut pair).cast(), 8, got.pair_at as *const _) } != 0 {
        return OfProbe::lose(SOURCE, Loss::NoReturn);
    }
    open(&process, u64::from(pair[0]), &tally, &got);
    // One call, two of them: each is counted as an event.
    OfProbe::add(SOURCE, Counter::Runs, 1);
    open(&process, u64::from(pair[1]), &tally, &got);
}

/// Takes the stack and makes sure that there is a count for it. What found no room is lost, and counted.
#[inline(always)]
fn named(process: &ProcessKey, what: DescriptorType) -> Option<TallyKey> {
    let Some(place) = OfProbe::claim() else {
        OfProbe::lose(SOURCE, Loss::NoScratch);
        return None;
    };
    let key = named_in(place, process, what);
    place.leave();
    key
}

#[inline(always)]
fn named_in(place: OfProbe, process: &ProcessKey, what: DescriptorType) -> Option<TallyKey> {
    let Some(stack) = take(place, &From::Probe { is_entry: false }, process, Current::task()) else {
        OfProbe::lose(SOURCE, Loss::NoScratch);
        return None;
    };
    let key = TallyKey::new(SOURCE, stack.hash, what as u64);
    if is_known(&key) {
        return Some(key);
    }
    // SAFETY: no arguments, no preconditions.
    let (time_ns, id) = unsafe { (bpf_ktime_get_ns(), bpf_get_current_pid_tgid()) };
    let record = TallyRecord { kind: RecordKind::Tally as u16, is_shared: 0, tid: id as u32, process: *process, time_ns, key };
    let is_begun = has_room(SOURCE, process.tgid) && emit::tally(SOURCE, &record, &stack) && begin(SOURCE, &key, process.tgid);
    is_begun.then_some(key)
}

/// Notes a descriptor. One of that number which is open still was closed by what we do not see, or at an exec, or has just been replaced (`dup2`).
#[inline(always)]
fn open(process: &ProcessKey, number: u64, tally: &TallyKey, got: &Got) {
    let key = key_of(process, number);
    close(&key);
    // SAFETY: no arguments, no preconditions.
    let since_ns = unsafe { bpf_ktime_get_ns() };
    let descriptor = Descriptor { tally: *tally, since_ns, closes_at_exec: u64::from(got.closes_at_exec) };
    if let Some(counts) = TALLIES.get_ptr_mut(tally) {
        // SAFETY: a live map value, which is only written by atomic operations.
        unsafe { add_atomically(&raw mut (*counts).allocated.count, 1) };
    }
    OfProbe::add(SOURCE, Counter::Samples, 1);
    if DESCRIPTORS.insert(&key, descriptor, 0).is_err() {
        // No room: when it is closed is not known, so it does not count as open.
        count_closed(tally);
        OfProbe::lose(SOURCE, Loss::LiveFull);
    }
}
