//! Several kinds of profile in one recording: each in a file of its own, and each as right as alone.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::pprof_tool::pprof;
use profiler_tests::profile::Profile;
use profiler_tests::run::{Outcome, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::io::Write as _;
use std::process::Command;

/// Records two rounds of a program that allocates in a known pattern.
fn two_rounds(options: &[&str]) -> Result<Outcome> {
    let (mut subject, mut stdin) = Subject::start_told(Command::new(build("blocks", Build::CBare)?))?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(options).start()?;
    recording.wait_until_recording()?;
    for _ in 0..2 {
        stdin.write_all(b"go\n")?;
        subject.wait_for_line("done")?;
    }
    recording.interrupt()?.success()
}

fn read(run: &Outcome, kind: &str) -> Result<Profile> {
    let profile = Profile::read(&run.folder.join(format!("{kind}.prof"))).with_context(|| format!("{kind}: {}", run.stderr))?;
    // Ticks that never reached us are the machine's; calls are not lost so.
    let losses = if kind == "cpu" { profile.own_losses()? } else { profile.losses()? };
    ensure!(profile.balance()?.difference == 0 && losses.is_empty(), "{kind}: {:#?}", profile.comments);
    Ok(profile)
}

fn columns(profile: &Profile, function: &str) -> Vec<i64> {
    let mine = profile.only(|sample| profile.names(sample).contains(&function));
    (0..profile.sample_types.len()).map(|column| mine.total(column)).collect()
}

#[test]
fn each_kind_has_a_file_and_is_what_it_is_alone() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let run = two_rounds(&["-e", "cpu,heap,allocs,faults", "--sample-bytes", "1", "-F", "4999"])?;
    for kind in ["heap", "allocs"] {
        let profile = read(&run, kind)?;
        ensure!(columns(&profile, "kept") == [2000, 200_000, 2000, 200_000], "{kind}: {:?}", columns(&profile, "kept"));
        ensure!(columns(&profile, "dropped") == [4000, 4_000_000, 0, 0], "{kind}: {:?}", columns(&profile, "dropped"));
    }
    let cpu = read(&run, "cpu")?;
    ensure!(cpu.sample_types[1].0 == "cpu" && cpu.period == 1_000_000_000 / 4999, "{:?} {}", cpu.sample_types, cpu.period);
    ensure!(cpu.total(1) == cpu.total(0) * cpu.period, "ticks weigh their period, and blocks are in another file");
    let faults = read(&run, "faults")?;
    // What it keeps is new memory: at least the pages of its blocks are faulted in.
    ensure!(faults.total(0) >= 2 * 100_000 / 4096, "{:?}", faults.total(0));
    ensure!(run.stderr.contains("\nheap:\n") && run.stderr.contains("wrote cpu.prof"), "{}", run.stderr);
    Ok(())
}

#[test]
fn allocs_beside_heap_opens_with_what_was_allocated() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("go")]) {
        return Ok(());
    }
    let run = two_rounds(&["-e", "heap,allocs", "--sample-bytes", "1"])?;
    for (kind, shown) in [("heap", "inuse_space"), ("allocs", "alloc_space")] {
        let report = pprof(["-top".into(), run.folder.join(format!("{kind}.prof"))])?;
        ensure!(report.text.contains(&format!("Type: {shown}")), "{kind}: {}", report.text);
    }
    Ok(())
}

#[test]
fn several_kinds_do_not_fit_into_one_file() -> Result<()> {
    if !can_record(&[]) {
        return Ok(());
    }
    let own = std::process::id();
    for output in ["all.prof", "-"] {
        Profiler::record()?.pid(own).args(["-e", "cpu,faults", "-d", "1", "-o", output]).run()?.failed(2, "{kind}")?;
    }
    let run = Profiler::record()?.pid(own).args(["-e", "cpu,faults", "-d", "0.2", "-o", "my-{kind}.prof"]).run()?.success()?;
    ensure!(run.folder.names()? == ["my-cpu.prof", "my-faults.prof"], "{:?}", run.folder.names()?);
    Ok(())
}
