//! `--allocator`: allocators that are not known by the names of their functions.

use anyhow::{Result, ensure};
use profiler_tests::pprof_tool::pprof;
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::fs;
use std::io::Write as _;
use std::process::Command;

const GIVEN: &str = "pool:malloc=pool_get,calloc=pool_zeroed,realloc=pool_more,free=pool_put";
/// What a round allocates, by function: blocks and bytes, and those of them that stay.
const ROUND: [(&str, [i64; 4]); 5] = [
    ("taken", [700, 63_000, 700, 63_000]),
    ("passing", [200, 100_000, 0, 0]),
    ("cleared", [30, 3840, 30, 3840]),
    ("enlarged", [80, 80_800, 40, 80_000]),
    ("others", [5, 1665, 5, 1665]),
];

/// Records two rounds of the subject; what was said, too.
fn two_rounds(options: &[&str]) -> Result<(Profile, String)> {
    let (mut subject, mut stdin) = Subject::start_told(Command::new(build("pool", Build::CBare)?))?;
    let mut running = Profiler::record()?.pid(subject.pid()).args(["--sample-bytes", "1", "-o", "out.prof"]).args(options).start()?;
    running.wait_until_recording()?;
    for _ in 0..2 {
        stdin.write_all(b"go\n")?;
        subject.wait_for_line("done")?;
    }
    let run = running.interrupt()?.success()?;
    Ok((Profile::read(&run.folder.join("out.prof"))?, run.stderr))
}

fn of(profile: &Profile, function: &str) -> Vec<i64> {
    let mine = profile.only(|sample| profile.names(sample).contains(&function));
    (0..profile.sample_types.len()).map(|column| mine.total(column)).collect()
}

#[test]
fn an_allocator_of_another_name_is_counted_beside_those_that_are_known() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let (profile, _) = two_rounds(&["-e", "heap", "--allocator", GIVEN])?;
    for (function, figures) in ROUND {
        let expected: Vec<i64> = figures.iter().map(|figure| 2 * figure).collect();
        ensure!(of(&profile, function) == expected, "{function}: {:?}: {:#?}", of(&profile, function), profile.comments);
    }
    ensure!(profile.balance()?.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
    ensure!(profile.comments.iter().any(|comment| comment.contains(&format!("--allocator {GIVEN}"))), "{:#?}", profile.comments);
    let (profile, _) = two_rounds(&["-e", "allocs", "--allocator", GIVEN])?;
    ensure!(of(&profile, "taken") == [1400, 126_000] && of(&profile, "cleared") == [60, 7680], "{:?}", profile.flat());
    // Nothing of it without being told.
    let (profile, _) = two_rounds(&["-e", "heap"])?;
    ensure!(of(&profile, "taken") == [0; 4] && of(&profile, "others") == [10, 3330, 10, 3330], "{:?}", profile.flat());
    Ok(())
}

#[test]
fn an_allocator_that_is_not_there_is_told() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let (subject, _stdin) = Subject::start_told(Command::new(build("pool", Build::CBare)?))?;
    let record = |given: &str| Profiler::record()?.pid(subject.pid()).args(["-e", "heap", "-d", "0.2", "--allocator", given]).run();
    record("pool:malloc=pool_got,free=pool_put")?.failed(1, "it has no function with a symbol pool_got")?;
    record("pool:malloc=pool_get")?.failed(2, "add free=NAME")?;
    record("pool:grab=pool_get,free=pool_put")?.failed(2, "there are malloc, calloc")?;
    let outcome = record("libpuddle.so:malloc=pool_get,free=pool_put")?.success()?;
    let words = "--allocator libpuddle.so: no process that was recorded maps it";
    ensure!(outcome.stderr.contains(words), "{}", outcome.stderr);
    ensure!(Profile::read(&outcome.folder.join("heap.prof"))?.comments.iter().any(|comment| comment == words), "{words}");
    Profiler::record()?.pid(subject.pid()).args(["-e", "cpu", "--allocator", GIVEN]).run()?.failed(2, "leave it out")
}

#[test]
fn it_is_no_more_in_the_stacks_than_those_that_are_known() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("go")]) {
        return Ok(());
    }
    let (mut subject, mut stdin) = Subject::start_told(Command::new(build("pool", Build::CBare)?))?;
    for format in ["pprof", "folded"] {
        let record = Profiler::record()?.pid(subject.pid()).args(["-e", "heap", "--sample-bytes", "1", "--format", format, "-o", "out"]);
        let mut running = record.args(["--allocator", GIVEN]).start()?;
        running.wait_until_recording()?;
        stdin.write_all(b"go\n")?;
        subject.wait_for_line("done")?;
        let run = running.interrupt()?.success()?;
        let out = run.folder.join("out");
        if format == "folded" {
            let folded = fs::read_to_string(&out)?;
            for leaf in ["taken", "cleared", "enlarged", "others"] {
                let is_its = |line: &&str| line.rsplit_once(' ').is_some_and(|(stack, _)| stack.ends_with(&format!(";{leaf}")));
                ensure!(folded.lines().any(|line| is_its(&line)), "{leaf}: {folded}");
            }
            ensure!(!folded.contains("pool_") && !folded.contains("alloc"), "{folded}");
            continue;
        }
        // Go's reader, by what the profile says of itself; the stacks themselves are whole.
        let top = pprof(["-top", "-unit=bytes", "-sample_index=alloc_space", &out.to_string_lossy()])?.text;
        let flat = |name: &str| top.lines().find(|line| line.split_whitespace().nth(5) == Some(name)).map(str::trim_start);
        for (function, bytes) in
            [("taken", "63000B"), ("passing", "100000B"), ("cleared", "3840B"), ("enlarged", "80800B"), ("others", "1665B")]
        {
            ensure!(flat(function).is_some_and(|row| row.starts_with(bytes)), "{function}: {top}");
        }
        // None of the allocator's own; above the table stands the command line.
        ensure!(
            flat("pool_get").is_none() && flat("pool_zeroed").is_none() && flat("pool_more").is_none() && flat("malloc").is_none(),
            "{top}"
        );
        ensure!(of(&Profile::read(&out)?, "pool_get")[1] >= 63_000, "{top}");
    }
    Ok(())
}
