//! Many processes, many forks, many mappings: bounded memory, and nothing lost that is not counted.

use anyhow::{Result, ensure};
use profiler_tests::peak::{Counted, memory_kb, until_end_kb};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Profiler, Running};
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};

/// What the profiler may use in all, by its default.
const MEMORY_LIMIT_KB: u64 = 128 << 10;
/// Process events that a storm of some 60,000 or more may lose: a twentieth. The kernel's rings of them are small, and a busy machine lets the drain come late.
const EVENTS_LOST_MAX: i64 = 3000;

/// Ends a recording, and checks its balance, what it lost, and the memory that it had used by then and uses to the end: files are parsed after the recording.
fn bounded(running: Running, events_lost_max: i64) -> Result<Profile> {
    // While it records, its peak and its reader's, whenever each was; then what they have at the same time, millisecond by millisecond.
    let mut peak = memory_kb(running.pid(), Counted::Most)?;
    println!("{peak} kB while it recorded");
    running.signal(Signal::INT)?;
    peak = peak.max(until_end_kb(&running, Counted::Now));
    println!("{peak} kB at the peak");
    ensure!(peak > 0 && peak < MEMORY_LIMIT_KB, "the profiler and its processes used {peak} kB at their peak");
    let profile = running.finish()?.success()?.profile()?;
    let balance = profile.balance()?;
    assert_eq!(balance.difference, 0, "{balance:?}, {:?}", profile.losses()?);
    let mut lost = profile.own_losses()?;
    let events = lost.remove("process events dropped").unwrap_or(0);
    assert_eq!(lost, [].into(), "{balance:?}");
    println!("{events} process events lost");
    ensure!(events <= events_lost_max, "{events} process events were lost");
    Ok(profile)
}

/// Sleeping processes, killed with the value.
struct Sleepers(Vec<Child>);

impl Drop for Sleepers {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|child| drop(child.kill()));
        self.0.iter_mut().for_each(|child| drop(child.wait()));
    }
}

#[test]
fn two_thousand_processes() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let mut sleepers = Sleepers(Vec::new());
    for _ in 0..2000 {
        sleepers.0.push(Command::new("sleep").arg("1000").spawn()?);
    }
    let spin = build("spin", Build::C)?;
    let mut running = Profiler::record()?.args(["-a", "-F", "199"]).start()?;
    running.wait_until_recording()?;
    Subject::start(&spin, ["2"])?.wait_for_line("cpu")?;
    let profile = bounded(running, 0)?;
    let spun = profile.labelled("comm", "spin").cumulative().get("spin_here").copied().unwrap_or(0);
    ensure!(spun > 300, "two seconds of CPU time at 199 Hz gave {spun} samples");
    Ok(())
}

#[test]
fn a_storm_of_forks() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let forks = build("forks", Build::C)?;
    let mut running = Profiler::record()?.args(["-a", "-F", "997"]).start()?;
    running.wait_until_recording()?;
    let mut storm = Subject::start(&forks, ["500", "30"])?;
    let forked: i64 = storm.wait_for_line("forked")?.trim_start_matches("forked ").parse()?;
    ensure!(forked > 5000, "a storm of {forked} forks is none");
    let profile = bounded(running, EVENTS_LOST_MAX)?;
    let of_storm = profile.labelled("comm", "forks");
    let work = of_storm.cumulative().get("child_work").copied().unwrap_or(0);
    // A millisecond of CPU time each at 997 Hz: one sample a child in the mean.
    ensure!(work as f64 > 0.8 * forked as f64, "{forked} children of 1 ms gave {work} samples with the right name");
    let processes = of_storm.label_values("pid").len() as i64;
    ensure!(processes > forked / 3, "{forked} children, seen as {processes} processes");
    Ok(())
}

#[test]
fn sixty_thousand_mappings() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let maps = build("maps", Build::C)?;
    // Once mapped before the recording begins, once while it runs.
    let before = Subject::start(&maps, ["60000"])?;
    ensure!(
        fs::read_to_string(Path::new("/proc").join(before.pid().to_string()).join("maps"))?.lines().count() > 60_000,
        "the mappings are not there"
    );
    let mut running = Profiler::record()?.args(["-a", "-F", "199"]).start()?;
    running.wait_until_recording()?;
    let meanwhile = Subject::start(&maps, ["60000"])?;
    Subject::start(&build("spin", Build::C)?, ["1"])?.wait_for_line("cpu")?;
    let profile = bounded(running, EVENTS_LOST_MAX)?;
    for subject in [&before, &meanwhile] {
        let of_subject = profile.labelled("pid", &subject.pid().to_string());
        let named = of_subject.cumulative().get("among_mappings").copied().unwrap_or(0);
        ensure!(named > 50, "pid {}: {:?}", subject.pid(), of_subject.flat());
    }
    Ok(())
}
