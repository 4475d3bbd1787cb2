//! `-e heap` where it is hard: threads, signals, failures, children, other programs in the same process, allocators that come and go, bounds that are met.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::probes::links;
use profiler_tests::profile::Profile;
use profiler_tests::run::{Outcome, Profiler, Running};
use profiler_tests::skip::{can_record, skip};
use profiler_tests::subject::{Build, Subject, build, source};
use profiler_tests::waiting;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{ChildStdin, Command};

/// The subject, waiting for what it is told.
struct Edges {
    subject: Subject,
    stdin: ChildStdin,
}

impl Edges {
    fn start(name: &str) -> Result<Self> {
        let (subject, stdin) = Subject::start_told(Command::new(build(name, Build::CBare)?))?;
        Ok(Self { subject, stdin })
    }

    fn tell(&mut self, what: &str) -> Result<()> {
        Ok(writeln!(self.stdin, "{what}")?)
    }

    fn does(&mut self, what: &str) -> Result<()> {
        self.tell(what)?;
        self.subject.wait_for_line("done")?;
        Ok(())
    }

    /// Records it, block by block.
    fn record(&self, options: &[&str]) -> Result<Running> {
        let mut running = Profiler::record()?.pid(self.subject.pid()).args(["-e", "heap", "--sample-bytes", "1"]).args(options).start()?;
        running.wait_until_recording()?;
        Ok(running)
    }
}

fn read(outcome: &Outcome) -> Result<Profile> {
    Profile::read(&outcome.folder.join("heap.prof"))
}

fn end(running: Running) -> Result<Profile> {
    read(&running.interrupt()?.success()?)
}

/// Records a program that does one thing after the other.
fn recorded(name: &str, doing: &[&str], options: &[&str]) -> Result<Profile> {
    let mut edges = Edges::start(name)?;
    let running = edges.record(options)?;
    for what in doing {
        edges.does(what)?;
    }
    end(running)
}

/// The columns of all samples that have a function on their stack: blocks and bytes that were allocated, and those in use.
fn of(profile: &Profile, function: &str) -> Vec<i64> {
    let mine = profile.only(|sample| profile.names(sample).contains(&function));
    (0..profile.sample_types.len()).map(|column| mine.total(column)).collect()
}

fn has(profile: &Profile, expected: &[(&str, [i64; 4])]) -> Result<()> {
    for (function, figures) in expected {
        ensure!(
            of(profile, function) == figures,
            "{function}: {:?} instead of {figures:?}: {:#?}",
            of(profile, function),
            profile.comments
        );
    }
    ensure!(profile.balance()?.difference == 0, "{:#?}", profile.comments);
    Ok(())
}

/// Everything that was counted, also under stacks that lost frames: until the list of ranges has the kernel's page of return probes, a stack that leads
/// through it ends there.
fn has_in_all(profile: &Profile, expected: [i64; 4]) -> Result<()> {
    let all: Vec<i64> = (0..4).map(|column| profile.total(column)).collect();
    ensure!(all == expected, "{all:?} instead of {expected:?}: {:#?}", profile.comments);
    ensure!(profile.balance()?.difference == 0, "{:#?}", profile.comments);
    Ok(())
}

fn is_lossless(profile: &Profile) -> Result<()> {
    ensure!(profile.losses()?.is_empty(), "{:#?}", profile.comments);
    Ok(())
}

fn wait_for_links(running: &Running, least: usize) -> Result<()> {
    waiting::until("more probes", || Ok((links(running)? >= least).then_some(())))
}

#[test]
fn blocks_go_from_thread_to_thread_and_outlive_them() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let profile = recorded("heap_edges", &["hand over", "at once"], &[])?;
    has(&profile, &[("handed_over", [8000, 512_000, 800, 51_200]), ("at_once", [40_000, 4_000_000, 8, 800])])?;
    is_lossless(&profile)
}

