//! Raw system calls that no crate offers, each behind a safe function. Here and in `bpf/` alone stands `unsafe`, every block with its reason.

mod address;
pub mod end;
pub mod file_map;
pub mod file_pages;
pub mod file_version;
pub mod handover;
pub mod heap;
pub mod initialised;
pub mod priority;
pub mod probe;
pub mod remote_memory;
pub mod rights;
pub mod seccomp;
pub mod spawn;
pub mod ticks;

pub use address::address_bits;
