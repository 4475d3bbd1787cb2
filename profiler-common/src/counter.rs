//! What the programs count, a row for each source and a cell for each CPU: the right side of the conservation sum, beside [`crate::loss::Loss`].

use crate::loss::Loss;

/// One counter of the kernel side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Counter {
    /// Times that the source's program ran.
    Runs = 0,
    /// Ticks that met the idle task.
    Idle = 1,
    /// Ticks in a process, or in a mode, that was not asked for.
    Filtered = 2,
    /// Samples written to the ring.
    Samples = 3,
    /// Stacks written to the ring.
    Stacks = 4,
    /// Bytes written to the ring.
    RingBytes = 5,
    /// Frees of blocks that were not sampled, or not seen when they were allocated; removals of keys that nobody has.
    OtherFrees = 6,
    /// Blocks that were freed or moved and had been sampled.
    Frees = 7,
    /// Calls that a probe met on an instruction that the kernel executes step by step; counted under a budget alone.
    Stepped = 8,
    /// Keys of custom profiles that were added while they were there: the new one has taken the old one's place.
    Replaced = 9,
    /// Times off the CPU that a filter of states or lengths leaves out, whole or a part of them; of waits for locks, those that nobody has ended by letting go.
    LeftOut = 10,
    /// Their nanoseconds.
    LeftOutNs = 11,
    /// The same of what may be no lock.
    LeftOutUnsure = 12,
    /// Their nanoseconds.
    LeftOutUnsureNs = 13,
}

/// Where the losses begin in the array of counters.
pub const FIRST_LOSS: u32 = 14;
/// Cells of the array of counters.
pub const COUNTERS: u32 = FIRST_LOSS + Loss::COUNT as u32;

/// The cell of a loss.
pub const fn loss_cell(loss: Loss) -> u32 {
    FIRST_LOSS + loss as u32
}
