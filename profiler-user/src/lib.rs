//! An eBPF-based, system-wide profiler that gives every process on a Linux machine what Go's `runtime/pprof` gives a Go program: from outside,
//! without changing, restarting or recompiling it.
//!
//! One sample's journey through the rooms, each entered once:
//! *capture* in the kernel, *drain* ([`bpf`]), *normalize* ([`process`]), *aggregate* into a window ([`aggregate`]), *symbolize* ([`symbolize`]),
//! *encode* ([`encode`]), *send* ([`sink`]). See `ARCHITECTURE.md`.

pub mod aggregate;
pub mod bpf;
pub mod capability;
pub mod config;
pub mod encode;
pub mod go;
pub mod labels;
pub mod memory;
pub mod model;
pub mod object;
pub mod parse;
pub mod pipeline;
pub mod process;
pub mod reader;
pub mod sink;
pub mod snapshot;
pub mod symbolize;
pub mod sys;
pub mod target;
pub mod unwind;

/// Call this first in `main`. In a process that was started as one of the profiler's own helpers it serves and never returns; in any other it has the allocator
/// give free memory back early, and does next to nothing else.
pub fn init() {
    sys::heap::give_back_early();
    reader::serve_if_started_as_one();
    memory::serve_if_started_as_one();
    sys::initialised::note();
}