#[test]
fn realloc_that_moves_gives_back_or_fails_keeps_its_meaning() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let profile = recorded("heap_edges", &["realloc"], &[])?;
    // An order for nothing is refused by the C library, after it has given the block back: it makes none.
    let zeroed_out = of(&profile, "zeroed_out");
    ensure!(zeroed_out == [50, 10_000, 0, 0], "zeroed_out: {zeroed_out:?}");
    has(&profile, &[("denied", [50, 15_000, 50, 15_000])])?;
    // One block that grows 100 times stays one.
    has_in_all(&profile, [200, 530_000, 51, 25_000])?;
    is_lossless(&profile)?;
    // An order for nothing is never sampled itself, where not all are.
    let mut edges = Edges::start("heap_edges")?;
    let mut running = Profiler::record()?.pid(edges.subject.pid()).args(["-e", "heap", "--sample-bytes", "10"]).start()?;
    running.wait_until_recording()?;
    edges.does("realloc")?;
    let profile = end(running)?;
    let zeroed_out = of(&profile, "zeroed_out");
    ensure!(zeroed_out[0] == 50 && zeroed_out[2] == 0, "sampled: {zeroed_out:?}");
    Ok(())
}

#[test]
fn calls_inside_calls_are_each_counted() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let profile = recorded("heap_own", &["interrupted"], &[])?;
    // 200 interrupted calls of 160 bytes, and in each a handler's two.
    has_in_all(&profile, [600, 57_600, 300, 25_600])?;
    is_lossless(&profile)
}

#[test]
fn signals_at_any_time_leave_the_counts_as_they_are() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut edges = Edges::start("heap_own")?;
    let running = edges.record(&[])?;
    edges.tell("any time")?;
    let line = edges.subject.wait_for_line("counted")?;
    let numbers: Vec<i64> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    let [blocks, handled] = numbers[..] else { anyhow::bail!("{line}") };
    ensure!(handled > 10, "too few signals: {line}");
    let profile = end(running)?;
    has_in_all(&profile, [blocks + 2 * handled, 96 * blocks + 128 * handled, handled, 48 * handled])?;
    is_lossless(&profile)
}

#[test]
fn calls_that_never_return_are_counted_as_such() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    for (what, most) in [("left", 30), ("ended", 20)] {
        // Once before: the end of the first thread loads a library.
        let mut edges = Edges::start("heap_own")?;
        edges.does(what)?;
        let running = edges.record(&[])?;
        edges.does(what)?;
        let profile = end(running)?;
        has(&profile, &[(what, [0; 4])])?;
        let losses = profile.losses()?;
        ensure!(losses.len() == 1 && losses.get("call never returned") == Some(&most), "{what}: {losses:?}");
    }
    Ok(())
}

#[test]
fn a_child_has_blocks_of_its_own() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    for inherits in [true, false] {
        let mut edges = Edges::start("heap_edges")?;
        let running = edges.record(if inherits { &[] } else { &["--no-inherit"] })?;
        let before = links(&running)?;
        ensure!(before > 0, "no probe is set");
        edges.does("parent")?;
        edges.tell("fork")?;
        let child = edges.subject.wait_for_line("child")?.split_whitespace().nth(1).context("its pid")?.to_owned();
        if inherits {
            wait_for_links(&running, 2 * before)?;
        }
        edges.does("go")?;
        let profile = end(running)?;
        has(&profile, &[("of_the_parent", [100, 100_000, 100, 100_000])])?;
        let own = profile.labelled("pid", &child);
        if inherits {
            ensure!(of(&own, "of_the_child") == [70, 35_000, 70, 35_000], "{:?}", of(&own, "of_the_child"));
            ensure!(of(&profile, "of_the_child") == of(&own, "of_the_child"), "it is counted elsewhere, too");
        } else {
            ensure!(own.samples.is_empty() && of(&profile, "of_the_child") == [0; 4], "the child was recorded: {:?}", profile.flat());
        }
        is_lossless(&profile)?;
    }
    Ok(())
}

#[test]
fn another_program_in_the_process_leaves_what_was_as_it_was() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut edges = Edges::start("heap_edges")?;
    let running = edges.record(&[])?;
    let before = links(&running)?;
    edges.does("parent")?;
    // Another file with an allocator: it is known that it is taken in when there are more links.
    edges.tell(&format!("exec {}", build("heap_own", Build::CBare)?.display()))?;
    edges.subject.wait_for_line("ready")?;
    wait_for_links(&running, before + 1)?;
    edges.does("interrupted")?;
    let profile = end(running)?;
    has(&profile, &[("of_the_parent", [100, 100_000, 100, 100_000])])?;
    has_in_all(&profile, [700, 157_600, 400, 125_600])
}

