//! What the programs counted, summed over the CPUs.

use super::error::BpfError;
use crate::model::loss::Losses;
use aya::maps::{MapData, MapError, PerCpuArray, PerCpuValues};
use profiler_common::counter::{COUNTERS, Counter, loss_cell};
use profiler_common::loss::Loss;
use profiler_common::source::Source;

/// The counters: a row for each source.
pub(super) type Cells = PerCpuArray<MapData, [u64; COUNTERS as usize]>;

/// What the kernel side has counted of a source at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Times that its program ran.
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
    /// Frees of blocks that were not sampled, or not seen when they were allocated; removals of keys that nobody has.
    pub other_frees: u64,
    /// Frees of sampled blocks.
    pub frees: u64,
    /// Keys that were added while they were there.
    pub replaced: u64,
    /// Calls met on an instruction that is executed step by step, where they are counted.
    pub stepped: u64,
    /// Times off the CPU that a filter leaves out, or a part of them.
    pub left_out: u64,
    /// Their nanoseconds.
    pub left_out_ns: u64,
    /// The same of what may be no lock.
    pub left_out_unsure: u64,
    /// Their nanoseconds.
    pub left_out_unsure_ns: u64,
    /// Losses counted in the kernel.
    pub losses: Losses,
}

impl Counted {
    /// What was counted since an earlier moment.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            runs: self.runs.saturating_sub(earlier.runs),
            idle: self.idle.saturating_sub(earlier.idle),
            filtered: self.filtered.saturating_sub(earlier.filtered),
            samples: self.samples.saturating_sub(earlier.samples),
            stacks: self.stacks.saturating_sub(earlier.stacks),
            ring_bytes: self.ring_bytes.saturating_sub(earlier.ring_bytes),
            other_frees: self.other_frees.saturating_sub(earlier.other_frees),
            frees: self.frees.saturating_sub(earlier.frees),
            replaced: self.replaced.saturating_sub(earlier.replaced),
            stepped: self.stepped.saturating_sub(earlier.stepped),
            left_out: self.left_out.saturating_sub(earlier.left_out),
            left_out_ns: self.left_out_ns.saturating_sub(earlier.left_out_ns),
            left_out_unsure: self.left_out_unsure.saturating_sub(earlier.left_out_unsure),
            left_out_unsure_ns: self.left_out_unsure_ns.saturating_sub(earlier.left_out_unsure_ns),
            losses: self.losses.since(&earlier.losses),
        }
    }
}

/// Runs of the program and ticks that met the idle task, by CPU.
pub(super) fn runs_and_idle(cells: &Cells, source: Source) -> Result<Vec<(u64, u64)>, BpfError> {
    let values = row(cells, source)?;
    Ok(values.iter().map(|cpu| (cpu[Counter::Runs as usize], cpu[Counter::Idle as usize])).collect())
}

fn row(cells: &Cells, source: Source) -> Result<PerCpuValues<[u64; COUNTERS as usize]>, BpfError> {
    let failed = |error: MapError| BpfError::Map { map: "COUNTERS_CELLS", reason: error.to_string() };
    cells.get(&u32::from(source.number()), 0).map_err(failed)
}

/// Reads those of a source.
pub(super) fn read(cells: &Cells, source: Source) -> Result<Counted, BpfError> {
    let values = row(cells, source)?;
    // What was counted on one CPU may have been taken back on another.
    let sum = |cell: u32| values.iter().fold(0_u64, |sum, cpu| sum.wrapping_add(cpu[cell as usize]));
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
        frees: sum(Counter::Frees as u32),
        replaced: sum(Counter::Replaced as u32),
        stepped: sum(Counter::Stepped as u32),
        ring_bytes: sum(Counter::RingBytes as u32),
        left_out: sum(Counter::LeftOut as u32),
        left_out_ns: sum(Counter::LeftOutNs as u32),
        left_out_unsure: sum(Counter::LeftOutUnsure as u32),
        left_out_unsure_ns: sum(Counter::LeftOutUnsureNs as u32),
        losses,
    })
}
