//! One file an event source.

pub mod cpu;
pub mod descriptor;
pub mod heap;
pub mod mapping;
pub mod process;
pub mod snapshot;
