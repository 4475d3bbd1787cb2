//! One file an event source.

pub mod asleep;
pub mod cpu;
pub mod custom;
pub mod descriptor;
pub mod heap;
pub mod hold;
mod lock;
pub mod mapping;
pub mod process;
pub mod sleep;
pub mod snapshot;
pub mod thread;
pub mod wake;
