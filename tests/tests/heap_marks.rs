//! Allocators that nobody knows by a name, but that tell of their blocks themselves (USDT marks of `otel_memory`).
#![cfg(target_arch = "x86_64")]

use anyhow::{Result, ensure};
use profiler_tests::probes::changed;
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Outcome, Profiler};
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, source};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// What a round tells of, by function: blocks and bytes, and those of them that stay.
const ROUND: [(&str, [i64; 4]); 3] =
    [("keeps", [640, 640_000, 640, 640_000]), ("passes", [2000, 96_000, 0, 0]), ("returns_later", [8, 800, 2, 200])];

/// The subject, built in a folder of the test's own.
fn built(folder: &Folder, flags: &[&str]) -> Result<PathBuf> {
    let (path, source) = (folder.join("tells"), source("tells", Build::CBare));
    let output = Command::new("gcc").args(["-O2", "-fomit-frame-pointer"]).args(flags).arg("-o").arg(&path).arg(&source).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(path)
}

/// Records two rounds of it.
fn two_rounds(flags: &[&str], options: &[&str]) -> Result<(Profile, Outcome)> {
    let folder = Folder::create()?;
    let (mut subject, mut stdin) = Subject::start_told(Command::new(built(&folder, flags)?))?;
    let mut running = Profiler::record()?.pid(subject.pid()).args(["-o", "out.prof"]).args(options).start()?;
    running.wait_until_recording()?;
    for _ in 0..2 {
        stdin.write_all(b"go\n")?;
        subject.wait_for_line("done")?;
    }
    let run = running.interrupt()?.success()?;
    // Nothing stays behind.
    ensure!(changed(subject.pid())?.0 == 0, "probes are left");
    Ok((Profile::read(&run.folder.join("out.prof"))?, run))
}

fn of(profile: &Profile, function: &str) -> Vec<i64> {
    let mine = profile.only(|sample| profile.names(sample).contains(&function));
    (0..profile.sample_types.len()).map(|column| mine.total(column)).collect()
}

fn is_noted(profile: &Profile, words: &str) -> bool {
    profile.comments.iter().any(|comment| comment.contains(words))
}

#[test]
fn what_a_program_tells_of_its_blocks_is_its_heap() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    // How many it samples is its own affair: the option is for those that are probed.
    let (profile, run) = two_rounds(&["-g"], &["-e", "heap", "--sample-bytes", "1M", "--self-cost"])?;
    for (function, figures) in ROUND {
        let expected: Vec<i64> = figures.iter().map(|figure| 2 * figure).collect();
        ensure!(of(&profile, function) == expected, "{function}: {:?}: {:#?}", of(&profile, function), profile.comments);
    }
    let balance = profile.balance()?;
    ensure!(balance.samples == 76 && balance.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
    // Of the C library's functions all frees are seen, and of this program's those of sampled blocks: nothing can be said of the sum.
    ensure!(!is_noted(&profile, "frees of blocks"), "{:#?}", profile.comments);
    ensure!(
        is_noted(&profile, "tells of its blocks itself") && run.stderr.contains("tells of its blocks itself"),
        "{:#?}",
        profile.comments
    );
    for mark in ["otel_memory:alloc+0  ", "otel_memory:free+0  "] {
        let rows: Vec<&str> = run.stderr.lines().filter(|line| line.contains(mark)).collect();
        ensure!(matches!(rows[..], [row] if row.contains("1  emulated ") && row.ends_with("/tells")), "{rows:?}: {}", run.stderr);
    }
    Ok(())
}

#[test]
fn a_static_program_without_a_symbol_tells_as_well() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let sums = |at: usize| 2 * ROUND.iter().map(|(_, figures)| figures[at]).sum::<i64>();
    let (profile, _) = two_rounds(&["-static", "-s"], &["-e", "heap"])?;
    let totals: Vec<i64> = (0..4).map(|column| profile.total(column)).collect();
    ensure!(totals == [sums(0), sums(1), sums(2), sums(3)], "{totals:?}: {:#?}", profile.comments);
    ensure!(!is_noted(&profile, "no allocator's functions were found"), "{:#?}", profile.comments);
    ensure!(is_noted(&profile, "frees of blocks that were never seen, such as older ones: 6"), "{:#?}", profile.comments);
    let (profile, _) = two_rounds(&["-static", "-s"], &["-e", "allocs"])?;
    ensure!((profile.total(0), profile.total(1)) == (sums(0), sums(1)), "{:#?}", profile.comments);
    ensure!(profile.sample_types.len() == 2, "{:?}", profile.sample_types);
    Ok(())
}

#[test]
fn who_wraps_another_allocator_is_counted_once() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let (profile, run) = two_rounds(&["-g", "-DWRAPS"], &["-e", "heap", "--sample-bytes", "1"])?;
    let expected = [("keeps", [20, 20_000, 20, 20_000]), ("passes", [40, 1920, 0, 0]), ("returns_later", [16, 1600, 4, 400])];
    for (function, figures) in expected {
        ensure!(of(&profile, function) == figures, "{function}: {:?}: {:#?}", of(&profile, function), profile.comments);
    }
    ensure!(run.stderr.contains("are not probed: it takes its memory from the malloc of another file"), "{}", run.stderr);
    Ok(())
}
