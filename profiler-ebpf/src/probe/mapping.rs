//! Address spaces that grow and shrink: whoever changes one holds its lock, and when that is let go the space is looked at. So whatever changes it is seen
//! alike: mmap, brk, mremap, shmat, a stack that grows, and what takes memory away; also where one mapping is put over another, which changes nothing.

use crate::emit;
use crate::maps::ADDRESS_SPACES;
use crate::place::{OfProbe, Place as _, swap};
use crate::settings::{offset, setting};
use crate::stack::{From, take};
use crate::target::{is_own, is_wanted};
use crate::task::{Current, read_kernel};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::programs::RawTracePointContext;
use profiler_common::counter::Counter;
use profiler_common::loss::Loss;
use profiler_common::record::{RecordKind, SampleRecord, WEIGHT_LESS};
use profiler_common::source::Source;

const SOURCE: Source = Source::MAPPINGS;
/// `BPF_NOEXIST` of include/uapi/linux/bpf.h.
const NEW_ONLY: u64 = 1;

/// `mmap_lock_released(space, ...)` of include/trace/events/mmap_lock.h, before it is let go: nobody changes the space now.
#[inline(always)]
pub fn unlocked(context: &RawTracePointContext) {
    // SAFETY: no arguments, no preconditions.
    let id = unsafe { bpf_get_current_pid_tgid() };
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    let task = Current::task();
    if (setting!(own_count) != 0 && is_own(tgid)) || !is_wanted(task, tgid) {
        return;
    }
    let space = context.arg::<u64>(0);
    let pages = read_kernel::<u64>(space.wrapping_add(offset!(mm_total_vm)));
    if space != task.memory() {
        // Of a child that it makes, or of the program that it becomes: what they begin with is no growth. Or of nobody any more.
        if read_kernel::<u32>(space.wrapping_add(offset!(mm_users))) != 0 {
            begin(space, pages);
        }
        return;
    }
    let before = exchange(space, tgid, pages);
    if before == pages {
        return;
    }
    OfProbe::add(SOURCE, Counter::Runs, 1);
    let weight = if before < pages { pages - before } else { (before - pages) | WEIGHT_LESS };
    let Some(place) = OfProbe::claim() else { return OfProbe::lose(SOURCE, Loss::NoScratch) };
    let process = task.process(tgid);
    // A program that is being loaded has no stack of its own yet: the kernel's tells what this is.
    let from = From::Kernel { context: context.as_ptr(), kernel: task.is_in_exec() };
    if let Some(stack) = take(place, &from, &process, task) {
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

/// `exit_mmap(space)` of include/trace/events/mmap.h: another one may get its address. It is mostly the process's own that ends, or becomes another program: what it
/// had when the recording began is no beginning any more.
#[inline(always)]
pub fn ended(context: &RawTracePointContext) {
    // SAFETY: no arguments, no preconditions.
    let tgid = unsafe { bpf_get_current_pid_tgid() } >> 32;
    let _ = ADDRESS_SPACES.remove(context.arg::<u64>(0));
    let _ = ADDRESS_SPACES.remove(tgid);
}

/// Pages that a space had when it was looked at last. One that was never looked at had what it had when the recording began; of one that was begun since by who is
/// not recorded the first change is not known.
#[inline(always)]
fn exchange(space: u64, tgid: u32, pages: u64) -> u64 {
    if let Some(held) = ADDRESS_SPACES.get_ptr_mut(space) {
        // SAFETY: a live map value, which is only written by atomic operations.
        return unsafe { swap(held, pages) };
    }
    // SAFETY: a live map value, which user space wrote before this program was attached.
    let first = ADDRESS_SPACES.get_ptr(u64::from(tgid)).map_or(pages, |held| unsafe { *held });
    let _ = ADDRESS_SPACES.remove(u64::from(tgid));
    begin(space, pages);
    first
}

#[inline(always)]
fn begin(space: u64, pages: u64) {
    if ADDRESS_SPACES.get_ptr(space).is_none()
        && ADDRESS_SPACES.insert(space, pages, NEW_ONLY).is_err()
        && ADDRESS_SPACES.get_ptr(space).is_none()
    {
        OfProbe::lose(SOURCE, Loss::TargetFull);
    }
}
