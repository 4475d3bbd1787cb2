//! Waits are counted by stack: its key is named once, when it is new, and then each wait is added under it.

use crate::emit;
use crate::maps::{COUNTING, DELAYS};
use crate::place::{OfProbe, Place as _, add_atomically};
use crate::stack::{From, Taken, take};
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

/// Counts waits of the current thread under its stack, which is taken once for all of them. Each ends in exactly one counter. `taken`: what they are counted for, and how
/// many each of them stands for, as it is sampled; 0: it is not taken. `of`: its class and what is counted. (That is asked for late: stack is short.)
#[inline(always)]
pub fn count<const N: usize>(from: &From<'_>, taken: [(Source, u64); N], of: impl Fn(Source, u64) -> (u64, DelayCounts)) {
    if taken.iter().all(|(_, stands_for)| *stands_for == 0) {
        return;
    }
    let Some(place) = OfProbe::claim() else { return lose_all(&taken) };
    let task = Current::task();
    let process = current_process(task);
    match take(place, from, &process, task) {
        Some(stack) => {
            for (at, (source, stands_for)) in taken.into_iter().enumerate().filter(|(_, (_, stands_for))| *stands_for != 0) {
                let (class, counts) = of(source, stands_for);
                let key = TallyKey::new(source, stack.hash, class);
                let is_shared = taken.iter().skip(at + 1).any(|(_, stands_for)| *stands_for != 0);
                if let Some(known) = named((&stack, is_shared), &process, &key, source) {
                    add(known, &counts);
                    OfProbe::add(source, Counter::Samples, 1);
                }
            }
        }
        None => lose_all(&taken),
    }
    place.leave();
}

#[inline(always)]
fn lose_all(taken: &[(Source, u64)]) {
    for (source, _) in taken.iter().filter(|(_, stands_for)| *stands_for != 0) {
        OfProbe::lose(*source, Loss::NoScratch);
    }
}

#[inline(always)]
fn current_process(task: Current) -> ProcessKey {
    // SAFETY: no arguments, no preconditions.
    task.process((unsafe { bpf_get_current_pid_tgid() } >> 32) as u32)
}

/// What is counted under a key of the current stack; None where that is lost, which is counted for `account`. `is_shared`: another key of that stack follows.
#[inline(always)]
fn named((stack, is_shared): (&Taken<OfProbe>, bool), process: &ProcessKey, key: &TallyKey, account: Source) -> Option<*mut DelayCounts> {
    if let Some(counts) = DELAYS.get_ptr_mut(key) {
        return Some(counts);
    }
    // SAFETY: no arguments, no preconditions.
    let (time_ns, tid) = unsafe { (bpf_ktime_get_ns(), bpf_get_current_pid_tgid() as u32) };
    let record = TallyRecord { kind: RecordKind::Tally as u16, is_shared: is_shared as u16, tid, process: *process, time_ns, key: *key };
    if !has_room(account, process.tgid) || !emit::tally(account, &record, stack) {
        return None;
    }
    if let Some(room) = Room::of(process.tgid) {
        if DELAYS.insert(key, DelayCounts::default(), NEW_ONLY).is_ok() {
            room.take();
        }
    }
    let counts = DELAYS.get_ptr_mut(key);
    if counts.is_none() {
        OfProbe::lose(account, Loss::TallyFull);
    }
    counts
}

/// The hash of the current stack, which is named for user space as one that ends waits; 0 where it is lost, which is counted for `account`.
#[inline(always)]
pub fn waker(account: Source, from: &From<'_>) -> u64 {
    let Some(place) = OfProbe::claim() else {
        OfProbe::lose(account, Loss::NoScratch);
        return 0;
    };
    let task = Current::task();
    let process = current_process(task);
    let mut hash = 0;
    match take(place, from, &process, task) {
        Some(stack) => {
            let key = TallyKey::new(Source::WAKERS, stack.hash, 0);
            if named((&stack, false), &process, &key, account).is_some() {
                hash = stack.hash;
            }
        }
        None => OfProbe::lose(account, Loss::NoScratch),
    }
    place.leave();
    hash
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
