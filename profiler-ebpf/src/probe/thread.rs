//! Threads that are started: the stack of the one that called.

use crate::delay::{self, is_counting};
use crate::place::{OfProbe, Place as _};
use crate::settings::setting;
use crate::stack::From;
use crate::target::{is_own, is_wanted};
use crate::task::{Current, Task};
use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::programs::RawTracePointContext;
use profiler_common::counter::Counter;
use profiler_common::sampling::ONE_BLOCK;
use profiler_common::source::Source;
use profiler_common::wait::DelayCounts;

/// `sched_process_fork(parent, child)`: a thread if both are of one process.
#[inline(always)]
pub fn started(context: &RawTracePointContext) {
    if !is_counting() {
        return;
    }
    // SAFETY: no arguments, no preconditions.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    let (task, child) = (Current::task(), Task(context.arg(1)));
    if child.tgid() != tgid || task.is_of_kernel() {
        return;
    }
    OfProbe::add(Source::THREADS, Counter::Runs, 1);
    if (setting!(own_count) != 0 && is_own(tgid)) || !is_wanted(task, tgid) {
        return OfProbe::add(Source::THREADS, Counter::Filtered, 1);
    }
    // C libraries say nothing of the frame at a clone, for it would be wrong in the child: it is that of an entry.
    delay::count(&From::Probe { is_entry: true }, [(Source::THREADS, ONE_BLOCK)], |_, events_for| {
        (0, DelayCounts { events: 1, events_for, ns_for: 1, ..DelayCounts::default() })
    });
}
