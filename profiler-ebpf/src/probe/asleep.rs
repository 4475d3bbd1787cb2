//! Threads that sleep when a recording begins, and those that sleep when it is over: iterators over all tasks of the machine.

use super::lock;
use super::sleep::{DEAD, mark, state_of};
use super::snapshot::{Context, met, write};
use crate::maps::{BEGAN, SLEEPS};
use crate::place::{OfProbe, Place as _};
use crate::settings::setting;
use crate::stack::registers::call_of;
use crate::target::{is_own, is_wanted};
use crate::task::{Current, Task};
use aya_ebpf::bindings::{seq_file, task_struct};
use aya_ebpf::helpers::generated::bpf_seq_write;
use profiler_common::loss::Loss;
use profiler_common::snapshot::ThreadRecord;
use profiler_common::source::Source;
use profiler_common::wait::{LockKey, STATE_INTERRUPTIBLE, Sleep, WAITS_BLOCK, WAITS_MUTEX};

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h.
const NEW_ONLY: u64 = 1;
/// `TASK_NEW` of include/linux/sched.h.
const NEW: u64 = 0x800;

/// Notes a thread that sleeps as if it had left its CPU when the recording began, and lists one that is there if that is asked for. The programs that see threads
/// leave run already: of who has gone to sleep since, what they noted stays.
#[inline(always)]
pub fn note(context: *mut Context) {
    let (seq, task) = met(context);
    if task.is_null() {
        return;
    }
    let (of, current) = (Task(task as u64), Current::of(task));
    let tgid = of.tgid();
    if current.is_of_kernel() || current.is_ending() || (setting!(own_count) != 0 && is_own(tgid)) || !is_wanted(current, tgid) {
        return;
    }
    let Some(began) = BEGAN.get_ptr(0) else { return };
    // SAFETY: a live map value, which was written before.
    let [began_ns, began_boot_ns] = unsafe { *began };
    if setting!(waits) != 0 && !current.is_on_cpu() && current.has_run() {
        sleeps(task, tgid, began_ns);
    }
    if setting!(existing) != 0 && of.start_boot_ns() < began_boot_ns {
        list(seq, of);
    }
}

/// Where it came back in between, it is noted all the same: it takes that back itself when it leaves next.
#[inline(always)]
fn sleeps(task: *mut task_struct, tgid: u32, began_ns: u64) {
    let (of, current) = (Task(task as u64), Current::of(task));
    let state = current.state();
    if state & (DEAD | NEW) != 0 {
        return;
    }
    let mut sleep = Sleep { task: current.address(), left_ns: began_ns, tgid, leaves: 1, state: state_of(state), ..Sleep::default() };
    if sleep.state & STATE_INTERRUPTIBLE != 0 && setting!(waits) & (WAITS_BLOCK | WAITS_MUTEX) != 0 {
        if let Some(call) = call_of(task) {
            if let Some((word, class)) = call.waits() {
                (sleep.word, sleep.class, sleep.reach) = (word, class as u16, call.reach());
            }
        }
    }
    if sleep.word != 0 && setting!(waits) & WAITS_MUTEX != 0 {
        let key = LockKey::new(sleep.word, sleep.class, sleep.reach, tgid);
        (sleep.lock, sleep.lock_word) = (lock::place(&key), key.word);
        lock::begins(sleep.lock, began_ns);
    }
    let tid = of.tid();
    mark(tid);
    if SLEEPS.insert(&tid, sleep, NEW_ONLY).is_ok() {
        return;
    }
    if sleep.lock != lock::NOWHERE {
        lock::ends(sleep.lock, began_ns);
    }
    if SLEEPS.get_ptr(&tid).is_none() {
        OfProbe::lose(Source::TARGET, Loss::WaitsFull);
    }
}

#[inline(always)]
fn list(seq: *mut seq_file, of: Task) {
    let record = of.look();
    // SAFETY: memory of ours, of that length. Where there is no room left, the kernel throws away what was written and comes again.
    unsafe { bpf_seq_write(seq, (&raw const record).cast(), size_of::<ThreadRecord>() as u32) };
}

/// Writes down a thread that was off its CPU when the counting stopped: since when, its registers, its kernel stack.
#[inline(always)]
pub fn left(context: *mut Context) {
    let (seq, task) = met(context);
    if task.is_null() {
        return;
    }
    let Some(sleep) = SLEEPS.get_ptr(&Task(task as u64).tid()) else { return };
    // SAFETY: a live map value, which nobody writes any more but for one word.
    if unsafe { (*sleep).task != task as u64 || !(*sleep).is_off() } {
        return;
    }
    // SAFETY: as above.
    unsafe { bpf_seq_write(seq, sleep.cast(), size_of::<Sleep>() as u32) };
    write(seq, task);
}
