//! The clock of the records.

use crate::model::event::MonotonicNs;

/// Now, on the clock of the records.
pub fn monotonic_now() -> MonotonicNs {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    MonotonicNs(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}
