//! P19 and memory at rest: a recording of a machine on which nothing runs, 30 s: wake-ups of all our processes a second, RSS of all of them with the locked
//! maps and the perf rings, and the peak beside it.

use super::Row;
use anyhow::{Context, Result};
use profiler_tests::run::Profiler;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// How long.
const REST: Duration = Duration::from_secs(30);
/// Goal, wake-ups a second.
const WAKE_UPS_MAX: f64 = 5.0;
/// Goal, MB.
const MEMORY_MB_MAX: f64 = 48.0;

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut running = Profiler::record()?.args(["-a"]).start()?;
    running.wait_until_recording()?;
    // Not a wait for a condition: a rest is what is measured. First what the start left to do gets time to settle.
    std::thread::sleep(Duration::from_secs(2));
    let before = switches(running.pid())?;
    std::thread::sleep(REST);
    let wake_ups = (switches(running.pid())? - before) as f64 / REST.as_secs_f64();
    let rss = sum_of(running.pid(), "VmRSS:")? as f64 / 1024.0;
    let peak = sum_of(running.pid(), "VmHWM:")? as f64 / 1024.0;
    let locked = locked_by_maps(running.pid())? as f64 / f64::from(1 << 20);
    running.interrupt()?.success()?;
    let total = rss + locked;
    Ok(vec![
        Row::goal("wake-ups a second", format!("{wake_ups:.1}"), "<= 5", wake_ups <= WAKE_UPS_MAX),
        Row::goal("RSS + locked maps (perf rings are in the RSS)", format!("{total:.1} MB"), "<= 48 MB", total <= MEMORY_MB_MAX),
        Row::beside("of that, locked by maps; peak of the RSS", format!("{locked:.1} MB, {peak:.1} MB")),
    ])
}

/// A process and its children.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for list in threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok()) {
        all.extend(list.split_whitespace().filter_map(|child| child.parse().ok()).flat_map(family));
    }
    all
}

/// A field of a status file.
fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Voluntary switches of all threads: each ends in a wake-up.
fn switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for member in family(pid) {
        for thread in fs::read_dir(format!("/proc/{member}/task"))? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            sum += field(&status, "voluntary_ctxt_switches:").context("no count of switches")?;
        }
    }
    Ok(sum)
}

/// A field of memory, kB, over all our processes. Pages that they share are counted in each: the figure is an upper bound.
fn sum_of(pid: u32, name: &str) -> Result<u64> {
    let mut sum = 0;
    for member in family(pid) {
        sum += field(&fs::read_to_string(format!("/proc/{member}/status"))?, name).with_context(|| format!("no {name}"))?;
    }
    Ok(sum)
}

/// Bytes that the maps behind a process's descriptors lock.
fn locked_by_maps(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for descriptor in fs::read_dir(PathBuf::from(format!("/proc/{pid}/fdinfo")))? {
        let info = fs::read_to_string(descriptor?.path()).unwrap_or_default();
        if info.contains("map_type:") {
            sum += field(&info, "memlock:").unwrap_or(0);
        }
    }
    Ok(sum)
}
