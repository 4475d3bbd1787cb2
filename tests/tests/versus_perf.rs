//! Side by side with `perf record -g`, at the same time and at another prime frequency: over the union of both top tens the shares agree within two points.

use anyhow::{Result, ensure};
use profiler_tests::nginx::{self, Nginx};
use profiler_tests::perf::{Compare, Functions, Perf, agree};
use profiler_tests::postgres::{self, Postgres};
use profiler_tests::run::{Folder, Profiler};
use profiler_tests::skip::{Need, can_record, ready, skip};
use profiler_tests::subject::{Build, Subject, build, source};
use std::fs;
use std::path::Path;
use std::process::Command;

/// By how much shares may differ.
const POINTS: f64 = 2.0;
/// The share of our user stacks that reach their root: all of these programs are walked whole, with frame pointers or without.
const ROOTED_MIN: f64 = 0.995;
/// Samples that each side must have.
const SAMPLES_MIN: i64 = 10_000;
/// Seconds that a program needs for them that never waits, and one that waits for its clients now and then.
const BUSY: u32 = 14;
const SERVING: u32 = 30;

/// Pairs of recordings at most.
const PAIRS: u32 = 3;

/// Records a process that is always busy with both, and compares. The two tick at different moments of one machine, on which other things run: a share that
/// depends on who wakes whom differs between two recordings of perf's as well, now and then. What is wrong in ours is wrong in each of three pairs.
fn compare(pid: u32, how: Compare, seconds: u32) -> Result<()> {
    compare_two(pid, pid, how, seconds)
}

/// The same of two processes that do the same: ours records one and perf the other.
fn compare_two(for_us: u32, for_perf: u32, how: Compare, seconds: u32) -> Result<()> {
    for pair in 1..PAIRS {
        match compare_once(for_us, for_perf, how, pair * seconds) {
            Ok(()) => return Ok(()),
            Err(why) => println!("pair {pair} of {PAIRS}: {why}"),
        }
    }
    compare_once(for_us, for_perf, how, PAIRS * seconds)
}

fn compare_once(for_us: u32, for_perf: u32, how: Compare, seconds: u32) -> Result<()> {
    let (ours, perfs) = both(for_us, for_perf, seconds)?;
    let least = ours.samples.min(perfs.samples);
    ensure!(least >= SAMPLES_MIN, "{} samples here and {} in perf are too few to compare", ours.samples, perfs.samples);
    agree(&ours, &perfs, how, POINTS)
}

/// Recordings of both at the same time.
fn both(for_us: u32, for_perf: u32, seconds: u32) -> Result<(Functions, Functions)> {
    let perf = Perf::start(for_perf, 991, seconds)?;
    let profile = Profiler::record()?.pid(for_us).args(["-F", "997", "-d", &seconds.to_string()]).run()?.success()?.profile()?;
    let perfs = perf.finish()?;
    let rooted = profile.rooted()?;
    println!("{:.2} % of the user stacks reach their root", 100.0 * rooted);
    ensure!(rooted >= ROOTED_MIN, "{rooted:.4} of the user stacks reach their root: {:?}", profile.endings()?);
    Ok((Functions::of_profile(&profile.taken()), perfs))
}

/// Whether the test can run: perf beside what a recording needs.
#[track_caller]
fn possible(builds: &[Build], programs: &[&str]) -> bool {
    let needs: Vec<Need<'_>> = ["perf"].iter().chain(programs).map(|program| Need::Program(program)).collect();
    can_record(builds) && ready(&needs)
}

#[test]
fn a_program_in_c() -> Result<()> {
    if !possible(&[Build::C], &[]) {
        return Ok(());
    }
    let subject = Subject::start(&build("three", Build::C)?, [""; 0])?;
    compare(subject.pid(), Compare::FlatAndCumulative, BUSY)
}

