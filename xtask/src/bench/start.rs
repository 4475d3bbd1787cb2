//! P18: from exec to the first sample. A load that always runs stands for the first sample: the profiler's own clock of it is the profile's start, which it
//! takes when the events are enabled; what is measured here is from our exec to that moment, and to a profile of one tick on disk.

use super::{Row, median};
use anyhow::Result;
use profiler_tests::run::{Profiler, online_cpus};
use profiler_tests::subject::{Build, Subject, build};
use std::time::SystemTime;

/// Runs; the median counts.
const ROUNDS: usize = 9;
/// Goal, milliseconds.
const FIRST_SAMPLE_MS_MAX: f64 = 150.0;

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let spin = build("spin", Build::C)?;
    let _load = (1..online_cpus().max(2)).map(|_| Subject::start(&spin, ["10000"])).collect::<Result<Vec<_>>>()?;
    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        let before = SystemTime::now();
        let outcome = Profiler::record()?.args(["-a", "-F", "997", "-d", "100ms"]).run()?.success()?;
        let begun = outcome.profile()?.time_ns as f64 / 1e6 - before.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as f64 / 1e6;
        figures.push(begun);
    }
    // The first tick comes one period after the start.
    let median = median(&mut figures) + 1000.0 / 997.0;
    Ok(vec![Row::goal("exec to first sample, median of 9", format!("{median:.0} ms"), "<= 150 ms", median <= FIRST_SAMPLE_MS_MAX)])
}
