//! A wall clock that steps while a recording runs, by an hour at each look, forwards or backwards: how long anything took is not read from it.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build, source};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// What the first look gives, and by how much the later ones may be off it: a day.
const BEGAN_NS: i64 = 1_000_000_000_000_000_000;
const DAY_NS: i64 = 86_400_000_000_000;

/// The library that has the profiler see such a clock; this machine's is left alone.
fn stepping_clock(folder: &Folder) -> Result<PathBuf> {
    let library = folder.join("stepping_clock.so");
    let source = source("stepping_clock", Build::C);
    let status = Command::new("gcc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source).status()?;
    ensure!(status.success(), "gcc failed");
    Ok(library)
}

#[test]
fn a_step_of_the_wall_clock_changes_no_duration() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("gcc")]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    let library = stepping_clock(&folder)?;
    let subject = Subject::start(&build("ongoing", Build::CBare)?, ["many", "3"])?;
    for step in ["3600", "-3600"] {
        let began = Instant::now();
        let preload = |command: &mut Command| {
            command.env("LD_PRELOAD", &library).env("STEP", step);
        };
        let recorder = Profiler::record()?.pid(subject.pid()).args(["-e", "cpu,faults,off-cpu,block,wall", "-d", "1"]);
        let run = recorder.with(preload).run()?.success()?;
        let most = began.elapsed().as_nanos() as i64;
        for kind in ["cpu", "faults", "off-cpu", "block", "wall"] {
            let profile = Profile::read(&run.folder.join(format!("{kind}.prof"))).with_context(|| run.stderr.clone())?;
            let (start, duration) = (profile.time_ns, profile.duration_ns);
            // Or the library was not asked, and the test shows nothing.
            ensure!((start - BEGAN_NS).abs() < DAY_NS, "{kind} by {step}: it began at {start}");
            ensure!(duration >= 900_000_000 && duration <= most, "{kind} by {step}: {duration} ns, of {most} at most");
            if kind == "off-cpu" || kind == "block" {
                let waits = profile.only(|sample| profile.names(sample).contains(&"waits_for_mutex")).total(1);
                ensure!((waits - 3 * duration).abs() < 300_000_000, "{kind} by {step}: three waited {waits} ns in {duration}");
            }
        }
        let outcome = Profiler::new("stacks")?.args([subject.pid().to_string()]).with(preload).run()?.success()?;
        let listed = String::from_utf8_lossy(&outcome.stdout).into_owned();
        ensure!(listed.contains("waits_for_mutex") && !listed.contains(" hours") && !listed.contains("day"), "{listed}");
    }
    Ok(())
}
