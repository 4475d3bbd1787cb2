//! How much memory a process has, by the kernel's own account.

use crate::model::process::Pid;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What a process maps and what of it is there, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcessMemory {
    /// Pages that are there (RSS).
    pub resident: u64,
    /// The same, each page shared out among those that map it (PSS); None: the kernel did not tell in time.
    pub proportional: Option<u64>,
}

/// The memory of some processes, in their order; None for one that has ended. Takes no longer than `patience`.
pub fn memory_of(pids: &[Pid], patience: Duration) -> Vec<Option<ProcessMemory>> {
    let proportional = proportional(pids.to_vec(), patience);
    let memory = |(at, pid): (usize, &Pid)| {
        Some(ProcessMemory { resident: resident_bytes(*pid)?, proportional: proportional.get(at).copied().flatten() })
    };
    pids.iter().enumerate().map(memory).collect()
}

/// The kernel looks at each page for it, with the lock that a process can have held for ever by a page that never comes. So a thread of its own asks, and is left
/// behind where that happens: it waits in a way that ends with this process.
fn proportional(pids: Vec<Pid>, patience: Duration) -> Vec<Option<u64>> {
    let (sender, receiver) = channel();
    let (until, count) = (Instant::now() + patience, pids.len());
    let asks = move || pids.iter().try_for_each(|pid| sender.send(proportional_bytes(*pid)));
    if std::thread::Builder::new().name("profiler-memory".into()).spawn(asks).is_err() {
        return Vec::new();
    }
    let mut answers = Vec::new();
    while answers.len() < count {
        match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(answer) => answers.push(answer),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    answers
}

fn resident_bytes(pid: Pid) -> Option<u64> {
    parse(&std::fs::read_to_string(format!("/proc/{}/statm", pid.0)).ok()?, rustix::param::page_size() as u64)
}

fn proportional_bytes(pid: Pid) -> Option<u64> {
    parse_rollup(&std::fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.0)).ok()?)
}

/// The second number is that of resident pages (proc_pid_statm(5)).
fn parse(text: &str, page: u64) -> Option<u64> {
    text.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(page)
}

/// The line `Pss:`, in units of 1,024 bytes (Linux, Documentation/ABI/testing/procfs-smaps_rollup).
fn parse_rollup(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        assert_eq!(parse("812 534 470 5 0 104 0\n", 4096), Some(534 * 4096));
        assert_eq!(parse("812 x", 4096), None);
        assert_eq!(parse_rollup("00400000-7fff00000000 ---p 00000000 00:00 0 [rollup]\nRss:  900 kB\nPss:   884 kB\n"), Some(884 << 10));
        assert_eq!(parse_rollup("Pss_Dirty: 5 kB\n"), None);
    }

    #[test]
    fn our_own_memory_is_known_and_that_of_nobody_is_not() {
        let own = Pid(std::process::id());
        let [Some(memory), None] = memory_of(&[own, Pid(u32::MAX)], Duration::from_secs(10))[..] else { panic!("one of the two") };
        assert!(memory.resident > 100_000);
        assert!(memory.proportional.is_some_and(|proportional| proportional <= 2 * memory.resident && proportional > 10_000));
    }
}
