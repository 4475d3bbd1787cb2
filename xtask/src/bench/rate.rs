//! P16: samples taken / (Hz x CPU seconds by the load's own CPU clock), with every CPU busy for at least 50 CPU seconds in all; perf beside it in the same
//! run. A virtual CPU that its host does not run gets several ticks as one: those are missing in both, and we count them as `program not run`.

use super::Row;
use anyhow::{Context, Result};
use profiler_tests::run::{Folder, Profiler, as_pid, online_cpus};
use profiler_tests::subject::{Build, Subject, build};
use rustix::process::{Signal, kill_process};
use std::process::{Command, Stdio};

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
    let folder = Folder::create()?;
    let mut perf = Command::new("perf")
        .args(["record", "-q", "-a", "-e", "cpu-clock", "-F", &frequency_hz.to_string(), "-o"])
        .arg(folder.join("perf.data"))
        .stdin(Stdio::null())
        .spawn()
        .context("the peer is missing: apt-get install linux-perf")?;
    let mut running = Profiler::record()?.args(["-a", "-F", &frequency_hz.to_string()]).start()?;
    running.wait_until_recording()?;
    let mut load = (0..online_cpus()).map(|_| Subject::start(&spin, [each.as_str()])).collect::<Result<Vec<_>>>()?;
    let (mut used, mut taken_pids) = (0.0, Vec::new());
    for subject in &mut load {
        used += subject.wait_for_line("cpu ")?.trim_start_matches("cpu ").parse::<f64>()?;
        taken_pids.push(subject.pid().to_string());
    }
    running.signal(Signal::INT)?;
    kill_process(as_pid(perf.id())?, Signal::INT)?;
    perf.wait()?;
    let printed =
        Command::new("perf").args(["script", "-F", "ip", "--pid", &taken_pids.join(","), "-i"]).arg(folder.join("perf.data")).output()?;
    let perf_taken = printed.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    let profile = running.finish()?.success()?.profile()?;
    let taken = profile.only(|sample| sample.label("pid").is_some_and(|label| taken_pids.contains(&label.shown()))).total(0);
    let per_tick = f64::from(frequency_hz) * used;
    let ratio = taken as f64 / per_tick;
    let own_losses: i64 = profile.own_losses()?.values().sum();
    let late = profile.balance()?.lost - own_losses;
    let mut rows = vec![Row::goal(
        format!("{frequency_hz} Hz, {used:.1} CPU s"),
        format!("{ratio:.4}"),
        "0.99 to 1.01",
        (0.99..=1.01).contains(&ratio),
    )];
    rows.push(Row::beside(format!("{frequency_hz} Hz, perf in the same run"), format!("{:.4}", perf_taken as f64 / per_tick)));
    rows.push(Row::goal(format!("{frequency_hz} Hz, lost"), own_losses.to_string(), "0", own_losses == 0));
    rows.push(Row::beside(format!("{frequency_hz} Hz, ticks that came late and merged"), late.to_string()));
    Ok(rows)
}
