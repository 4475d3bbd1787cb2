//! The maps, every one bounded; sizes are those of `limits.rs` unless the loader was told otherwise.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use profiler_common::counter::COUNTERS;
use profiler_common::limits::{OWN_PROCESSES_MAX, RING_BYTES, SENT_STACK_SLOTS, STACK_FRAMES_MAX, TARGET_PROCESSES_MAX};
use profiler_common::record::StackHeader;
use profiler_common::target::TargetProcess;

/// Where a stack is built: its head, then its addresses, as they cross the ring.
#[repr(C)]
pub struct Scratch {
    pub header: StackHeader,
    /// One more than can be used, so that an index that is checked against the bound can never reach past the end.
    pub frames: [u64; STACK_FRAMES_MAX + 1],
}

/// Samples and stacks, on their way to user space.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Hashes of stacks that were sent; a slot is `hash & (SENT_STACK_SLOTS - 1)`, and user space keeps the same slots.
#[map]
pub static SENT_STACKS: Array<u64> = Array::with_max_entries(SENT_STACK_SLOTS as u32, 0);

/// Scratch of the CPU program, which nothing can interrupt on its CPU but an NMI, and which then does not run again (`bpf_prog_active`).
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Counters and losses; the cells are those of `profiler_common::counter`.
#[map]
pub static COUNTERS_CELLS: PerCpuArray<[u64; COUNTERS as usize]> = PerCpuArray::with_max_entries(1, 0);

/// Processes of the target, with their children if those are followed.
#[map]
pub static TARGET_PROCESSES: HashMap<u32, TargetProcess> = HashMap::with_max_entries(TARGET_PROCESSES_MAX, 0);

/// Our own processes: the profiler and its readers. 0: unused.
#[map]
pub static OWN_PROCESSES: Array<[u32; OWN_PROCESSES_MAX]> = Array::with_max_entries(1, 0);
