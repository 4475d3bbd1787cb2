//! How much CPU time a process has had, by the kernel's own account.

use crate::model::process::Pid;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// CPU time of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuTime {
    /// In user mode and in the kernel, of all its threads, also those that have ended.
    pub used: Duration,
    /// When it began, in the kernel's ticks since the machine was started.
    pub started_ticks: u64,
}

/// That of a process; None if it has ended.
pub fn cpu_time(pid: Pid) -> Option<CpuTime> {
    parse(&std::fs::read_to_string(format!("/proc/{}/stat", pid.0)).ok()?, rustix::param::clock_ticks_per_second())
}

/// What `started_ticks` of a process would be that begins now.
pub fn ticks_since_boot() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let ticks = rustix::param::clock_ticks_per_second();
    u64::try_from(now.tv_sec).unwrap_or(0) * ticks + u64::try_from(now.tv_nsec).unwrap_or(0) * ticks / 1_000_000_000
}

/// `utime`, `stime` and `starttime`, the 14th, 15th and 22nd field (proc_pid_stat(5)); the second one is a name in parentheses and may hold anything.
fn parse(text: &str, ticks_per_second: u64) -> Option<CpuTime> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let started_ticks = fields.nth(6)?.parse().ok()?;
    Some(CpuTime { used: Duration::from_nanos(ticks.checked_mul(1_000_000_000 / ticks_per_second.max(1))?), started_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_name() {
        let line = "812 (a) b) S 1 812 812 0 -1 4194560 100 0 0 0 25 17 0 0 20 0 1 0 99 1000 200 18446744073709551615";
        assert_eq!(parse(line, 100), Some(CpuTime { used: Duration::from_millis(420), started_ticks: 99 }));
        assert_eq!(parse("812 (x", 100), None);
        let own = cpu_time(Pid(std::process::id())).expect("we live");
        assert!(own.started_ticks > 0 && own.started_ticks <= ticks_since_boot());
    }
}
