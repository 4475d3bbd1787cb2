//! Waits are counted by stack: its key is named once, when it is new, and then each wait is added under it.

use crate::emit;
use crate::maps::{COUNTING, DELAYS};
use crate::place::{OfProbe, Place as _, add_atomically};
use crate::stack::{From, take};
use crate::tally::{NEW_ONLY, Room, has_room};
use crate::task::Current;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use profiler_common::counter::Counter;
use profiler_common::loss::Loss;
use profiler_common::process::ProcessKey;
use profiler_common::record::{RecordKind, TallyRecord};
use profiler_common::source::Source;
use profiler_common::tally::{COUNTING_ALL, TallyKey};
use profiler_common::wait::DelayCounts;

/// Whether anything is to be counted now.
#[inline(always)]
pub fn is_counting() -> bool {
    // SAFETY: a live map value; user space writes it whole.
    COUNTING.get_ptr(0).is_some_and(|counting| unsafe { core::ptr::read_volatile(counting) } == COUNTING_ALL)
}

/// Counts a wait of the current thread under its stack. It ends in exactly one counter.
#[inline(always)]
pub fn count(source: Source, class: u64, from: &From<'_>, wait: &DelayCounts) {
    let Some(place) = OfProbe::claim() else { return OfProbe::lose(source, Loss::NoScratch) };
    let counts = named(place, source, class, from, &mut 0);
    place.leave();
    let Some(counts) = counts else { return };
    add(counts, wait);
    OfProbe::add(source, Counter::Samples, 1);
}

/// What is counted under the current stack, and its hash; None where that is lost, which is counted.
#[inline(always)]
fn named(place: OfProbe, source: Source, class: u64, from: &From<'_>, hash: &mut u64) -> Option<*mut DelayCounts> {
    // SAFETY: no arguments, no preconditions.
    let id = unsafe { bpf_get_current_pid_tgid() };
    let task = Current::task();
    let process: ProcessKey = task.process((id >> 32) as u32);
    let Some(stack) = take(place, from, &process, task) else {
        OfProbe::lose(source, Loss::NoScratch);
        return None;
    };
    *hash = stack.hash;
    let key = TallyKey::new(source, stack.hash, class);
    if let Some(counts) = DELAYS.get_ptr_mut(&key) {
        return Some(counts);
    }
    // SAFETY: no arguments, no preconditions.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let record = TallyRecord { kind: RecordKind::Tally as u16, reserved: 0, tid: id as u32, process, time_ns, key };
    if !has_room(source, process.tgid) || !emit::tally(source, &record, &stack) {
        return None;
    }
    if let Some(room) = Room::of(process.tgid) {
        if DELAYS.insert(&key, DelayCounts::default(), NEW_ONLY).is_ok() {
            room.take();
        }
    }
    let counts = DELAYS.get_ptr_mut(&key);
    if counts.is_none() {
        OfProbe::lose(source, Loss::TallyFull);
    }
    counts
}

/// The hash of the current stack, which is named for user space; 0 where it is lost.
#[inline(always)]
pub fn seen(source: Source, from: &From<'_>) -> u64 {
    let Some(place) = OfProbe::claim() else { return 0 };
    let mut hash = 0;
    let is_named = named(place, source, 0, from, &mut hash).is_some();
    place.leave();
    if is_named { hash } else { 0 }
}

#[inline(always)]
fn add(counts: *mut DelayCounts, wait: &DelayCounts) {
    // SAFETY: a live map value, which is only written by atomic operations.
    unsafe {
        add_atomically(&raw mut (*counts).events, wait.events);
        add_atomically(&raw mut (*counts).events_for, wait.events_for);
        add_atomically(&raw mut (*counts).ns_for, wait.ns_for);
        if wait.runnable_for != 0 {
            add_atomically(&raw mut (*counts).runnable_for, wait.runnable_for);
            add_atomically(&raw mut (*counts).runnable_ns_for, wait.runnable_ns_for);
        }
    }
}
