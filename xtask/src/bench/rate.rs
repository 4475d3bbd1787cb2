//! P16: samples taken / (Hz x CPU seconds by the load's own CPU clock), with every CPU busy for at least 50 CPU seconds in all.

use super::Row;
use anyhow::{Context, Result};
use profiler_tests::run::{Profiler, online_cpus};
use profiler_tests::subject::{Build, Subject, build};
use rustix::process::Signal;

/// CPU seconds that the load uses in all.
const CPU_SECONDS: f64 = 52.0;

/// Measures all three frequencies.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for frequency in [19, 99, 997] {
        rows.extend(at(frequency)?);
    }
    Ok(rows)
}

/// Runs the load from its beginning to its end inside of a recording.
fn at(frequency_hz: u32) -> Result<Vec<Row>> {
    let spin = build("spin", Build::C)?;
    let each = (CPU_SECONDS / online_cpus() as f64).to_string();
    let mut running = Profiler::record()?.args(["-a", "-F", &frequency_hz.to_string()]).start()?;
    running.wait_until_recording()?;
    let mut load = (0..online_cpus()).map(|_| Subject::start(&spin, [each.as_str()])).collect::<Result<Vec<_>>>()?;
    let (mut used, mut taken_pids) = (0.0, Vec::new());
    for subject in &mut load {
        used += subject.wait_for_line("cpu ")?.trim_start_matches("cpu ").parse::<f64>()?;
        taken_pids.push(subject.pid().to_string());
    }
    running.signal(Signal::INT)?;
    let profile = running.finish()?.success()?.profile()?;
    let taken = profile.only(|sample| sample.label("pid").is_some_and(|label| taken_pids.contains(&label.shown()))).total(0);
    let ratio = taken as f64 / (f64::from(frequency_hz) * used);
    let balance = profile.balance().context("the profile states its balance")?;
    let mut rows = vec![Row::goal(
        format!("{frequency_hz} Hz, {used:.1} CPU s"),
        format!("{ratio:.4}"),
        "0.99 to 1.01",
        (0.99..=1.01).contains(&ratio),
    )];
    rows.push(Row::goal(format!("{frequency_hz} Hz, lost"), balance.lost.to_string(), "0", balance.lost == 0));
    Ok(rows)
}
