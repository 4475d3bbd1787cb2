//! Threads that are woken: by whom, and who is charged with what was waited for: the thread that lets others go on at a word of memory.

use super::lock;
use super::sleep::{is_marked, lose};
use crate::delay::{self, is_counting};
use crate::maps::SLEEPS;
use crate::place::{OfProbe, Place as _};
use crate::settings::setting;
use crate::stack::{From, current_call};
use crate::target::{is_own, is_wanted};
use crate::task::Current;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_get_prandom_u32, bpf_ktime_get_ns};
use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::counter::Counter;
use profiler_common::futex::{Call, Number, Waiter};
use profiler_common::sampling::ONE_BLOCK;
use profiler_common::source::Source;
use profiler_common::target::TARGET_CGROUPS;
use profiler_common::wait::{CLASS_LOCK, DelayCounts, RELEASED, RELEASED_MOVED, RELEASED_NOT, Sleep, WAITS_MUTEX};

/// `sched_waking(task)`.
#[inline(always)]
pub fn woken(context: &BtfTracePointContext) {
    // Of its type, so that its id is loaded and not read by a helper: this runs wherever anybody is woken.
    let task = Current::of(context.arg(0));
    let tid = task.tid();
    if !is_marked(tid) {
        return;
    }
    let Some(sleep) = SLEEPS.get_ptr_mut(&tid) else { return };
    // SAFETY: a live map value; what is read here was written before the thread slept, and what is written here is written by who wakes it alone.
    let sleep = unsafe { &mut *sleep };
    if !sleep.is_off() || !is_counting() {
        return;
    }
    // SAFETY: no arguments, no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    sleep.woken_ns = now;
    let end = if sleep.word != 0 { end(sleep, task) } else { RELEASED_NOT };
    let charged = if end == RELEASED && setting!(waits) & WAITS_MUTEX != 0 { charged(sleep, now) } else { lock::UNKNOWN };
    // What a lock is by its value is charged at once. Of others, and where the user asks who waited, it is counted when the one that waited is back.
    let is_later = charged != lock::UNKNOWN && (u64::from(sleep.class) != CLASS_LOCK || setting!(wakers) != 0);
    if is_later || setting!(wakers) != 0 {
        let account = if is_later { Source::MUTEX } else { Source::WAKERS };
        let waker = delay::waker(account, &From::Kernel { context: context.as_ptr(), kernel: setting!(wakers) != 0 });
        sleep.waker = waker;
        if is_later && waker != 0 {
            (sleep.is_charged, sleep.charged_ns) = (1, charged);
        }
    }
    sleep.released = end;
    if charged != lock::UNKNOWN && !is_later {
        let from = From::Kernel { context: context.as_ptr(), kernel: false };
        delay::count(&from, [(Source::MUTEX, charge_stands_for())], |_, stands_for| (u64::from(sleep.class), charge(charged, stands_for)));
    }
}

/// What the thread that runs does to one that waits at a word: one of the `RELEASED*`. By an interrupt the thread that happens to run is in no such call, or in one of another word.
#[inline(always)]
fn end(sleep: &Sleep, task: Current) -> u32 {
    let Some(call) = waking_call() else { return RELEASED_NOT };
    // SAFETY: no arguments, no preconditions.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    // A word is private to an address space, which a process may have of another one.
    let is_foreign = sleep.tgid != tgid && task.memory() != Current::task().memory();
    let waiter = Waiter { word: sleep.word, reach: sleep.reach, is_foreign };
    if call.wakes(&waiter) {
        RELEASED
    } else if waiter.is_foreign {
        RELEASED_NOT
    } else {
        RELEASED_MOVED
    }
}

/// What the thread that runs does to others, if it is known to wake any. One that a signal has killed is in whatever call it was in.
#[inline(always)]
fn waking_call() -> Option<Call> {
    let mut call = current_call()?;
    if call.number != Number::Exit && Current::task().is_ending() {
        call.number = Number::ExitAll;
    }
    if call.is_waking() { Some(call) } else { None }
}

/// What the thread that runs is charged with: what was waited for at a word since that was charged last; [`lock::UNKNOWN`]: nothing.
#[inline(always)]
fn charged(waiter: &Sleep, now_ns: u64) -> u64 {
    if waiter.lock == lock::NO_ROOM {
        lose(Source::MUTEX);
        return lock::UNKNOWN;
    }
    OfProbe::add(Source::MUTEX, Counter::Runs, 1);
    let waited = lock::charge(waiter.lock, now_ns);
    let fraction = setting!(mutex_fraction);
    // SAFETY: no arguments, no preconditions.
    let is_one_of = fraction <= 1 || unsafe { bpf_get_prandom_u32() }.checked_rem(fraction).unwrap_or(0) == 0;
    if waited == lock::UNKNOWN || !is_one_of || !is_charged(waiter) {
        OfProbe::add(Source::MUTEX, Counter::Filtered, 1);
        return lock::UNKNOWN;
    }
    waited
}

/// How many releases one stands for that is counted, in units of [`ONE_BLOCK`].
#[inline(always)]
pub fn charge_stands_for() -> u64 {
    u64::from(setting!(mutex_fraction)) * ONE_BLOCK
}

/// A charge as it is counted.
#[inline(always)]
pub fn charge(waited_ns: u64, stands_for: u64) -> DelayCounts {
    let ns_for = waited_ns * u64::from(setting!(mutex_fraction));
    DelayCounts { events: 1, events_for: stands_for, ns_for, ..DelayCounts::default() }
}

/// Whether the thread that runs is one that the user has asked for. The waiter is; threads of one process differ in nothing but their control groups.
#[inline(always)]
fn is_charged(waiter: &Sleep) -> bool {
    // SAFETY: no arguments, no preconditions.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    if waiter.tgid == tgid && setting!(target) & TARGET_CGROUPS == 0 {
        return true;
    }
    !(setting!(own_count) != 0 && is_own(tgid)) && is_wanted(Current::task(), tgid)
}
