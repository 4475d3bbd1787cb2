//! A command that is recorded from its first allocation: it is stopped when it has become a program, and when its loader has mapped its libraries, and user
//! space lets it go on when their functions are probed.

use crate::maps::HOLD;
use crate::place::add_atomically;
use crate::settings::setting;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_send_signal};
use profiler_common::hold::LINKED_AT_START;

/// SIGSTOP on both machines.
const SIGSTOP: u32 = 19;

/// `sched_process_exec(task, old pid, program)`, in the context of the task, before its first instruction.
#[inline(always)]
pub fn began() {
    let Some(hold) = HOLD.get_ptr_mut(0) else { return };
    // SAFETY: a live map value; the process has one thread at its exec.
    if is_held() {
        unsafe { core::ptr::write_volatile(&raw mut (*hold).linked, 0) };
        stop();
    }
}

/// The function of its loader that debuggers put their breakpoint at: libraries were mapped, or are about to be.
#[inline(always)]
pub fn linked() {
    let Some(hold) = HOLD.get_ptr_mut(0) else { return };
    if !is_held() {
        return;
    }
    // SAFETY: a live map value; loaders hold a lock there.
    let linked = unsafe { core::ptr::read_volatile(&raw const (*hold).linked) };
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(&raw mut (*hold).linked, linked.wrapping_add(1)) };
    if linked < LINKED_AT_START {
        stop();
    }
}

#[inline(always)]
fn is_held() -> bool {
    // SAFETY: no arguments, no preconditions.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    setting!(held) != 0 && setting!(held) == tgid
}

#[inline(always)]
fn stop() {
    // SAFETY: the signal is to the current task; it is delivered before the task's next instruction in user mode.
    if unsafe { bpf_send_signal(SIGSTOP) } != 0 {
        return;
    }
    if let Some(hold) = HOLD.get_ptr_mut(0) {
        // SAFETY: a live map value.
        unsafe { add_atomically(&raw mut (*hold).stops, 1) };
    }
}
