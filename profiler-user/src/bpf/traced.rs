//! Which programs see what is traced, and where in the kernel they are hooked.

use crate::config::Traced;
use profiler_common::source::Source;

/// A place in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hook {
    /// A raw tracepoint.
    Tracepoint(&'static str),
    /// The same, and the verifier knows the types of its arguments.
    TypedTracepoint(&'static str),
    /// A function, when it returns.
    Return(&'static str),
}

/// The programs, and where each is hooked, in the order in which that is done. Of two hooks of one program's work the second is for kernels that lack the first.
pub(super) fn hooks_of(traced: Traced) -> &'static [&'static [(&'static str, Hook)]] {
    match traced {
        Traced::Mappings => &[&[("mapping_ended", Hook::Tracepoint("exit_mmap"))], &[("mapping", Hook::Tracepoint("mmap_lock_released"))]],
        Traced::Descriptors => {
            &[&[("descriptor_got", Hook::Tracepoint("sys_exit"))], &[("descriptor_closed", Hook::Tracepoint("sys_enter"))]]
        }
        Traced::Waits => &[
            &[("thread_ended", Hook::Tracepoint("sched_process_free"))],
            &[("thread_woken", Hook::TypedTracepoint("sched_waking"))],
            // Since Linux 6.14. Before, a thread that was preempted within the kernel is not seen to come back.
            &[("thread_returns", Hook::Tracepoint("sched_exit_tp")), ("schedule_returns", Hook::Return("schedule"))],
            &[("thread_leaves", Hook::Tracepoint("sched_switch"))],
        ],
        Traced::NewThreads => &[&[("thread_started", Hook::Tracepoint("sched_process_fork"))]],
    }
}

/// The programs without which an event of a source is not seen.
pub(super) fn programs_of(source: Source) -> &'static [&'static str] {
    match source {
        Source::OFF_CPU | Source::BLOCK => &["thread_leaves", "thread_returns", "schedule_returns"],
        Source::MUTEX => &["thread_leaves", "thread_woken"],
        Source::THREADS => &["thread_started"],
        _ => &[],
    }
}
