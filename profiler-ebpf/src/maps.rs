//! The maps, every one bounded; sizes are those of `limits.rs` unless the loader was told otherwise.

use crate::pending::Pending;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf, Stack};
use profiler_common::counter::COUNTERS;
use profiler_common::custom::CustomSite;
use profiler_common::descriptor::{Descriptor, DescriptorKey};
use profiler_common::hold::Hold;
use profiler_common::limits::{
    ADDRESS_SPACES_MAX, CUSTOM_SITES_MAX, DELAYS_MAX, KNOWN_SLOTS, LIVE_BLOCKS_MAX, LOCKS_MAX, OPEN_DESCRIPTORS_MAX, OWN_PROCESSES_MAX,
    PENDING_CALLS_MAX, PROBE_CACHE_SLOTS, PROBE_KNOWN_SLOTS, RING_BYTES, RULE_CACHE_SLOTS, SENT_STACK_SLOTS, SITES_MAX, SLEEPS_MAX,
    STACK_FRAMES_MAX, TALLIES_MAX, TARGET_MARKS_LEN, TARGET_PROCESSES_MAX, UNFINISHED_BYTES_MAX, UNFINISHED_SLOTS, UNWIND_PROCESSES_MAX,
};
use profiler_common::record::{StackHeader, UnfinishedAt};
use profiler_common::source::SOURCES;
use profiler_common::tally::{LiveBlock, LiveKey, Site, TallyCounts, TallyKey, Thinning};
use profiler_common::target::TargetProcess;
use profiler_common::unwind::Registers;
use profiler_common::unwind::known::{KNOWN_FRAMES_MAX, KNOWN_POINTERS_MAX};
use profiler_common::unwind::range::ProcessRanges;
use profiler_common::unwind::table::Head;
use profiler_common::wait::{DelayCounts, LOCKS_CELLS, Lock, LockKey, Sleep};

/// `BPF_F_NO_PREALLOC` of include/uapi/linux/bpf.h: entries cost memory only while they are used.
const NO_PREALLOC: u32 = 1;
/// Words of an unfinished stack behind its addresses.
pub const UNFINISHED_WORDS: usize = (size_of::<UnfinishedAt>() + UNFINISHED_BYTES_MAX) / 8;
/// Words of the window onto the walked thread's stack: a page, and what was left of the page before it.
pub const WINDOW_WORDS: usize = 1024;

/// Where a stack is built: its head, then its addresses, as they cross the ring; then what an unfinished one carries.
#[repr(C)]
pub struct Scratch {
    pub header: StackHeader,
    /// One more than can be used, so that an index that is checked against the bound can never reach past the end.
    pub frames: [u64; STACK_FRAMES_MAX + 1 + UNFINISHED_WORDS],
}

/// A walk on its way from frame to frame, and what is at hand of the walked thread's stack.
///
/// In a map and not on the program's own stack: what is loaded from a map is any number to the verifier, while it would follow each value that a variable on
/// the stack can have through every frame of the walk.
#[repr(C)]
pub struct Walk {
    pub registers: Registers,
    /// 1: the instruction pointer was interrupted where it is; 0: a call returns to it.
    pub is_exact: u64,
    pub hash: u64,
    /// User frames so far.
    pub frames: u64,
    /// Where in scratch the user part begins.
    pub first: u64,
    /// How it ended ([`profiler_common::ended::Ended`]).
    pub ended: u64,
    /// 1: a table was missing, and user space can walk on from `registers`.
    pub unfinished: u64,
    pub ranges: Ranges,
    pub view: View,
    /// A word beside the window.
    pub unaligned: u64,
    /// Where the stack is to be taken down; [`crate::stack::known::NONE`]: it is not.
    pub known: u64,
    /// What it depends on so far, while it is taken down.
    pub depends: Dependence,
    /// By which rules the walk has gone, as long as it is to be taken down.
    pub notes: [Note; KNOWN_FRAMES_MAX],
    pub window: [u64; WINDOW_WORDS],
}

/// What a walk depends on up to a frame.
#[repr(C)]
pub struct Dependence {
    /// [`profiler_common::unwind::known::PointerAt`].
    pub pointer: u64,
    pub pointers: u64,
    pub bytes: u64,
    pub needs_register: u64,
}

/// One frame of a walk.
#[repr(C)]
pub struct Note {
    /// The rule that has found its caller.
    pub rule: u64,
    pub caller_sp: u64,
}

/// Tags of stacks that are known, at most, and of those that were met.
pub const KNOWN_TAGS: usize = 16;
pub const KNOWN_SEEN: usize = 64;

