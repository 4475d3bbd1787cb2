//! How long each CPU was idle, by the kernel's own account.
//!
//! A tick that meets the idle task is counted by our program like any other. But a virtual CPU that its host has put to sleep does not take the
//! timer's interrupt at all: measured on a guest of two CPUs with one busy, 1 tick of 3,000 on the idle one. Such a tick is no loss, and it is no
//! counter of ours that may say so: `/proc/stat` has the time that a CPU spent idle (exact where the tick stops in idle, in units of 10 ms).

use std::collections::BTreeMap;
use std::time::Duration;

/// Units of `/proc/stat`: `USER_HZ` is 100 on every architecture that Linux has today.
const UNIT: Duration = Duration::from_millis(10);

/// Idle time of each CPU since boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IdleTimes(BTreeMap<u32, Duration>);

impl IdleTimes {
    /// Reads them; nothing if they cannot be read, and then no idle tick is assumed.
    pub(super) fn now() -> Self {
        std::fs::read_to_string("/proc/stat").map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let cpu = |line: &str| {
            let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
            let cpu = fields.next()?.parse().ok()?;
            // user nice system idle iowait ...: with I/O under way, idle is called iowait.
            let mut idle = fields.skip(3).take(2).map(|field| field.parse::<u32>().unwrap_or(0));
            Some((cpu, UNIT * (idle.next()? + idle.next().unwrap_or(0))))
        };
        Self(text.lines().filter(|line| !line.starts_with("cpu ")).filter_map(cpu).collect())
    }

    /// How long a CPU was idle since `earlier`.
    pub(super) fn since(&self, earlier: &Self, cpu: u32) -> Duration {
        match (self.0.get(&cpu), earlier.0.get(&cpu)) {
            (Some(now), Some(then)) => now.saturating_sub(*then),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_iowait_of_each_cpu_are_read() {
        let early = IdleTimes::parse("cpu  1 2 3 4 5 6\ncpu0 10 0 10 100 5 0 0 0\ncpu1 1 0 1 7 0 0\nintr 1 2\n");
        let late = IdleTimes::parse("cpu0 10 0 10 150 15 0 0 0\n");
        assert_eq!(late.since(&early, 0), Duration::from_millis(600));
        assert_eq!(late.since(&early, 1), Duration::ZERO);
    }
}
