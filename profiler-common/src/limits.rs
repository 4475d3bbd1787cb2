//! Every bound that both sides obey, with its unit in the name; relations between them are asserted at compile time.

/// Frames of one user stack, root end cut beyond it.
pub const USER_FRAMES_MAX: usize = 1024;
/// Frames of one kernel stack: the kernel's own default for `kernel.perf_event_max_stack`.
pub const KERNEL_FRAMES_MAX: usize = 127;
/// Frames of one stack as it crosses the ring: the kernel part, then the user part.
pub const STACK_FRAMES_MAX: usize = KERNEL_FRAMES_MAX + USER_FRAMES_MAX;
/// Stacks that the kernel side remembers to have sent; user space mirrors the same slots. A power of two: a slot is `hash & (SLOTS - 1)`.
pub const SENT_STACK_SLOTS: usize = 1 << 14;
/// The ring that samples and stacks cross, unless a test shrinks it. A power of two and a multiple of the page size.
pub const RING_BYTES: u32 = 4 << 20;
/// A drain is woken early once this much is waiting in the ring.
pub const RING_WAKE_BYTES: u64 = (RING_BYTES / 4) as u64;
/// Processes that a target may name or follow.
pub const TARGET_PROCESSES_MAX: u32 = 32_768;
/// Marks of processes that may be of the target, by the low bits of their pid. A power of two.
pub const TARGET_MARKS_LEN: u32 = 8_192;
/// Control groups that a target may name.
pub const TARGET_CGROUPS_MAX: usize = 16;
/// Ancestors of a control group that the filter looks at, and hierarchies of a `css_set` that it walks.
pub const CGROUP_DEPTH_MAX: u32 = 32;
/// Patterns of `--comm`.
pub const TARGET_COMMS_MAX: usize = 8;
/// Bytes of a thread's name, its NUL included (`TASK_COMM_LEN` of include/linux/sched.h).
pub const COMM_BYTES: usize = 16;
/// Processes of our own that are left out of every profile: the profiler, its readers and its memory helper.
pub const OWN_PROCESSES_MAX: usize = 8;

/// Words of 4 bytes in one chunk of the arena of unwind tables: 1 MiB, a power of two. A part of a table, and a list of ranges, lies within one.
pub const ARENA_CHUNK_WORDS: u32 = 1 << 18;
/// Chunks of the arena at most.
pub const ARENA_CHUNKS_MAX: u32 = 256;
/// Processes whose ranges the kernel side holds.
pub const UNWIND_PROCESSES_MAX: u32 = 65_536;
/// Rules that each CPU remembers by their address. A power of two.
pub const RULE_CACHE_SLOTS: usize = 1024;
/// Stacks that each CPU remembers. A power of two; all of them are one value of a per-CPU map, which may have 32 KiB.
pub const KNOWN_SLOTS: usize = 8;
/// Bytes of stack that go along with the addresses of a sample that meets no table.
pub const UNFINISHED_BYTES_MAX: usize = 16 << 10;
/// Pages of 4 KiB that may follow: a compiler's stack is 100 KB deep.
pub const UNFINISHED_MORE_PAGES_MAX: u32 = 60;
/// Slots in which unfinished stacks are counted, by process id. A power of two.
pub const UNFINISHED_SLOTS: usize = 4096;
/// Unfinished stacks of one slot in one span of 2^28 ns (268 ms); beyond it a stack ends where its table is missing.
pub const UNFINISHED_PER_SPAN: u64 = 1024;

/// Places where a stack of a probe is built, for each CPU: programs of probes can be preempted by others.
pub const PROBE_PLACES_PER_CPU: u32 = 4;
/// Rules by address that each of these places remembers.
pub const PROBE_CACHE_SLOTS: usize = 256;
/// Stacks that each of them remembers. A power of two.
pub const PROBE_KNOWN_SLOTS: usize = 8;
/// Sites of probes.
pub const SITES_MAX: u32 = 4096;
/// Places where probes of custom profiles are.
pub const CUSTOM_SITES_MAX: u32 = 1024;
/// Stretches of an allocator's own code that a site has.
pub const SITE_OWN_MAX: usize = 4;
/// Keys of what is counted in the kernel, over all processes. One process has no more of them than are left for others.
pub const TALLIES_MAX: u32 = 65_536;
/// Sampled blocks that are followed at once, over all processes; where more live, one in a power of two is followed.
pub const LIVE_BLOCKS_MAX: u32 = 1 << 18;
/// Address spaces whose sizes are followed at once.
pub const ADDRESS_SPACES_MAX: u32 = 65_536;
/// File descriptors that may be open at once, over all processes, and are followed.
pub const OPEN_DESCRIPTORS_MAX: u32 = 1 << 17;
/// Sampled calls that may be on their way at once; beyond, some are forgotten.
pub const PENDING_CALLS_MAX: u32 = 16_384;
/// Threads whose waits are followed at once.
pub const SLEEPS_MAX: u32 = 1 << 17;
/// Words of memory at which threads wait, over all processes.
pub const LOCKS_MAX: u32 = 65_536;
/// Keys that waits are counted under, over all processes.
pub const DELAYS_MAX: u32 = 65_536;

const _: () = assert!(PROBE_CACHE_SLOTS.is_power_of_two() && SITES_MAX.is_power_of_two());
const _: () = assert!(KNOWN_SLOTS.is_power_of_two() && PROBE_KNOWN_SLOTS.is_power_of_two());
const _: () = assert!(SENT_STACK_SLOTS.is_power_of_two() && RULE_CACHE_SLOTS.is_power_of_two() && UNFINISHED_SLOTS.is_power_of_two());
const _: () = assert!(ARENA_CHUNK_WORDS.is_power_of_two());
const _: () = assert!(RING_BYTES.is_power_of_two() && RING_BYTES.is_multiple_of(4096));
// A full stack must fit into the ring many times over, or one deep recursion would be all that it carries.
const _: () = assert!(STACK_FRAMES_MAX * 8 * 64 <= RING_BYTES as usize);