#[test]
fn an_allocator_may_come_and_go() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    for library in ["libtcmalloc_minimal.so.4", "libmimalloc.so.2.0"] {
        if !Path::new("/usr/lib/x86_64-linux-gnu").join(library).exists() {
            skip(&format!("{library} is not there"));
            continue;
        }
        let mut edges = Edges::start("heap_edges")?;
        let running = edges.record(&[])?;
        let before = links(&running)?;
        edges.does(&format!("load {library}"))?;
        wait_for_links(&running, before + 1)?;
        edges.does("foreign")?;
        edges.does("unload")?;
        edges.does("parent")?;
        let profile = end(running)?;
        has(&profile, &[("foreign", [40, 10_240, 10, 2560]), ("of_the_parent", [100, 100_000, 100, 100_000])]).context(library)?;
        edges.does("parent")?; // It lives, and goes on.
    }
    Ok(())
}

#[test]
fn a_process_takes_no_more_keys_than_it_leaves() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    // 16 stacks of 10 blocks each: of four keys two are left for others.
    let profile = recorded("heap_edges", &["places"], &["--tally-entries", "4"])?;
    let (balance, lost) = (profile.balance()?, profile.losses()?);
    ensure!(lost.get("tally map full") == Some(&140) && lost.len() == 1, "{lost:?}");
    ensure!(balance.difference == 0 && balance.samples == 20 && balance.lost == 140, "{balance:?}");
    ensure!(profile.only(|sample| sample.label("pid").is_some()).total(2) == 20, "{:?}", profile.flat());
    // Who comes after one that would take all of 16 finds room.
    let (mut greedy, mut modest) = (Edges::start("heap_edges")?, Edges::start("heap_edges")?);
    let options = ["-p".to_owned(), modest.subject.pid().to_string(), "--tally-entries".to_owned(), "16".to_owned()];
    let running = greedy.record(&options.each_ref().map(String::as_str))?;
    greedy.does("places")?;
    modest.does("hold")?;
    let profile = end(running)?;
    has(&profile, &[("handed_over", [1000, 64_000, 1000, 64_000])])?;
    ensure!(profile.losses()?.get("tally map full") == Some(&80), "{:?}", profile.losses()?);
    Ok(())
}

#[test]
fn a_process_may_end_or_be_gone() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut edges = Edges::start("heap_edges")?;
    let running = edges.record(&[])?;
    let pid = edges.subject.pid();
    edges.does("parent")?;
    edges.tell("quit")?;
    edges.subject.wait_for_line("ready").err().context("it goes on")?;
    drop(edges);
    let outcome = running.interrupt()?.success()?;
    has(&read(&outcome)?, &[("of_the_parent", [100, 100_000, 100, 100_000])])?;
    Profiler::record()?.pid(pid).args(["-e", "heap", "-d", "1"]).run()?.failed(1, "no such process")
}

#[test]
fn a_program_without_a_known_allocator_is_named() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let folder = profiler_tests::manifest::root().join("target/profiler-tests/heap");
    fs::create_dir_all(&folder)?;
    let program = folder.join("edges-static-stripped");
    let status = Command::new("gcc").args(["-static", "-s", "-O2", "-o"]).arg(&program).arg(source("blocks", Build::C)).status()?;
    ensure!(status.success(), "gcc: {status}");
    let (subject, _stdin) = Subject::start_told(Command::new(program))?;
    let outcome = Profiler::record()?.pid(subject.pid()).args(["-e", "heap", "-d", "0.5"]).run()?.success()?;
    let words = format!("process {}: no allocator's functions were found (a static program without symbols?)", subject.pid());
    ensure!(outcome.stderr.contains(&words), "{}", outcome.stderr);
    ensure!(read(&outcome)?.comments.contains(&words), "{:#?}", read(&outcome)?.comments);
    // Where one was found, nothing is said.
    let edges = Edges::start("heap_edges")?;
    let outcome = edges.record(&[])?.interrupt()?.success()?;
    ensure!(!outcome.stderr.contains("no allocator"), "{}", outcome.stderr);
    Ok(())
}
