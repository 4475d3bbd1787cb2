//! Threads that are not running: since when, and what is counted of it.
//!
//! A thread is noted when it leaves its CPU and looked at when it is back, in its own context: its stack is what it was all the while, and how long that was is
//! known, so that a wait is taken with the odds of its length. Nothing is walked for a wait that is not taken.

use super::{lock, wake};
use crate::delay::{self, is_counting};
use crate::maps::{MARK_WORDS, MARKS, SLEEPS};
use crate::place::{OfProbe, Place as _, set_atomically};
use crate::settings::setting;
use crate::stack::{From, current_call};
use crate::target::{is_own, is_wanted};
use crate::task::{Current, Task};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_get_prandom_u32, bpf_ktime_get_ns};
use aya_ebpf::programs::RawTracePointContext;
use profiler_common::counter::Counter;
use profiler_common::futex::Number;
use profiler_common::loss::Loss;
use profiler_common::sampling::{delay_odds, delay_stands_for, delay_weight};
use profiler_common::source::Source;
use profiler_common::wait::{
    CLASS_LOCK, DelayCounts, LockKey, RELEASED, RELEASED_NOT, STATE_INTERRUPTIBLE, STATE_RUNNABLE, STATE_STOPPED, STATE_UNINTERRUPTIBLE,
    STATES_ALL, Sleep, SleepFilter, WAITS_BLOCK, WAITS_MUTEX, WAITS_OFF_CPU, waker_bits,
};

/// `TASK_INTERRUPTIBLE` of include/linux/sched.h: so wait all that wait at a word of memory.
const INTERRUPTIBLE: u64 = 1;
/// `__TASK_STOPPED`, `__TASK_TRACED` and `TASK_FROZEN`.
const STOPPED: u64 = 4 | 8 | 0x8000;
/// `TASK_DEAD`.
pub const DEAD: u64 = 0x80;

/// `sched_switch(preempted, previous, next, state)`.
#[inline(always)]
pub fn leaves(context: &RawTracePointContext) {
    let task = Current::task();
    if task.is_of_kernel() || !is_counting() {
        return;
    }
    // SAFETY: no arguments, no preconditions.
    let id = unsafe { bpf_get_current_pid_tgid() };
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    let state = if context.arg::<u64>(0) & 0xff != 0 { STATE_RUNNABLE } else { state_of(context.arg(3)) };
    if state == STATE_RUNNABLE && setting!(waits) & WAITS_OFF_CPU == 0 && !may_be_off(tid) {
        return; // It waits for nobody, and the wait that it was preempted in, if any, goes on as it stands.
    }
    if tid == 0 || !is_wanted(task, tgid) || (setting!(own_count) != 0 && is_own(tgid)) {
        return;
    }
    if context.arg::<u64>(3) & DEAD != 0 {
        return; // It does not come back.
    }
    let Some(sleep) = sleep_of(tid, task) else { return lose(source()) };
    // SAFETY: no arguments, no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a live map value. It is this thread's own but for two words, which nobody else writes until it sleeps.
    let sleep = unsafe { &mut *sleep };
    if sleep.is_off() && sleep.word != 0 && setting!(waits) & WAITS_MUTEX != 0 {
        // It had come back before it was noted that it sleeps (`asleep`): that wait has never begun.
        lock::ends(sleep.lock, sleep.begun_ns());
    }
    let same_wait = if sleep.word != 0 && sleep.released == RELEASED_NOT { sleep.word } else { 0 };
    let waits_for_any = state & STATE_INTERRUPTIBLE != 0 && setting!(waits) & (WAITS_BLOCK | WAITS_MUTEX) != 0;
    let call = if waits_for_any { current_call() } else { None };
    let word = match call {
        // It was stopped in the middle of a wait, and goes on with it.
        Some(call) if call.number == Number::Restart => sleep.unreleased,
        Some(call) => match call.waits() {
            Some((word, class)) => {
                (sleep.class, sleep.reach) = (class as u16, call.reach());
                word
            }
            None => 0,
        },
        None => 0,
    };
    // A thread that was preempted, or stopped, in the middle of a wait that is repeated goes on with it; one that sleeps for another reason does not.
    sleep.unreleased = if same_wait != 0 {
        same_wait
    } else if word == sleep.unreleased || call.is_none() {
        sleep.unreleased
    } else {
        0
    };
    sleep.lock = if sleep.tgid == tgid { sleep.lock } else { lock::NOWHERE }; // Another process's word has another place.
    (sleep.left_ns, sleep.woken_ns, sleep.word, sleep.waker) = (now, 0, word, 0);
    (sleep.tgid, sleep.state, sleep.released) = (tgid, state, RELEASED_NOT);
    sleep.leaves = sleep.leaves.wrapping_add(1);
    if word != 0 && setting!(waits) & WAITS_MUTEX != 0 {
        begins_at(sleep);
    }
}

