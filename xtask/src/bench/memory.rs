//! P19 and memory at rest: a recording of a machine on which nothing runs, 30 s: wake-ups of all our processes a second, and what they hold.

use super::Row;
use super::footprint::{Footprint, family, field};
use anyhow::{Context, Result};
use profiler_tests::run::Profiler;
use std::fs;
use std::time::Duration;

/// How long.
const REST: Duration = Duration::from_secs(30);
/// Goal, wake-ups a second.
const WAKE_UPS_MAX: f64 = 5.0;
/// Goal, MB.
pub(super) const MEMORY_MB_MAX: f64 = 48.0;

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut running = Profiler::record()?.args(["-a"]).start()?;
    running.wait_until_recording()?;
    // Not a wait for a condition: a rest is what is measured. First what the start left to do gets time to settle.
    std::thread::sleep(Duration::from_secs(2));
    let before = switches(running.pid())?;
    std::thread::sleep(REST);
    let wake_ups = (switches(running.pid())? - before) as f64 / REST.as_secs_f64();
    let held = Footprint::of(running.pid())?;
    let peak = field(&fs::read_to_string(format!("/proc/{}/status", running.pid()))?, "VmHWM:").context("no VmHWM")? as f64 / 1024.0;
    running.interrupt()?.success()?;
    Ok(vec![
        Row::goal("wake-ups a second", format!("{wake_ups:.1}"), "<= 5", wake_ups <= WAKE_UPS_MAX),
        Row::goal("processes, maps and rings", format!("{:.1} MB", held.mb()), "<= 48 MB", held.mb() <= MEMORY_MB_MAX),
        Row::beside("of that; peak of the profiler's own RSS", format!("{}; {peak:.1} MB", held.parts())),
    ])
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
