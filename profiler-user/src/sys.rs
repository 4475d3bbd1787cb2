//! Raw system calls that no crate offers; with `bpf/` the only place of `unsafe`.

pub mod probe;
pub mod spawn;
