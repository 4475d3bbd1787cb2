//! Ticks of the CPU clock (or of the cycles counter), and page faults: every one ends in exactly one counter.

use crate::emit;
use crate::place::{OfCpu, Place as _};
use crate::settings::setting;
use crate::stack::{From, interrupted, take};
use crate::target::{is_own, is_wanted};
use crate::task::Current;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_perf_event_data;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_send_signal_thread};
use aya_ebpf::programs::PerfEventContext;
use profiler_common::counter::Counter;
use profiler_common::loss::Loss;
use profiler_common::record::{RecordKind, SampleRecord};
use profiler_common::settings::{MODE_KERNEL, MODE_USER};
use profiler_common::source::Source;

/// One tick.
#[inline(always)]
pub fn tick(context: &PerfEventContext, source: Source) {
    OfCpu::add(source, Counter::Runs, 1);
    // SAFETY: no arguments, no preconditions.
    let id = unsafe { bpf_get_current_pid_tgid() };
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    if tid == 0 {
        return OfCpu::add(source, Counter::Idle, 1);
    }
    let at = interrupted(context);
    let mode = setting!(mode);
    if (mode == MODE_USER && at.is_kernel) || (mode == MODE_KERNEL && !at.is_kernel) {
        return OfCpu::add(source, Counter::Filtered, 1);
    }
    let task = Current::task();
    if (setting!(own_count) != 0 && is_own(tgid)) || !is_wanted(task, tgid) {
        return OfCpu::add(source, Counter::Filtered, 1);
    }
    let process = task.process(tgid);
    let Some(stack) = take(OfCpu, &From::Tick { context, at: &at }, &process, task) else { return OfCpu::lose(source, Loss::NoScratch) };
    let weight = if source == Source::FAULTS || setting!(weigh_period) != 0 { period(context) } else { 1 };
    // SAFETY: no arguments, no preconditions.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let record =
        SampleRecord { kind: RecordKind::Sample as u16, source: source.number(), tid, process, time_ns, weight, stack_hash: stack.hash };
    emit::sample::<OfCpu>(source, &record, &stack);
    if setting!(stop_at_sample) != 0 && !at.is_kernel {
        stop();
    }
}

/// Stops this thread before it executes another instruction of its own: on its way back into user mode. A debugger that has attached sees it there.
#[inline(always)]
fn stop() {
    const SIGSTOP: u32 = 19;
    // SAFETY: no preconditions; a thread that cannot have a signal now goes on, and the test misses a stop.
    unsafe { bpf_send_signal_thread(SIGSTOP) };
}

/// How many events of the hardware counter this sample stands for.
#[inline(always)]
fn period(context: &PerfEventContext) -> u64 {
    // SAFETY: the context of a perf_event program is this structure.
    unsafe { (*context.as_ptr().cast::<bpf_perf_event_data>()).sample_period }
}
