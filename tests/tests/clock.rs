//! `--clock cycles` samples by the hardware's cycles where there are some, and says clearly where there are none, and what to do. Which it is, the kernel is
//! asked by a program of the test's own.

use anyhow::{Result, bail, ensure};
use profiler_tests::run::{Outcome, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build, source};
use std::process::Command;

/// The kernel's error for an event that samples cycles; none where it gives one.
fn refusal_of_cycles() -> Result<Option<String>> {
    let script = source("cycles_event", Build::C).with_extension("py");
    let output = Command::new("python3").arg(script).output()?;
    let said = String::from_utf8(output.stdout)?;
    match said.trim() {
        "yes" => Ok(None),
        refused if refused.split(' ').next().is_some_and(|number| number.parse::<i32>().is_ok()) => Ok(Some(refused.to_owned())),
        other => bail!("`{other}`: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Half of the CPU's time in one function, less in each other; the profile counts cycles, and so many that a CPU does in that time.
fn counts_cycles(outcome: &Outcome, cpu_seconds: f64) -> Result<()> {
    let profile = outcome.profile()?;
    let types: Vec<(&str, &str)> = profile.sample_types.iter().map(|(name, unit)| (name.as_str(), unit.as_str())).collect();
    assert_eq!(types, [("samples", "count"), ("cycles", "count")]);
    assert_eq!(profile.period_type, ("cycles".to_owned(), "count".to_owned()));
    let taken = profile.taken();
    let hertz = taken.total(1) as f64 / cpu_seconds;
    ensure!((2e8..2e10).contains(&hertz), "{} cycles in {cpu_seconds} s", taken.total(1));
    let mut flat: Vec<(i64, String)> = taken.flat().into_iter().map(|(name, samples)| (samples, name)).collect();
    flat.sort();
    ensure!(flat.last().is_some_and(|(samples, name)| name == "burn_half" && *samples > 100), "{flat:?}");
    Ok(())
}

#[test]
fn cycles_are_counted_where_there_are_some_and_refused_in_words_where_there_are_none() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("python3")]) {
        return Ok(());
    }
    let refusal = refusal_of_cycles()?;
    let mut subject = Subject::start(&build("three", Build::C)?, ["3"])?;
    let mut running = Profiler::record()?.pid(subject.pid()).args(["--clock", "cycles", "-F", "499"]).start()?;
    let Some(refusal) = refusal else {
        running.wait_until_recording()?;
        subject.wait_for_line("cpu")?;
        return counts_cycles(&running.interrupt()?.success()?, 3.0);
    };
    // The kernel's reason, that it is about this machine, and the other clock, which then works.
    let outcome = running.finish()?;
    let reason = refusal.split_once(' ').map_or("", |(_, words)| words);
    for word in ["cycles", reason, "this machine has no such counter", "--clock cpu-clock"] {
        outcome.failed(1, word)?;
    }
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    let check = String::from_utf8(Profiler::new("check")?.run()?.success()?.stdout)?;
    let row = check.lines().find(|line| line.contains("hardware cycles")).unwrap_or_default();
    ensure!(row.starts_with("missing") && row.contains(reason), "`check` says another thing: {row}");
    let profile =
        Profiler::record()?.pid(subject.pid()).args(["--clock", "cpu-clock", "-F", "499", "-d", "1"]).run()?.success()?.profile()?;
    assert_eq!(profile.period_type, ("cpu".to_owned(), "nanoseconds".to_owned()));
    Ok(())
}
