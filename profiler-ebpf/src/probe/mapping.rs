//! Mappings of memory: each is given an address by the kernel, and has the stack that asked for it.

use crate::emit;
use crate::place::{OfProbe, Place as _};
use crate::settings::{offset, setting};
use crate::stack::{From, take};
use crate::target::{is_own, is_wanted};
use crate::task::{Current, read_kernel};
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::programs::RawTracePointContext;
use profiler_common::counter::Counter;
use profiler_common::loss::Loss;
use profiler_common::record::{RecordKind, SampleRecord};
use profiler_common::source::Source;

/// The highest error that is returned as an address is the lowest of these (`IS_ERR_VALUE` of include/linux/err.h).
const FIRST_ERROR: u64 = -4095i64 as u64;

/// `vm_unmapped_area(address, info)` of include/trace/events/mmap.h: what was looked for was found, or not.
#[inline(always)]
pub fn mapped(context: &RawTracePointContext) {
    const SOURCE: Source = Source::MAPPINGS;
    OfProbe::add(SOURCE, Counter::Runs, 1);
    // SAFETY: no arguments, no preconditions.
    let id = unsafe { bpf_get_current_pid_tgid() };
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    let task = Current::task();
    let is_filtered = context.arg::<u64>(0) >= FIRST_ERROR || (setting!(own_count) != 0 && is_own(tgid)) || !is_wanted(task, tgid);
    if is_filtered {
        return OfProbe::add(SOURCE, Counter::Filtered, 1);
    }
    let weight = read_kernel::<u64>(context.arg::<u64>(1).wrapping_add(offset!(area_length)));
    let Some(place) = OfProbe::claim() else { return OfProbe::lose(SOURCE, Loss::NoScratch) };
    let process = task.process(tgid);
    if let Some(stack) = take(place, &From::Probe { is_entry: false }, &process, task) {
        // SAFETY: no arguments, no preconditions.
        let time_ns = unsafe { bpf_ktime_get_ns() };
        let record = SampleRecord {
            kind: RecordKind::Sample as u16,
            source: SOURCE.number(),
            tid,
            process,
            time_ns,
            weight,
            stack_hash: stack.hash,
        };
        emit::sample(SOURCE, &record, &stack);
    } else {
        OfProbe::lose(SOURCE, Loss::NoScratch);
    }
    place.leave();
}
