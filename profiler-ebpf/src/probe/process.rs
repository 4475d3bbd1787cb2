//! Following the target: a child of a target process is one from its first instruction, and an ended one makes room.

use crate::maps::TARGET_PROCESSES;
use crate::place::{OfProbe, Place as _};
use crate::target::mark;
use crate::task::Task;
use aya_ebpf::programs::RawTracePointContext;
use profiler_common::loss::Loss;
use profiler_common::source::Source;
use profiler_common::target::TargetProcess;

/// `sched_process_fork(parent, child)`, called before the child can run.
#[inline(always)]
pub fn forked(context: &RawTracePointContext) {
    let parent = Task(context.arg(0));
    let child = Task(context.arg(1));
    let (old, new) = (parent.tgid(), child.tgid());
    if old == new || TARGET_PROCESSES.get_ptr(old).is_none() {
        return;
    }
    mark(new);
    let value = TargetProcess { start_boot_ns: child.start_boot_ns() };
    if TARGET_PROCESSES.insert(new, value, 0).is_err() {
        OfProbe::lose(Source::TARGET, Loss::TargetFull);
    }
}

/// `sched_process_free(task)`: for the leader, which goes last, the process is gone.
#[inline(always)]
pub fn freed(context: &RawTracePointContext) {
    let task = Task(context.arg(0));
    let tgid = task.tgid();
    if task.tid() != tgid {
        return;
    }
    let Some(entry) = TARGET_PROCESSES.get_ptr(tgid) else { return };
    // SAFETY: a live map value, read whole.
    let start = unsafe { (*entry).start_boot_ns };
    // The pid may already have been given to another target.
    if start == 0 || start == task.start_boot_ns() {
        let _ = TARGET_PROCESSES.remove(tgid);
    }
}
