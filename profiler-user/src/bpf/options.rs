//! What a recording asks of the kernel side.

use crate::config::{Event, ProbeWork, Tick, Traced};
use crate::model::custom::CustomProfile;
use crate::model::process::Pid;
use profiler_common::settings::{KernelOffsets, Settings};
use profiler_common::target::{TargetCgroup, TargetComm, TargetProcess};

/// What the programs are told, and how large their maps are.
#[derive(Clone, Debug)]
pub struct CaptureOptions {
    /// Constants of the run.
    pub settings: Settings,
    /// Offsets into this kernel's structures.
    pub offsets: KernelOffsets,
    /// Target processes.
    pub processes: Vec<(Pid, TargetProcess)>,
    /// Target control groups.
    pub cgroups: Vec<TargetCgroup>,
    /// Target name patterns.
    pub comms: Vec<TargetComm>,
    /// What ticks, and how often per second and CPU.
    pub ticking: Vec<(Tick, u32)>,
    /// How calls of allocators are probed, if they are.
    pub calls: Option<Event>,
    /// What is recorded at the kernel's own tracepoints.
    pub traced: Vec<Traced>,
    /// Custom profiles, in the order of their sources.
    pub custom: Vec<CustomProfile>,
    /// The traps of calls have a budget: what they cost is measured, and less can be counted later.
    pub budget: bool,
    /// Bytes of the ring.
    pub ring_bytes: u32,
    /// Entries of the map of target processes.
    pub target_processes: u32,
    /// Keys that the kernel counts blocks under.
    pub tallies: u32,
    /// Sampled blocks that may live at once.
    pub live_blocks: u32,
    /// How old the blocks are that live is asked for in the end.
    pub ages: bool,
    /// What the programs of probes do.
    pub probes: ProbeWork,
    /// Measure what the programs cost.
    pub self_cost: bool,
}
