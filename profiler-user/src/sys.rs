//! Raw system calls that no crate offers; the only file of its kind.
