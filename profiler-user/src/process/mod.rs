//! Normalize: who is alive, what was mapped where and when, and runtime addresses to mappings and file addresses.
//!
//! Events and samples are applied in the order in which they happened, so that a stack is normalized against the mappings of its own time.

mod address_space;
mod cpu_time;
mod kernel_layout;
mod life;
mod maps_file;
mod normalize;
mod resident;
mod table;

pub use address_space::{AddressSpace, Range};
pub use cpu_time::{CpuTime, cpu_time, ticks_since_boot};
pub use kernel_layout::{KernelLayout, LINKED_TEXT};
pub use life::{Ends, has_lost_its_first_thread, lives};
pub use maps_file::read_ranges;
pub use normalize::{Context, Met, Normalized, Tables, Threads};
pub use resident::{ProcessMemory, memory_of};
pub use table::{Describe, Processes};