/// Where a stack is that is known, by a hash of where it begins.
#[repr(C)]
pub struct KnownIndex {
    pub tags: [u64; KNOWN_TAGS],
    /// Those that were met, and may be met again.
    pub seen: [u64; KNOWN_SEEN],
    /// Who goes next.
    pub next: u64,
}

/// What a place knows.
#[repr(C)]
pub struct KnownStacks {
    pub index: KnownIndex,
    pub stacks: [Known; KNOWN_SLOTS],
}

/// A stack that was walked before: where that began, and all that it depends on from there to the root.
#[repr(C)]
pub struct Known {
    pub ip: u64,
    pub sp: u64,
    pub fp: u64,
    /// 0: at the leaf; 1: at its caller.
    pub begin: u64,
    /// By which list of ranges; 0: nothing is known.
    pub list: u64,
    /// Return addresses from there to the root; 0: they are not known.
    pub frames: u64,
    /// Saved frame pointers that it depends on.
    pub pointers: u64,
    /// Bytes above the stack pointer that all of them are in.
    pub bytes: u64,
    /// 1: it depends on `fp`.
    pub needs_register: u64,
    /// How often it must be met until it is taken down.
    pub wanted: u64,
    /// Words above the stack pointer, and what is there.
    pub pointer_at: [u16; KNOWN_POINTERS_MAX],
    pub pointer_is: [u64; KNOWN_POINTERS_MAX],
    /// The same of return addresses.
    pub frame_at: [u16; KNOWN_FRAMES_MAX],
    pub frame_is: [u64; KNOWN_FRAMES_MAX],
}

/// The list of the process that is walked, and the range that the last address was in.
#[repr(C)]
pub struct Ranges {
    /// 0: there is none.
    pub list: u64,
    pub at: u64,
    pub entries: u64,
    /// The range at hand: of which list, from where, how long, what it is.
    pub list_at_hand: u64,
    pub start: u64,
    pub length: u64,
    pub kind: u64,
    pub part: u64,
    pub place: u64,
    /// What stands in front of the part.
    pub head: Head,
}

/// What is in the window.
#[repr(C)]
pub struct View {
    /// The address of its first byte; a multiple of 8.
    pub base: u64,
    /// Bytes of it.
    pub have: u64,
}

