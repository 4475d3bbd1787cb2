//! Stacks of threads where they stand, without stopping any: registers by the kernel's task iterator, the bytes of the stack by the helper that can be killed, and
//! both together only if the thread has not run in between. The bytes are walked before that is known, a part of the threads at a time: those of 50,000 take 100 MB.
//!
//! ```text
//!   look ──► registers, switch counters      read ──► stack bytes ──► walk      look again ──► the same counters, on no CPU: they belong together
//! ```

pub mod beyond;
mod round;
mod state;

pub use round::{BYTES_MAX, Look, LookError, Missing, Taken, Wanted, is_one_moment, unfinished, unread, wanted_of};
pub use state::name as state_name;
