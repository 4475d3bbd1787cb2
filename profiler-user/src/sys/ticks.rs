//! The counter in which Go's runtime measures waits: `cputicks` of `runtime/` (1.21 to 1.27).

use rustix::time::{ClockId, clock_gettime};

/// The counter and the monotonic clock at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticks {
    /// The CPU's time stamp on x86-64; elsewhere what Go takes for it, the clock.
    pub counter: u64,
    /// `CLOCK_MONOTONIC`, ns.
    pub ns: u64,
}

impl Ticks {
    /// Now.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let ns = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
        Self { counter: counter(ns), ns }
    }

    /// Ticks a second, by what lies between two moments; None where there is nothing.
    pub fn per_second(self, later: Self) -> Option<f64> {
        let (ticks, ns) = (later.counter.checked_sub(self.counter)?, later.ns.checked_sub(self.ns)?);
        (ticks > 0 && ns > 0).then(|| ticks as f64 * 1e9 / ns as f64)
    }
}

#[cfg(target_arch = "x86_64")]
fn counter(_ns: u64) -> u64 {
    // SAFETY: every x86-64 has the instruction, and Linux lets user space use it unless a process asks for the contrary (PR_SET_TSC), which we do not.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter(ns: u64) -> u64 {
    ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_go_on_with_the_clock() {
        let first = Ticks::now();
        let mut later = Ticks::now();
        while later.ns < first.ns + 20_000_000 {
            later = Ticks::now();
        }
        // From the slowest counter that there is, to the fastest CPU.
        let per_second = first.per_second(later).unwrap();
        assert!((1e6..1e10).contains(&per_second), "{per_second}");
        assert_eq!((later.per_second(first), first.per_second(first)), (None, None));
    }
}