/// A wait, or the end of one, for which there is no room.
#[inline(always)]
pub fn lose(source: Source) {
    OfProbe::add(source, Counter::Runs, 1);
    OfProbe::lose(source, Loss::WaitsFull);
}

/// Whether a thread is still off its CPU by what is kept of it: it had come back before that was noted (`asleep`).
#[inline(always)]
fn may_be_off(tid: u32) -> bool {
    // SAFETY: a live map value, which the thread itself writes.
    is_marked(tid) && SLEEPS.get_ptr(&tid).is_some_and(|sleep| unsafe { (*sleep).is_off() })
}

/// The word of a thread's mark, and its bit.
#[inline(always)]
fn mark_of(tid: u32) -> (u32, u64) {
    (tid >> 6 & (MARK_WORDS - 1), 1 << (tid & 63))
}

/// Whether anything may be kept of a thread: of most that switch nothing is, and a look-up in a map of many costs far more.
#[inline(always)]
pub fn is_marked(tid: u32) -> bool {
    let (word, bit) = mark_of(tid);
    // SAFETY: a live map value; the word is read whole.
    MARKS.get_ptr(word).is_some_and(|word| unsafe { core::ptr::read_volatile(word) } & bit != 0)
}

/// Marks a thread of which something is kept. Marks stay: another one of that id, or of one that shares the bit, is looked up.
#[inline(always)]
pub fn mark(tid: u32) {
    let (word, bit) = mark_of(tid);
    if let Some(word) = MARKS.get_ptr_mut(word) {
        // SAFETY: a live map value, which is only written by atomic operations.
        unsafe { set_atomically(word, bit) };
    }
}

/// It begins to wait for its lock, whose place it knows if it was the same one the last time.
#[inline(always)]
fn begins_at(sleep: &mut Sleep) {
    let key = LockKey::new(sleep.word, sleep.class, sleep.reach, sleep.tgid);
    if sleep.lock_word != key.word || sleep.lock == lock::NOWHERE || sleep.lock == lock::NO_ROOM {
        (sleep.lock, sleep.lock_word) = (lock::place(&key), key.word);
    }
    sleep.carried_ns = 0;
    if sleep.pending_ns != 0 && sleep.pending_word == pending_word(sleep) {
        leave_uncharged(sleep, u64::MAX);
        (sleep.carried_ns, sleep.pending_ns) = (sleep.pending_ns, 0);
    }
    lock::begins(sleep.lock, sleep.begun_ns());
}

/// It waits no longer at its word. Where nobody has let it go, nobody is charged with that, unless it goes on with it.
#[inline(always)]
fn ends_at(sleep: &mut Sleep, now_ns: u64) {
    if sleep.released == RELEASED {
        return lock::ends(sleep.lock, now_ns);
    }
    let waited_ns = lock::ends_unreleased(sleep.lock, sleep.begun_ns(), now_ns);
    if waited_ns != 0 {
        (sleep.pending_ns, sleep.pending_word) = (waited_ns, pending_word(sleep));
        leave_uncharged(sleep, 1);
    }
}

/// What a wait is known by that goes on with one before. (The two words of a condition variable lie side by side, and are taken in turn.)
#[inline(always)]
fn pending_word(sleep: &Sleep) -> u64 {
    sleep.lock_word | u64::from(u64::from(sleep.class) == CLASS_LOCK)
}

