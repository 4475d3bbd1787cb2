//! A JVM: its own code has tables, the code that it makes has none. With `-XX:+PreserveFramePointer` stacks are whole; without, they end where nothing leads
//! on, and say so. Its monitors are locks.

use anyhow::{Context as _, Result, bail, ensure};
use profiler_tests::contended::{SHARE, numbers, through};
use profiler_tests::profile::{Profile, Sample};
use profiler_tests::run::Profiler;
use profiler_tests::skip::{Need, ready};
use profiler_tests::subject::{Subject, java};
use std::io::Write as _;
use std::process::Command;

/// Where threads begin.
const ROOTS: [&str; 5] = ["_start", "clone", "__clone", "clone3", "__clone3"];

/// Recordings at most. Each begins without a table; how long the first stacks wait for theirs depends on what else the machine does.
const LOOKS: u32 = 3;

fn can_run() -> bool {
    ready(&[Need::Root, Need::Program("java"), Need::Program("javac")])
}

/// Records the load from its beginning, while it is interpreted, compiled and collected.
fn record(options: &[&str]) -> Result<Profile> {
    let mut command = Command::new("java");
    command.args(options).args(["-Xmx128m", "-cp"]).arg(java("JvmLoad")?).arg("JvmLoad");
    let load = Subject::start_command(command)?;
    let profile = Profiler::record()?.pid(load.pid()).args(["-F", "499", "-d", "10"]).run()?.success()?.profile()?;
    ensure!(profile.taken().total(0) > 2000, "{} samples", profile.taken().total(0));
    Ok(profile)
}

/// Whether no frame lies in code that was made at run time.
fn is_from_files(profile: &Profile, sample: &Sample) -> bool {
    let is_file =
        |location: &usize| profile.locations[*location].mapping.is_some_and(|mapping| profile.mappings[mapping].filename != "//anon");
    sample.locations.iter().all(is_file)
}

/// Samples whose outermost frame is where a thread begins.
fn begun_at_a_root(profile: &Profile) -> i64 {
    let is_rooted = |names: &[&str]| names.last().is_some_and(|last| ROOTS.contains(last));
    profile.taken().samples.iter().filter(|sample| is_rooted(&profile.names(sample))).map(|sample| sample.values[0]).sum()
}

#[test]
fn with_frame_pointers_stacks_are_whole() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut told = Vec::new();
    for _ in 0..LOOKS {
        let profile = record(&["-XX:+PreserveFramePointer"])?;
        let (rooted, endings) = (profile.rooted()?, profile.endings()?);
        println!("rooted {rooted:.4}: {endings:?}");
        if rooted >= 0.995 {
            return Ok(());
        }
        told.push((rooted, endings));
    }
    bail!("too few of the stacks reached their root: {told:?}")
}

#[test]
fn without_them_no_stack_says_that_it_reached_a_root_which_it_did_not() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let profile = record(&[])?;
    let endings = profile.endings()?;
    let (said, begun) = (endings.get("root reached").copied().unwrap_or(0), begun_at_a_root(&profile));
    println!("rooted {said}, with the frame of a root {begun}: {endings:?}");
    ensure!(said <= begun, "{said} stacks say that they reached their root, {begun} did: {endings:?}");
    // The JVM's own work, its collector and its compiler, has tables, and is whole all the same.
    let own = profile.taken().only(|sample| is_from_files(&profile, sample));
    let (rooted, all) = (begun_at_a_root(&own), own.total(0));
    println!("without code made at run time: {all}, of them rooted {rooted}");
    ensure!(
        all > 100 && rooted as f64 >= all as f64 * 0.98,
        "of {all} stacks without code made at run time {rooted} are whole: {endings:?}"
    );
    Ok(())
}

#[test]
fn monitors_are_locks_though_each_thread_is_parked_at_a_word_of_its_own() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut command = Command::new("java");
    command.args(["-Xmx128m", "-cp"]).arg(java("JvmLocks")?).arg("JvmLocks");
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["-e", "block,mutex"]).start()?;
    recording.wait_until_recording()?;
    stdin.write_all(b"x")?;
    let line = subject.wait_for_line("waited")?;
    let run = recording.interrupt()?.success()?;
    let truth = *numbers(&line, "waited").first().context("what they waited")?;
    let read = |kind: &str| Profile::read(&run.folder.join(format!("{kind}.prof")));
    let (block, mutex) = (read("block")?, read("mutex")?);
    let entered = through(&block, "ObjectMonitor::enter");
    ensure!((entered / truth - 1.0).abs() < SHARE, "block: {entered} of {truth}");
    // What its own locks add is little; what its threads have waited for work is none.
    let charged = mutex.total(1) as f64;
    ensure!((charged / truth - 1.0).abs() < SHARE, "mutex: {charged} of {truth}: {:?}", mutex.comments);
    let exited = through(&mutex, "ObjectMonitor");
    ensure!(exited > 0.95 * charged, "{exited} of {charged}: {:?}", mutex.cumulative());
    Ok(())
}
