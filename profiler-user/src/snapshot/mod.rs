//! Stacks of threads where they stand, without stopping any: registers by the kernel's task iterator, the bytes of the stack by the helper that can be killed, and
//! both together only if the thread has not run in between.
//!
//! ```text
//!   look ──► registers, switch counters      read ──► stack bytes      look again ──► the same counters, on no CPU: they belong together
//! ```

mod round;
mod state;

pub use round::{BYTES_FIRST, BYTES_MAX, Look, LookError, Missing, Taken, Thread};
pub use state::name as state_name;
