//! Bounds of a run.

/// Bounds that a test shrinks and nobody else should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Size of the ring, bytes.
    pub ring_bytes: u32,
    /// Entries of the map of followed processes.
    pub target_processes: u32,
    /// Keys that the kernel counts blocks under.
    pub tallies: u32,
    /// Sampled blocks that may live at once.
    pub live_blocks: u32,
    /// Bytes that a window may hold: stacks, keys, names.
    pub window_bytes: u64,
    /// A thread gets a SIGSTOP after each of its samples in user mode, for a debugger that has attached. For tests.
    pub stop_at_sample: bool,
    /// What the programs of probes do. For benchmarks.
    pub probes: ProbeWork,
}

/// What the programs of probes do: all of their work, or as little as shows what their traps alone cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProbeWork {
    /// They count.
    #[default]
    All,
    /// They return at once, and no return of a call is waited for.
    Nothing,
    /// The same, but the return of each call is a trap as well.
    Returns,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            ring_bytes: profiler_common::limits::RING_BYTES,
            target_processes: profiler_common::limits::TARGET_PROCESSES_MAX,
            tallies: profiler_common::limits::TALLIES_MAX,
            live_blocks: profiler_common::limits::LIVE_BLOCKS_MAX,
            window_bytes: 64 << 20,
            stop_at_sample: false,
            probes: ProbeWork::All,
        }
    }
}
