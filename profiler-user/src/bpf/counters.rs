//! What the programs counted, summed over the CPUs.

use super::error::BpfError;
use crate::model::loss::Losses;
use aya::maps::{MapData, PerCpuArray};
use profiler_common::counter::{COUNTERS, Counter, loss_cell};
use profiler_common::loss::Loss;

/// The counters of the kernel side at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Times that the program ran.
    pub runs: u64,
    /// Ticks that met the idle task.
    pub idle: u64,
    /// Ticks that nobody asked for.
    pub filtered: u64,
    /// Samples written to the ring.
    pub samples: u64,
    /// Stacks written to the ring.
    pub stacks: u64,
    /// Bytes written to the ring.
    pub ring_bytes: u64,
    /// Frees of blocks that were not sampled, or not seen when they were allocated.
    pub other_frees: u64,
    /// Losses counted in the kernel.
    pub losses: Losses,
}

/// Runs of the program and ticks that met the idle task, by CPU.
pub(super) fn runs_and_idle(cells: &PerCpuArray<MapData, [u64; COUNTERS as usize]>) -> Result<Vec<(u64, u64)>, BpfError> {
    let values = cells.get(&0, 0).map_err(|error| BpfError::Map { map: "COUNTERS_CELLS", reason: error.to_string() })?;
    Ok(values.iter().map(|cpu| (cpu[Counter::Runs as usize], cpu[Counter::Idle as usize])).collect())
}

/// Reads them.
pub(super) fn read(cells: &PerCpuArray<MapData, [u64; COUNTERS as usize]>) -> Result<Counted, BpfError> {
    let values = cells.get(&0, 0).map_err(|error| BpfError::Map { map: "COUNTERS_CELLS", reason: error.to_string() })?;
    let sum = |cell: u32| values.iter().map(|cpu| cpu[cell as usize]).sum::<u64>();
    let mut losses = Losses::default();
    for loss in Loss::ALL {
        losses.add(*loss, sum(loss_cell(*loss)));
    }
    Ok(Counted {
        runs: sum(Counter::Runs as u32),
        idle: sum(Counter::Idle as u32),
        filtered: sum(Counter::Filtered as u32),
        samples: sum(Counter::Samples as u32),
        stacks: sum(Counter::Stacks as u32),
        other_frees: sum(Counter::OtherFrees as u32),
        ring_bytes: sum(Counter::RingBytes as u32),
        losses,
    })
}
