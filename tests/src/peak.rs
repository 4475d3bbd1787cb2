//! The memory of a recording: the peak of the profiler and of all its processes, looked at until they end.

use crate::run::Running;
use anyhow::{Context, Result};
use std::fs;
use std::time::Duration;

/// The peak of a process and its children, kB.
///
/// # Errors
/// It is gone.
pub fn peak_kb(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let own =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?.trim().trim_end_matches(" kB").parse::<u64>()?;
    let mut sum = own;
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Ok(sum) };
    for thread in threads {
        let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            // One that ends meanwhile has given its memory back.
            sum += peak_kb(child.parse()?).unwrap_or(0);
        }
    }
    Ok(sum)
}

/// The highest that is seen until it ends.
pub fn until_end_kb(running: &Running) -> u64 {
    let mut peak = 0;
    // One that has ended has no memory any more, before it is waited for.
    while let Ok(now) = peak_kb(running.pid()) {
        peak = peak.max(now);
        std::thread::sleep(Duration::from_millis(1));
    }
    peak
}
