//! A stack that was walked before is looked at and not walked again. Stacks that differ in one frame only, from the same place of the same thread's memory, are
//! told apart all the same: each of them is counted by the program itself.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build};
use std::io::Write as _;
use std::process::Command;

const ROUNDS: u32 = 20_000;

/// How many allocations came by both functions.
fn by(profile: &Profile, outer: &str, inner: &str) -> i64 {
    profile
        .only(|sample| {
            let names = profile.names(sample);
            [outer, inner, "pads"].iter().all(|name| names.contains(name))
        })
        .total(0)
}

fn told_apart(built: Build) -> Result<()> {
    if !can_record(&[built]) {
        return Ok(());
    }
    let mut command = Command::new(build("twins", built)?);
    command.arg(ROUNDS.to_string());
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut running = Profiler::record()?.pid(subject.pid()).args(["-e", "allocs", "--sample-bytes", "1"]).start()?;
    running.wait_until_recording()?;
    stdin.write_all(b"go\n")?;
    let line = subject.wait_for_line("done")?;
    let truth: Vec<i64> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    let profile = Profile::read(&running.interrupt()?.success()?.folder.join("allocs.prof"))?;
    let kinds = [("first", "left"), ("first", "right"), ("second", "left"), ("second", "right")];
    let seen: Vec<i64> = kinds.iter().map(|(outer, inner)| by(&profile, outer, inner)).collect();
    ensure!(truth.len() == kinds.len() && truth.iter().all(|count| *count > 1000), "{line}");
    ensure!(seen == truth, "{seen:?} by the profile, {truth:?} by the program: {:#?}", profile.comments);
    // All of them, to the root, with each frame once.
    let whole = profile.only(|sample| profile.names(sample).iter().any(|name| name.contains("_start")));
    ensure!(whole.total(0) >= i64::from(ROUNDS), "{} of {ROUNDS} reach the root", whole.total(0));
    for sample in profile.samples.iter().filter(|sample| profile.names(sample).contains(&"pads")) {
        let names = profile.names(sample);
        let count = |name: &str| names.iter().filter(|other| **other == name).count();
        ensure!(count("deep") == 4 && count("middle") == 9 && count("main") == 1 && count("leaf") == 1, "{names:?}");
    }
    let rest = stdin.write_all(b"\n");
    rest.context("the program is still there")
}

#[test]
fn without_frame_pointers_stacks_that_differ_in_one_frame_are_told_apart() -> Result<()> {
    told_apart(Build::CBare)
}

#[test]
fn with_frame_pointers_stacks_that_differ_in_one_frame_are_told_apart() -> Result<()> {
    told_apart(Build::C)
}
