//! How much CPU time a process has had, by the kernel's own account.

use crate::model::process::Pid;
use std::time::Duration;

/// In user mode and in the kernel, all of its threads, also those that have ended; None if it has ended itself.
pub fn cpu_time(pid: Pid) -> Option<Duration> {
    parse(&std::fs::read_to_string(format!("/proc/{}/stat", pid.0)).ok()?, rustix::param::clock_ticks_per_second())
}

/// `utime` and `stime`, the 14th and 15th field (proc_pid_stat(5)); the second one is a name in parentheses and may hold anything.
fn parse(text: &str, ticks_per_second: u64) -> Option<Duration> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_nanos(ticks.checked_mul(1_000_000_000 / ticks_per_second.max(1))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_name() {
        let line = "812 (a) b) S 1 812 812 0 -1 4194560 100 0 0 0 25 17 0 0 20 0 1 0 99 1000 200 18446744073709551615";
        assert_eq!(parse(line, 100), Some(Duration::from_millis(420)));
        assert_eq!(parse("812 (x", 100), None);
        assert!(cpu_time(Pid(std::process::id())).is_some());
    }
}
