//! `go tool pprof` reads what we write: every report works, agrees with our own decoder, and needs nothing but the file.

use anyhow::{Result, ensure};
use profiler_tests::pprof_tool::{flat_percent, pprof};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Outcome, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};

/// Whether the tests of this file can run here.
#[track_caller]
fn possible() -> bool {
    can_record(&[Build::C]) && ready(&[Need::Program("go")])
}

/// A recording of a spinning program, and its path.
fn recording() -> Result<(Outcome, String)> {
    let subject = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    let outcome = Profiler::record()?.pid(subject.pid()).args(["-F", "199", "-d", "2"]).run()?.success()?;
    let path = outcome.folder.join("cpu.prof").to_string_lossy().into_owned();
    Ok((outcome, path))
}

#[test]
fn every_report_of_pprof_works() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let (_outcome, path) = recording()?;
    let shows = |args: &[&str], words: &[&str]| -> Result<()> {
        let report = pprof(args.iter().copied().chain([path.as_str()]))?;
        for word in words {
            ensure!(report.text.contains(word), "`pprof {args:?}` does not show `{word}`:\n{}\n{}", report.text, report.notes);
        }
        Ok(())
    };
    shows(&["-top"], &["File: spin", "Type: cpu", "spin_here"])?;
    shows(&["-traces"], &["spin_here", "middle", "outer", "main", "comm:"])?;
    shows(&["-raw"], &["samples/count", "cpu/nanoseconds", "PeriodType: cpu nanoseconds", "comm:[spin]"])?;
    shows(&["-tags"], &["comm: Total", "spin", "pid: Total"])?;
    shows(&["-list", "spin_here"], &["ROUTINE ======================== spin_here", "6364136223846793005u"])?;
    shows(&["-disasm", "spin_here"], &["ROUTINE ======================== spin_here", "spin.c:"])?;
    shows(&["-peek", "middle"], &["spin_here", "outer"])?;
    shows(&["-tree"], &["spin_here"])
}

#[test]
fn pprof_and_our_decoder_agree_on_shares() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let (outcome, path) = recording()?;
    let profile = outcome.profile()?;
    let top = pprof(["-top", "-nodefraction=0", &path])?.text;
    let flat = profile.flat();
    let ours = 100.0 * flat["spin_here"] as f64 / profile.total(0) as f64;
    let theirs = flat_percent(&top, "spin_here");
    ensure!(theirs.is_some_and(|theirs| (theirs - ours).abs() < 0.1), "pprof says {theirs:?}, the samples say {ours}:\n{top}");
    Ok(())
}

#[test]
fn nothing_is_left_for_pprof_to_symbolize() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let (_outcome, path) = recording()?;
    let with = pprof(["-symbolize=local", "-raw", &path])?.text;
    let without = pprof(["-symbolize=none", "-raw", &path])?.text;
    assert_eq!(with, without);
    Ok(())
}

#[test]
fn a_profile_less_itself_is_nothing() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let (_outcome, path) = recording()?;
    let top = pprof(["-top", "-diff_base", &path, &path])?.text;
    ensure!(flat_percent(&top, "spin_here").is_none_or(|percent| percent == 0.0), "{top}");
    Ok(())
}

#[test]
fn two_profiles_merge_to_their_sum() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let ((first, first_path), (second, second_path)) = (recording()?, recording()?);
    let merged = first.folder.join("merged.prof");
    pprof(["-proto", "-output", &merged.to_string_lossy(), &first_path, &second_path])?;
    let report = pprof(["-raw", &merged.to_string_lossy()])?.text;
    ensure!(report.contains("samples/count"), "{report}");
    let (a, b, sum) = (first.profile()?, second.profile()?, Profile::read(&merged)?);
    assert_eq!(sum.total(0), a.total(0) + b.total(0));
    let spin = |profile: &Profile| profile.flat().get("spin_here").copied().unwrap_or(0);
    assert_eq!(spin(&sum), spin(&a) + spin(&b));
    let named = |profile: &Profile| profile.functions.iter().filter(|function| function.name == "spin_here").count();
    assert_eq!(named(&sum), 1, "the same function of two runs is one function");
    Ok(())
}
