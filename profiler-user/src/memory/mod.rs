//! Reading the memory of processes that live, in a helper process that can be killed.
//!
//! ```text
//!   profiler                                                     helper (nobody; SYS_PTRACE; a filter of six calls)
//!
//!   client.rs  addresses of one process, a deadline  ─────────►  child.rs  process_vm_readv, once a range
//!                                                    ◄─────────            bytes, or the number of an error
//! ```
//!
//! A page of another process may belong to a file whose server never answers: any user can make one. Whoever reads it waits for ever, so nobody of us does but
//! this helper, which is killed when the time is over; the next question starts another one. It gives bytes and understands none.
//!
//! A program that uses this library calls [`crate::init`] first in `main`: the helper is the same program, started again.

mod child;
mod client;
mod wire;

pub use client::{MemoryError, MemoryReader, Range, Unreadable};
pub use wire::RANGE_MAX_BYTES;

/// In a process that was started as the helper it serves requests and never returns; in any other it does nothing.
pub fn serve_if_started_as_one() {
    if std::env::args_os().next().is_some_and(|name| name == wire::HELPER) {
        child::run();
    }
}
