//! `--clock cycles` samples by the hardware's cycles where there are some, and says clearly where there are none, and what to do. Which it is, the kernel is
//! asked by a program of the test's own.

use anyhow::{Result, bail, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Outcome, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, build, source};
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
    is_hottest(&taken, "burn_half")
}

/// The function has more samples than any other.
fn is_hottest(profile: &Profile, function: &str) -> Result<()> {
    let flat = profile.taken().flat();
    let hottest = flat.iter().max_by_key(|(_, samples)| **samples);
    ensure!(hottest.is_some_and(|(name, samples)| name == function && *samples > 100), "{flat:?}");
    Ok(())
}

#[test]
fn cycles_are_counted_where_there_are_some_and_refused_in_words_where_there_are_none() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("python3")]) {
        return Ok(());
    }
    let refusal = refusal_of_cycles()?;
    let three = build("three", Build::C)?;
    let recorded =
        |clock: &str| Profiler::record()?.args(["--clock", clock, "-F", "499", "--"]).args([three.as_os_str(), "2".as_ref()]).run();
    let outcome = recorded("cycles")?;
    let Some(refusal) = refusal else { return counts_cycles(&outcome.success()?, 2.0) };
    // The kernel's reason, that it is about this machine, and the other clock, which then works.
    let reason = refusal.split_once(' ').map_or("", |(_, words)| words);
    for word in ["cycles", reason, "this machine has no such counter", "--clock cpu-clock"] {
        outcome.failed(1, word)?;
    }
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    let check = String::from_utf8(Profiler::new("check")?.run()?.success()?.stdout)?;
    let row = check.lines().find(|line| line.contains("hardware cycles")).unwrap_or_default();
    ensure!(row.starts_with("missing") && row.contains(reason), "`check` says another thing: {row}");
    let outcome = recorded("cpu-clock")?.success()?;
    let profile = outcome.profile()?;
    assert_eq!(profile.period_type, ("cpu".to_owned(), "nanoseconds".to_owned()));
    is_hottest(&profile, "burn_half")?;
    Ok(())
}
