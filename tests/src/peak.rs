//! The memory of a recording: that of the profiler and of all its processes, looked at until they end.

use crate::run::Running;
use anyhow::{Context, Result};
use std::fs;
use std::time::Duration;

/// Which memory of each process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    /// What it has now: added up, what they have at the same time.
    Now,
    /// The most that it has had, whenever that was: misses no moment, and adds up moments that need not have been one.
    Most,
}

/// The memory of a process and its children, kB.
///
/// # Errors
/// It is gone.
pub fn memory_kb(pid: u32, counted: Counted) -> Result<u64> {
    let field = match counted {
        Counted::Now => "VmRSS:",
        Counted::Most => "VmHWM:",
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let own =
        status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?.trim().trim_end_matches(" kB").parse::<u64>()?;
    let mut sum = own;
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Ok(sum) };
    for thread in threads {
        let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            // One that ends meanwhile has given its memory back.
            sum += memory_kb(child.parse()?, counted).unwrap_or(0);
        }
    }
    Ok(sum)
}

/// The highest that is seen until it ends.
pub fn until_end_kb(running: &Running, counted: Counted) -> u64 {
    let mut peak = 0;
    // One that has ended has no memory any more, before it is waited for.
    while let Ok(now) = memory_kb(running.pid(), counted) {
        peak = peak.max(now);
        std::thread::sleep(Duration::from_millis(1));
    }
    peak
}
