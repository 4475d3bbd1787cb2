//! Raw system calls that no crate offers; the only place of its kind outside `bpf/`.

pub mod spawn;
