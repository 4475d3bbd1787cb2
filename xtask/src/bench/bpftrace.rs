//! The peer that walks frame pointers: bpftrace's one line that counts stacks. What its program costs comes from the kernel's statistics.

use anyhow::{Context as _, Result, ensure};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use profiler_tests::run::as_pid;
use profiler_tests::waiting;
use rustix::process::{Signal, kill_process};
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// `BPF_PROG_TYPE_PERF_EVENT` of include/uapi/linux/bpf.h.
const PERF_EVENT: u32 = 7;
/// How long it may take until its program runs.
const START_MAX: Duration = Duration::from_secs(30);

/// Nanoseconds that a run of its program takes, at so many ticks a second of every CPU, over so much time.
///
/// # Errors
/// It does not start, or its program never runs.
pub(super) fn cost(frequency_hz: u32, time: Duration) -> Result<f64> {
    let _statistics: OwnedFd = enable_stats(Stats::RunTime).context("turning the statistics of programs on")?;
    let before: HashSet<u32> = loaded_programs().flatten().map(|info| info.id()).collect();
    let child = Command::new("bpftrace")
        .args(["-e", &format!("profile:hz:{frequency_hz} {{ @[ustack, kstack, pid] = count(); }}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("bpftrace, of Debian's package of that name")?;
    let running = Running(child);
    let begun = Instant::now();
    while totals(&before).0 == 0 {
        ensure!(begun.elapsed() < START_MAX, "no program of bpftrace has run in {START_MAX:?}");
        sleep(Duration::from_millis(100));
    }
    sleep(Duration::from_secs(1)); // The pages that its map of stacks takes first.
    let first = totals(&before);
    sleep(time);
    let last = totals(&before);
    drop(running);
    ensure!(last.0 > first.0, "bpftrace's program did not run");
    Ok((last.1 - first.1) / (last.0 - first.0) as f64)
}

/// Runs and nanoseconds of the programs for clocks that were not there before.
fn totals(before: &HashSet<u32>) -> (u64, f64) {
    let new = loaded_programs().flatten().filter(|info| !before.contains(&info.id()));
    new.filter(|info| info.program_type() as u32 == PERF_EVENT)
        .fold((0, 0.0), |(runs, time), info| (runs + info.run_count(), time + info.run_time().as_nanos() as f64))
}

/// It, running; ended with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(pid) = as_pid(self.0.id()) {
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = waiting::for_end("bpftrace", &mut self.0);
    }
}