/// Counts what a thread has waited in vain, or takes it back: once, or less once by a number that goes round 2^64.
#[inline(always)]
fn leave_uncharged(sleep: &Sleep, times: u64) {
    let is_lock = u64::from(sleep.class) == CLASS_LOCK;
    let (waits, ns) = if is_lock { (Counter::LeftOut, Counter::LeftOutNs) } else { (Counter::LeftOutUnsure, Counter::LeftOutUnsureNs) };
    OfProbe::add(Source::MUTEX, waits, times);
    OfProbe::add(Source::MUTEX, ns, sleep.pending_ns.wrapping_mul(times));
}

/// The `STATE_*` of a `__state`.
#[inline(always)]
pub fn state_of(state: u64) -> u16 {
    match state {
        0 => STATE_RUNNABLE,
        _ if state & INTERRUPTIBLE != 0 => STATE_INTERRUPTIBLE,
        _ if state & STOPPED != 0 => STATE_STOPPED,
        _ => STATE_UNINTERRUPTIBLE,
    }
}

/// What is kept of a thread, new or known.
#[inline(always)]
fn sleep_of(tid: u32, task: Current) -> Option<*mut Sleep> {
    let address = task.address();
    if let Some(sleep) = SLEEPS.get_ptr_mut(&tid) {
        // SAFETY: a live map value, which the thread itself writes.
        if unsafe { (*sleep).task } == address {
            return Some(sleep);
        }
    }
    SLEEPS.insert(&tid, Sleep { task: address, ..Sleep::default() }, 0).ok()?;
    mark(tid);
    SLEEPS.get_ptr_mut(&tid)
}

/// The source that what is common to all of them is counted for.
#[inline(always)]
fn source() -> Source {
    let waits = setting!(waits);
    if waits & WAITS_OFF_CPU != 0 {
        Source::OFF_CPU
    } else if waits & WAITS_BLOCK != 0 {
        Source::BLOCK
    } else {
        Source::MUTEX
    }
}

/// `sched_exit_tp(is_switch)`.
#[inline(always)]
pub fn returns(context: &RawTracePointContext) {
    if context.arg::<u64>(0) & 0xff != 0 {
        returned(context.as_ptr());
    }
}

/// The current thread is back.
#[inline(always)]
pub fn returned(context: *mut c_void) {
    // SAFETY: no arguments, no preconditions.
    let tid = unsafe { bpf_get_current_pid_tgid() } as u32;
    if !is_marked(tid) {
        return;
    }
    let Some(kept) = SLEEPS.get_ptr_mut(&tid) else { return };
    // SAFETY: a live map value, which this thread alone writes now.
    let sleep = unsafe { &mut *kept };
    if !sleep.is_off() {
        return;
    }
    if !is_counting() {
        sleep.has_gone_on = 1;
        return;
    }
    sleep.returns = sleep.leaves;
    // SAFETY: no arguments, no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if sleep.word != 0 && setting!(waits) & WAITS_MUTEX != 0 {
        ends_at(sleep, now);
    }
    if setting!(waits) & WAITS_OFF_CPU != 0 {
        off_cpu(context, sleep, now);
    }
    if setting!(waits) & (WAITS_BLOCK | WAITS_MUTEX) != 0 {
        at_word(context, sleep, now);
    }
}

/// How many waits one of that length stands for; 0: it is not taken.
#[inline(always)]
fn taken(source: Source, delay_ns: u64, longest_ns: u64) -> u64 {
    OfProbe::add(source, Counter::Runs, 1);
    // SAFETY: no arguments, no preconditions.
    if delay_ns >= longest_ns || u64::from(unsafe { bpf_get_prandom_u32() }) < delay_odds(delay_ns, longest_ns) {
        return delay_stands_for(delay_ns, longest_ns);
    }
    OfProbe::add(source, Counter::Filtered, 1);
    0
}

