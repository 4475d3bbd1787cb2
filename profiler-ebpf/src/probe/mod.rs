//! One file an event source.

pub mod cpu;
pub mod heap;
mod lock;
pub mod process;
pub mod sleep;
pub mod thread;
