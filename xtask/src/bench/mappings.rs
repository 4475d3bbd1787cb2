//! P17: a busy process with 60,000 executable mappings of which 100 change a second: what CPU time of ours that takes, and what it waits for its own calls
//! with us and without us, in turn.

use super::footprint::cpu_seconds;
use super::{Row, median};
use anyhow::{Context as _, Result, ensure};
use profiler_tests::run::{Profiler, as_pid};
use profiler_tests::skip::find;
use profiler_tests::subject::{Build, Subject, build};
use rustix::process::{Signal, kill_process};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MAPPINGS: &str = "60000";
const CHANGES_PER_SECOND: &str = "100";
/// What one run of it lasts, seconds.
const SECONDS: &str = "20";
/// Rounds; the medians count.
const ROUNDS: usize = 5;
/// What the start, which reads all of it once, gets before CPU time is counted.
const SETTLE: Duration = Duration::from_secs(3);
/// Goals: a share of one CPU, and of the call's time without us.
const CPU_MAX: f64 = 0.01;
const LATENCY_MAX: f64 = 1.2;

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let remaps = build("remaps", Build::CBare)?;
    let (mut alone, mut recorded, mut halves, mut shares) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut floor = Vec::new();
    for _ in 0..ROUNDS {
        alone.push(latencies(start(&remaps)?)?.1);
        // Its mappings are there when the recording begins, and read once.
        let subject = start(&remaps)?;
        let mut running = Profiler::record()?.args(["-a"]).start()?;
        running.wait_until_recording()?;
        std::thread::sleep(SETTLE);
        let (before, begun) = (cpu_seconds(running.pid())?, Instant::now());
        let (p50, p99) = latencies(subject)?;
        shares.push((cpu_seconds(running.pid())? - before) / begun.elapsed().as_secs_f64());
        recorded.push(p99);
        halves.push(p50);
        running.interrupt()?.success()?;
        floor.push(by_perf_alone(start(&remaps)?)?);
    }
    let (share, alone, recorded) = (median(&mut shares), median(&mut alone), median(&mut recorded));
    Ok(vec![
        Row::goal("CPU time of ours, share of one CPU", format!("{:.2} %", 100.0 * share), "<= 1 %", share <= CPU_MAX),
        Row::goal(
            "p99 of two mprotect calls, recorded / not recorded",
            format!("{:.2} ({recorded:.0} / {alone:.0} ns)", recorded / alone),
            format!("<= {LATENCY_MAX}"),
            recorded <= LATENCY_MAX * alone,
        ),
        Row::beside("the same with `perf record` that follows mappings and samples nothing / not recorded", {
            let floor = median(&mut floor);
            format!("{:.2} ({floor:.0} ns): what the kernel's own record of a mapping takes", floor / alone)
        }),
        Row::beside("the median of them, recorded", format!("{:.0} ns", median(&mut halves))),
    ])
}

fn start(remaps: &Path) -> Result<Subject> {
    Subject::start(remaps, [MAPPINGS, CHANGES_PER_SECOND, SECONDS])
}

/// The 99th percentile of its calls while perf has the kernel write down what is mapped, on all CPUs, and nothing else.
fn by_perf_alone(subject: Subject) -> Result<f64> {
    ensure!(find("perf").is_some(), "the peer is missing: apt-get install linux-perf");
    let mut command = Command::new("perf");
    command.args(["record", "-a", "-e", "dummy", "-o", "/dev/null"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut perf = command.spawn()?;
    std::thread::sleep(SETTLE);
    let latencies = latencies(subject);
    let _ = kill_process(as_pid(perf.id())?, Signal::INT);
    perf.wait()?;
    Ok(latencies?.1)
}

/// Its median and its 99th percentile, when it has ended.
fn latencies(mut subject: Subject) -> Result<(f64, f64)> {
    let line = subject.wait_for_line("mprotect")?;
    let mut numbers = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok());
    numbers.next().zip(numbers.next()).with_context(|| format!("it printed `{line}`"))
}
