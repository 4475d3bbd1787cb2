//! The eBPF programs: entry points only, one call each. One file an event source in `probe/`; what they share stands beside it.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod delay;
mod emit;
mod live;
mod maps;
mod pending;
mod place;
mod probe;
mod settings;
mod stack;
mod tally;
mod target;
mod task;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{btf_tracepoint, fexit, perf_event, raw_tracepoint, uprobe, uretprobe};
use aya_ebpf::programs::{BtfTracePointContext, FExitContext, PerfEventContext, ProbeContext, RawTracePointContext, RetProbeContext};
use probe::heap::Return;
use profiler_common::source::Source;

/// A tick of the CPU clock, or of the cycles counter.
#[perf_event]
pub fn cpu(context: PerfEventContext) -> u32 {
    probe::cpu::tick(&context, Source::CLOCK);
    0
}

/// A page fault that is sampled.
#[perf_event]
pub fn fault(context: PerfEventContext) -> u32 {
    probe::cpu::tick(&context, Source::FAULTS);
    0
}

/// A process or thread was started: `sched_process_fork(parent, child)`.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn follow_fork(context: RawTracePointContext) -> i32 {
    probe::process::forked(&context);
    0
}

/// A task's last reference is going: `sched_process_free(task)`.
#[raw_tracepoint(tracepoint = "sched_process_free")]
pub fn forget_process(context: RawTracePointContext) -> i32 {
    probe::process::freed(&context);
    0
}

/// A system call begins: `sys_enter(registers, number)`.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn descriptor_closed(context: RawTracePointContext) -> i32 {
    probe::descriptor::entered(&context);
    0
}

/// A system call returns: `sys_exit(registers, result)`.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn descriptor_got(context: RawTracePointContext) -> i32 {
    probe::descriptor::returned(&context);
    0
}

/// An address space is let go by who may have changed it: `mmap_lock_released(space, ...)`.
#[raw_tracepoint(tracepoint = "mmap_lock_released")]
pub fn mapping(context: RawTracePointContext) -> i32 {
    probe::mapping::unlocked(&context);
    0
}

/// An address space ends: `exit_mmap(space)`.
#[raw_tracepoint(tracepoint = "exit_mmap")]
pub fn mapping_ended(context: RawTracePointContext) -> i32 {
    probe::mapping::ended(&context);
    0
}

/// A thread leaves its CPU: `sched_switch(preempted, previous, next, state)`, in the context of the one that leaves.
#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn thread_leaves(context: RawTracePointContext) -> i32 {
    probe::sleep::leaves(&context);
    0
}

/// A thread is back on a CPU: `sched_exit_tp(is_switch)`, in its own context (Linux 6.14).
#[raw_tracepoint(tracepoint = "sched_exit_tp")]
pub fn thread_returns(context: RawTracePointContext) -> i32 {
    probe::sleep::returns(&context);
    0
}

/// The same before Linux 6.14: `schedule()` returns, in the context of the thread that had called it.
#[fexit(function = "schedule")]
pub fn schedule_returns(context: FExitContext) -> i32 {
    probe::sleep::returned(context.as_ptr());
    0
}

/// A thread is woken: `sched_waking(task)`, in the context of who wakes it.
#[btf_tracepoint(function = "sched_waking")]
pub fn thread_woken(context: BtfTracePointContext) -> i32 {
    probe::wake::woken(&context);
    0
}

/// A thread's last reference is going: `sched_process_free(task)`.
#[raw_tracepoint(tracepoint = "sched_process_free")]
pub fn thread_ended(context: RawTracePointContext) -> i32 {
    probe::sleep::ended(&context);
    0
}

/// A process or thread was started: `sched_process_fork(parent, child)`, in the context of the parent.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn thread_started(context: RawTracePointContext) -> i32 {
    probe::thread::started(&context);
    0
}

/// Both ends of a call that makes a block, where the kernel has sessions (6.13): 0 asks for the return.
///
/// Not by the macro `uprobe`: what that makes returns 0, whatever the function says, and every return would be a trap.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
pub fn heap_session(context: *mut core::ffi::c_void) -> u32 {
    u32::from(probe::heap::session(&ProbeContext::new(context)) == Return::NotSeen)
}

/// The entry of such a call, where it has none.
#[uprobe]
pub fn heap_entry(context: ProbeContext) -> u32 {
    probe::heap::entered(&context);
    0
}

/// The return of such a call, where it has none.
#[uretprobe]
pub fn heap_return(context: RetProbeContext) -> u32 {
    probe::heap::returned_alone(&context);
    0
}

/// The entry of a call that makes a block, where only what is allocated is counted.
#[uprobe]
pub fn allocs_entry(context: ProbeContext) -> u32 {
    probe::heap::allocated(&context);
    0
}

/// A block is given back.
#[uprobe]
pub fn heap_free(context: ProbeContext) -> u32 {
    probe::heap::free(&context);
    0
}

/// A thread of the process that an iterator walks over.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn threads(context: *mut core::ffi::c_void) -> i32 {
    probe::snapshot::thread(context.cast());
    0
}

/// A task has become another program: `sched_process_exec(task, old pid, program)`, in its context.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn command_began(_context: RawTracePointContext) -> i32 {
    probe::hold::began();
    0
}

/// A loader has mapped libraries, or is about to.
#[uprobe]
pub fn command_linked(_context: ProbeContext) -> u32 {
    probe::hold::linked();
    0
}

/// A thread that is there when a recording of waits begins.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn note_sleepers(context: *mut core::ffi::c_void) -> i32 {
    probe::asleep::note(context.cast());
    0
}

/// A thread that still sleeps when it is over.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn sleepers_left(context: *mut core::ffi::c_void) -> i32 {
    probe::asleep::left(context.cast());
    0
}

/// A function is called that a custom profile probes.
#[uprobe]
pub fn custom_entry(context: ProbeContext) -> u32 {
    probe::custom::called(&context);
    0
}

/// Such a function returns.
#[uretprobe]
pub fn custom_return(context: RetProbeContext) -> u32 {
    probe::custom::returned(&context);
    0
}

/// A tracepoint of the kernel that a custom profile probes.
#[raw_tracepoint]
pub fn custom_trace(context: RawTracePointContext) -> i32 {
    probe::custom::traced(&context);
    0
}

/// Loops, so that the verifier refuses a program in which a panic can be reached.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