#[test]
fn a_program_in_rust() -> Result<()> {
    if !possible(&[Build::Rust], &[]) {
        return Ok(());
    }
    let subject = Subject::start(&build("rustspin", Build::Rust)?, [""; 0])?;
    compare(subject.pid(), Compare::FlatAndCumulative, BUSY)
}

#[test]
fn a_program_in_go() -> Result<()> {
    if !possible(&[Build::Go], &[]) {
        return Ok(());
    }
    let subject = Subject::start(&build("gospin", Build::Go)?, [""; 0])?;
    // The function that spins keeps no frame, so perf's walk by frame pointers skips its caller. Ours finds it: `unwinding.rs`.
    compare(subject.pid(), Compare::Flat, BUSY)
}

/// perf has no names for a binary without a symbol table, so it records the same program with one.
#[test]
fn a_program_in_go_that_is_stripped() -> Result<()> {
    if !possible(&[Build::Go, Build::GoStripped], &[]) {
        return Ok(());
    }
    let stripped = Subject::start(&build("gospin", Build::GoStripped)?, [""; 0])?;
    let whole = Subject::start(&build("gospin", Build::Go)?, [""; 0])?;
    compare_two(stripped.pid(), whole.pid(), Compare::FlatAndCumulative, BUSY)
}

#[test]
fn a_program_in_python() -> Result<()> {
    if !possible(&[], &["/usr/bin/python3"]) {
        return Ok(());
    }
    let script = source("pyspin", Build::C).with_extension("py");
    let subject = Subject::start(Path::new("/usr/bin/python3"), [script])?;
    compare(subject.pid(), Compare::Flat, BUSY)
}

#[test]
fn a_program_in_node_with_its_perf_map() -> Result<()> {
    if !possible(&[], &["node"]) {
        return Ok(());
    }
    let script = "function inner(n) { let v = 1; for (let i = 0; i < n; i++) v = (v * 31 + i) % 1000003; return v; }
        function outer() { let s = 0; for (let i = 0; i < 100; i++) s += inner(20000); return s; }
        for (let i = 0; i < 20; i++) outer();
        console.log('ready'); for (;;) outer();";
    // In a folder of its own: V8 also writes a log into the one where it runs.
    let folder = Folder::create()?;
    let mut command = Command::new("node");
    command.current_dir(folder.path()).args(["--perf-basic-prof", "-e", script]);
    let subject = Subject::start_command(command)?;
    let compared = compare(subject.pid(), Compare::Flat, BUSY);
    let _ = fs::remove_file(format!("/tmp/perf-{}.map", subject.pid()));
    compared
}

#[test]
fn nginx_under_load() -> Result<()> {
    if !possible(&[], &[nginx::PROGRAM]) {
        return Ok(());
    }
    // This load is the one that showed that ticks of several CPUs must not fall together: see `SampledEvents::apart`.
    let nginx = Nginx::under_load(8)?;
    compare(nginx.worker()?, Compare::Flat, SERVING)?;
    nginx.stop()
}

#[test]
fn postgres_under_pgbench() -> Result<()> {
    let Some(bin) = postgres::programs() else {
        skip("needs PostgreSQL");
        return Ok(());
    };
    if !possible(&[], &["runuser"]) {
        return Ok(());
    }
    let server = Postgres::start(bin, 2)?;
    // A query that works in the server for long, so that the back end hardly ever waits for its client.
    let script = "select count(*), sum(abalance), max(length(filler)) from pgbench_accounts where aid % 7 < 5;";
    let without_workers = "PGOPTIONS='-c max_parallel_workers_per_gather=0'";
    let mut load =
        server.shell(&format!("echo '{script}' | {without_workers} {} -n -c 1 -T 600 -f - postgres", server.pgbench())).spawn()?;
    let compared = server.back_end("[local] SELECT").and_then(|pid| compare(pid, Compare::Flat, SERVING));
    load.kill()?;
    load.wait()?;
    compared
}
