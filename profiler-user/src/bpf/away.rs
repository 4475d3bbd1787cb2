//! How long each CPU ran nothing of this machine's, by the kernel's own account: it was idle, or the host had taken it away.
//!
//! A tick that meets the idle task is counted by our program like any other. But a virtual CPU that its host has put to sleep does not take the
//! timer's interrupt (measured on a guest of two CPUs with one busy: 1 tick of 3,000 on the idle one), and one that the host runs something else on
//! takes it late, once for all that were due. Such ticks are no CPU time of any process and no loss, and it is no counter of ours that may say so:
//! `/proc/stat` has the idle and the stolen time of each CPU, in units of 10 ms.

use std::collections::BTreeMap;
use std::time::Duration;

/// Units of `/proc/stat`: `USER_HZ` is 100 on every architecture that Linux has today.
const UNIT: Duration = Duration::from_millis(10);

/// Fields of a CPU's line behind its name: user nice system idle iowait irq softirq steal (proc_stat(5)). With I/O under way, idle is called iowait.
const AWAY_FIELDS: [usize; 3] = [3, 4, 7];

/// Time away of each CPU since boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TimesAway(BTreeMap<u32, Duration>);

impl TimesAway {
    /// Reads them; nothing if they cannot be read, and then nothing is assumed.
    pub(super) fn now() -> Self {
        std::fs::read_to_string("/proc/stat").map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let cpu = |line: &str| {
            let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
            let cpu = fields.next()?.parse().ok()?;
            let fields: Vec<u64> = fields.map(|field| field.parse().unwrap_or(0)).collect();
            let units: u64 = AWAY_FIELDS.iter().filter_map(|field| fields.get(*field)).sum();
            Some((cpu, UNIT.saturating_mul(u32::try_from(units).ok()?)))
        };
        Self(text.lines().filter(|line| !line.starts_with("cpu ")).filter_map(cpu).collect())
    }

    /// Takes over what another reading has of a CPU that this one has not.
    pub(super) fn begin(&mut self, later: &Self, cpu: u32) {
        if let Some(time) = later.0.get(&cpu) {
            self.0.entry(cpu).or_insert(*time);
        }
    }

    /// Whether a CPU that was there is no more: it is off line, and then the kernel says nothing of it.
    pub(super) fn lacks(&self, cpu: u32) -> bool {
        !self.0.is_empty() && !self.0.contains_key(&cpu)
    }

    /// At most how long a CPU was away since `earlier`. Each reading may miss up to a unit: a CPU that was away at all may have been so for one more.
    pub(super) fn since(&self, earlier: &Self, cpu: u32) -> Duration {
        match (self.0.get(&cpu), earlier.0.get(&cpu)) {
            (Some(now), Some(then)) if now > then => *now - *then + UNIT,
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_iowait_and_stolen_time_of_each_cpu_are_read() {
        let early = TimesAway::parse("cpu  1 2 3 4 5 6\ncpu0 10 0 10 100 5 0 0 0\ncpu1 1 0 1 7 0 0\nintr 1 2\n");
        let late = TimesAway::parse("cpu0 90 0 10 150 15 0 0 2 0 0\ncpu1 9 0 1 7 0 0\n");
        assert_eq!(late.since(&early, 0), Duration::from_millis(620 + 10));
        assert_eq!(late.since(&early, 1), Duration::ZERO);
    }
}
