//! Why a process gives no profile of its own.

use crate::memory::{MemoryError, Unreadable};

/// Why not. (That the file has none is said before: `model::go_heap::NoGoHeap`.)
#[derive(Debug, thiserror::Error)]
pub enum GoHeapError {
    /// It ended.
    #[error("the process ended")]
    Gone,
    /// The program has set `runtime.MemProfileRate` to 0, and nothing was recorded before.
    #[error("the program has turned its memory profile off (runtime.MemProfileRate is 0)")]
    Off,
    /// A part of the profile cannot be read.
    #[error("reading Go's own profile at {address:#x}: {why}")]
    Unreadable {
        /// Where.
        address: u64,
        /// Why not.
        why: Unreadable,
    },
    /// What stands there is not what a runtime of this version writes.
    #[error("what stands at {address:#x} is no part of Go's own profile: {what}")]
    Implausible {
        /// Where.
        address: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The list leads back into itself.
    #[error("the list of Go's own profile leads in a circle")]
    Circle,
    /// It is larger than it may be.
    #[error("Go's own profile is larger than the {0} bytes that there are for it")]
    TooLarge(usize),
    /// Collections follow each other faster than the profile can be read.
    #[error("the program's collections follow each other faster than its memory profile can be read")]
    Moving,
    /// The helper cannot be had, or was killed.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}
