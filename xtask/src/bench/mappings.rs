//! P17: a busy process with 60,000 executable mappings of which 100 change a second: what CPU time of ours that takes, and what it waits for its own calls
//! with us and without us, in turn.

use super::footprint::cpu_seconds;
use super::{Row, median};
use anyhow::{Context, Result};
use profiler_tests::run::Profiler;
use profiler_tests::subject::{Build, Subject, build};
use std::path::Path;
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
        Row::beside("the median of them, recorded", format!("{:.0} ns", median(&mut halves))),
    ])
}

fn start(remaps: &Path) -> Result<Subject> {
    Subject::start(remaps, [MAPPINGS, CHANGES_PER_SECOND, SECONDS])
}

/// Its median and its 99th percentile, when it has ended.
fn latencies(mut subject: Subject) -> Result<(f64, f64)> {
    let line = subject.wait_for_line("mprotect")?;
    let mut numbers = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok());
    numbers.next().zip(numbers.next()).with_context(|| format!("it printed `{line}`"))
}