/// A rule that was looked up before.
#[repr(C)]
pub struct CachedRule {
    pub address: u64,
    /// Of which list; 0: nothing.
    pub list: u64,
    pub rule: u64,
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

/// Counters and losses, a row for each source; the cells are those of `profiler_common::counter`.
#[map]
pub static COUNTERS_CELLS: PerCpuArray<[u64; COUNTERS as usize]> = PerCpuArray::with_max_entries(SOURCES, 0);

/// Processes of the target, with their children if those are followed.
#[map]
pub static TARGET_PROCESSES: HashMap<u32, TargetProcess> = HashMap::with_max_entries(TARGET_PROCESSES_MAX, 0);

/// By pid, whether a process may be of the target: 1, and then for good. A look-up among those of the target costs a process that is none as much as all else.
#[map]
pub static TARGET_MARKS: Array<u64> = Array::with_max_entries(TARGET_MARKS_LEN, 0);

/// Our own processes: the profiler and its readers. 0: unused.
#[map]
pub static OWN_PROCESSES: Array<[u32; OWN_PROCESSES_MAX]> = Array::with_max_entries(1, 0);

/// Walks, one for each CPU; whose it is, is as with `SCRATCH`.
#[map]
pub static WALK: PerCpuArray<Walk> = PerCpuArray::with_max_entries(1, 0);

/// The arena of unwind tables and lists: chunks of words, by their number. In its place the loader puts an array of maps, which aya cannot make, before
/// the programs are loaded; each chunk is an array map of one value.
#[map]
pub static CHUNKS: Array<u32> = Array::with_max_entries(1, 0);

/// Where in the arena the list of each process stands, by process id.
#[map]
pub static PROCESS_RANGES: HashMap<u32, ProcessRanges> = HashMap::with_max_entries(UNWIND_PROCESSES_MAX, NO_PREALLOC);

/// Rules by address, for the CPU program: most return addresses are met again at once.
#[map]
pub static RULE_CACHE: PerCpuArray<[CachedRule; RULE_CACHE_SLOTS]> = PerCpuArray::with_max_entries(1, 0);

/// Stacks that were walked before, for each CPU.
#[map]
pub static KNOWN: PerCpuArray<KnownStacks> = PerCpuArray::with_max_entries(1, 0);

/// How many unfinished stacks a process has sent of late: the span (bits 32..64) and the number.
#[map]
pub static UNFINISHED: Array<u64> = Array::with_max_entries(UNFINISHED_SLOTS as u32, 0);

/// A place where a probe's program builds and walks a stack. Such a program can be preempted by another one on its CPU, so it claims a place.
#[repr(C)]
pub struct ProbePlace {
    /// 1: claimed.
    pub is_claimed: u64,
    pub walk: Walk,
    pub scratch: Scratch,
    pub cache: [CachedRule; PROBE_CACHE_SLOTS],
    pub known_index: KnownIndex,
    pub known: [Known; PROBE_KNOWN_SLOTS],
}

/// The places of probes, some for each CPU; one where no probe is.
#[map]
pub static PROBE_PLACES: Array<ProbePlace> = Array::with_max_entries(1, 0);

/// Where probes are, by the cookie of each.
#[map]
pub static SITES: Array<Site> = Array::with_max_entries(SITES_MAX, 0);

/// Where probes of custom profiles are, and what each adds or removes, by the cookie of each.
#[map]
pub static CUSTOM_SITES: Array<CustomSite> = Array::with_max_entries(CUSTOM_SITES_MAX, 0);

/// Blocks by stack and size class.
#[map]
pub static TALLIES: HashMap<TallyKey, TallyCounts> = HashMap::with_max_entries(TALLIES_MAX, NO_PREALLOC);

/// How many keys each process has in `TALLIES` and `DELAYS`; also those that have ended, whose keys are still there.
#[map]
pub static TALLY_OWNERS: HashMap<u32, u64> = HashMap::with_max_entries(TALLIES_MAX, NO_PREALLOC);

/// How many there are in all.
#[map]
pub static TALLIES_USED: Array<u64> = Array::with_max_entries(1, 0);

/// Which of the sampled blocks that live are followed.
#[map]
pub static THINNING: Array<Thinning> = Array::with_max_entries(1, 0);

/// Sampled blocks that live, and are followed.
#[map]
pub static LIVE: HashMap<LiveKey, LiveBlock> = HashMap::with_max_entries(LIVE_BLOCKS_MAX, NO_PREALLOC);

/// Pages of address spaces, by where the kernel has each; and those that processes had when the recording began, by their ids.
#[map]
pub static ADDRESS_SPACES: HashMap<u64, u64> = HashMap::with_max_entries(ADDRESS_SPACES_MAX, NO_PREALLOC);

/// File descriptors that are open.
#[map]
pub static DESCRIPTORS: HashMap<DescriptorKey, Descriptor> = HashMap::with_max_entries(OPEN_DESCRIPTORS_MAX, NO_PREALLOC);

/// Sampled calls on their way.
#[map]
pub static PENDING: Array<Pending> = Array::with_max_entries(PENDING_CALLS_MAX, 0);

/// What the programs of probes do: one of the `COUNTING_*`.
#[map]
pub static COUNTING: Array<u32> = Array::with_max_entries(1, 0);

/// Whom `Settings::held` has stopped, and how often.
#[map]
pub static HOLD: Array<Hold> = Array::with_max_entries(1, 0);

/// When the recording began, on `CLOCK_MONOTONIC` and on `CLOCK_BOOTTIME`, ns; written before anything is counted.
#[map]
pub static BEGAN: Array<[u64; 2]> = Array::with_max_entries(1, 0);

/// Threads that have left their CPU, by id.
#[map]
pub static SLEEPS: HashMap<u32, Sleep> = HashMap::with_max_entries(SLEEPS_MAX, NO_PREALLOC);

/// A bit for each thread that [`SLEEPS`] may have, by its id; ids that are further apart share one.
#[map]
pub static MARKS: Array<u64> = Array::with_max_entries(MARK_WORDS, 0);

/// Words of marks.
pub const MARK_WORDS: u32 = 1024;

/// Words of memory at which threads wait: the place of each in [`LOCK_PLACES`], from 1 on. Those of processes that have
/// ended are removed by user space.
#[map]
pub static LOCKS: HashMap<LockKey, u32> = HashMap::with_max_entries(LOCKS_MAX, NO_PREALLOC);

/// How long threads have waited there. 0 is nobody's place: what begins and ends there is never charged.
#[map]
pub static LOCK_PLACES: Array<Lock> = Array::with_max_entries(LOCKS_MAX, 0);

/// How many places were given away, by the `LOCKS_*` of `wait.rs`.
#[map]
pub static LOCKS_USED: Array<u64> = Array::with_max_entries(LOCKS_CELLS, 0);

/// Places that user space has given back.
#[map]
pub static LOCKS_FREE: Stack<u32> = Stack::with_max_entries(LOCKS_MAX, 0);

/// Waits by stack and class.
#[map]
pub static DELAYS: HashMap<TallyKey, DelayCounts> = HashMap::with_max_entries(DELAYS_MAX, NO_PREALLOC);
