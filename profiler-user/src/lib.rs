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
pub mod labels;
pub mod model;
pub mod object;
pub mod parse;
pub mod pipeline;
pub mod process;
pub mod reader;
pub mod sink;
pub mod symbolize;
pub mod sys;
pub mod target;
pub mod unwind;

pub use reader::init;