/// Counts time off the CPU: until it was woken, and from then on.
#[inline(always)]
fn off_cpu(context: *mut c_void, sleep: &Sleep, now_ns: u64) {
    let (slept, waited) = sleep.parts(now_ns);
    let delay = slept + waited;
    let Some((slept, waited)) = kept(sleep, slept, waited) else { return };
    let taken = taken(Source::OFF_CPU, delay, setting!(sleep_ns));
    delay::count(&From::Kernel { context, kernel: true }, [(Source::OFF_CPU, taken)], |_, stands_for| {
        let counts = DelayCounts {
            events: 1,
            events_for: if slept != 0 { stands_for } else { 0 },
            ns_for: delay_weight(slept, stands_for),
            runnable_for: if waited != 0 { stands_for } else { 0 },
            runnable_ns_for: delay_weight(waited, stands_for),
        };
        (shown_waker(sleep), counts)
    });
}

/// The bits of who ended a wait, where the user has asked for them.
#[inline(always)]
fn shown_waker(sleep: &Sleep) -> u64 {
    if setting!(wakers) != 0 { waker_bits(sleep.waker) } else { 0 }
}

/// What is counted of a time off the CPU, where the user has asked for some of it; None: nothing. What is left out is counted.
#[inline(always)]
fn kept(sleep: &Sleep, slept: u64, waited: u64) -> Option<(u64, u64)> {
    let filter = SleepFilter { states: setting!(states) as u16, shortest_ns: setting!(shortest_ns), longest_ns: setting!(longest_ns) };
    if filter.states == STATES_ALL && filter.shortest_ns == 0 && filter.longest_ns == u64::MAX {
        return Some((slept, waited));
    }
    let kept = filter.kept(sleep.state, slept, waited);
    let left_out_ns = slept + waited - kept.0 - kept.1;
    if left_out_ns != 0 {
        OfProbe::add(Source::OFF_CPU, Counter::LeftOut, 1);
        OfProbe::add(Source::OFF_CPU, Counter::LeftOutNs, left_out_ns);
    }
    if kept != (0, 0) {
        return Some(kept);
    }
    OfProbe::add(Source::OFF_CPU, Counter::Runs, 1);
    OfProbe::add(Source::OFF_CPU, Counter::Filtered, 1);
    None
}

/// Counts a wait at a word: for another thread, and who is charged with it where that was left to be counted now.
#[inline(always)]
fn at_word(context: *mut c_void, sleep: &mut Sleep, now_ns: u64) {
    let delay = now_ns.saturating_sub(sleep.left_ns);
    let is_block = setting!(waits) & WAITS_BLOCK != 0 && sleep.word != 0;
    let block = if is_block { taken(Source::BLOCK, delay, setting!(block_ns)) } else { 0 };
    let mutex = if setting!(waits) & WAITS_MUTEX != 0 && sleep.is_charged != 0 { wake::charge_stands_for() } else { 0 };
    sleep.is_charged = 0;
    let sleep = &*sleep;
    delay::count(&From::Kernel { context, kernel: false }, [(Source::BLOCK, block), (Source::MUTEX, mutex)], |source, stands_for| {
        if source == Source::MUTEX {
            return (u64::from(sleep.class) | waker_bits(sleep.waker), wake::charge(sleep.charged_ns, stands_for));
        }
        // A timed wait that is repeated at the same word is one.
        let events_for = if sleep.unreleased == sleep.word { 0 } else { stands_for };
        let counts = DelayCounts { events: 1, events_for, ns_for: delay_weight(delay, stands_for), ..DelayCounts::default() };
        (u64::from(sleep.class) | shown_waker(sleep), counts)
    });
}

/// `sched_process_free(task)`: an id that is another's by now is kept.
#[inline(always)]
pub fn ended(context: &RawTracePointContext) {
    let task = Task(context.arg(0));
    let tid = task.tid();
    let Some(sleep) = SLEEPS.get_ptr(&tid) else { return };
    // SAFETY: a live map value, which nobody writes any more.
    let (whose, is_charged) = unsafe { ((*sleep).task, (*sleep).is_charged) };
    if whose != task.0 {
        return;
    }
    if is_charged != 0 {
        // It was let go when the recording was over, and has ended since.
        OfProbe::lose(Source::MUTEX, Loss::NoReturn);
    }
    let _ = SLEEPS.remove(&tid);
}
