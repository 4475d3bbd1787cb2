//! A snapshot of 2,000 parked threads, walked to their roots: how long it takes, and for how long a thread of the target that never sleeps gets no CPU meanwhile,
//! with gdb and eu-stack beside it, which stop them all; and where 200 of them want a CPU, with which the profiler must compete. The gap is the longest between two
//! turns of a loop in the target that looks at the clock. And a snapshot of 50,000 threads, for which the machine's limits are raised meanwhile.

use super::limits::Raised;
use super::{Row, median};
use anyhow::{Context as _, Result, ensure};
use profiler_tests::peak::{Counted, until_end_kb};
use profiler_tests::run::Profiler;
use profiler_tests::skip::find;
use profiler_tests::subject::{Build, Subject, build};
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs; the median counts.
const ROUNDS: usize = 9;
const THREADS: u64 = 2000;
/// Threads of a large process, runs, and the goals for it.
const MANY: u64 = 50_000;
const MANY_ROUNDS: usize = 5;
const MANY_MS_MAX: f64 = 1000.0;
const MANY_MB_MAX: f64 = 128.0;
/// What the machine must allow, with what it runs beside: threads by two limits, and mappings, two for the stack of each thread.
const LIMITS: [(&str, u64); 3] = [("kernel/pid_max", 2 * MANY), ("kernel/threads-max", 2 * MANY), ("vm/max_map_count", 3 * MANY)];
/// Goal, milliseconds.
const SNAPSHOT_MS_MAX: f64 = 25.0;
/// Threads that want a CPU, among as many others as make 2,000 of them.
const RUNNABLE: u64 = 200;
/// A tick of the kernel's clock where it is slow.
const TICK_MS: f64 = 4.0;

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let parked = Subject::start(&build("parked", Build::CBare)?, [THREADS.to_string()])?;
    let (mut took, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let before = Instant::now();
        took.push(snapshot(parked.pid(), THREADS)?);
        whole.push(before.elapsed().as_secs_f64() * 1e3);
    }
    let took = median(&mut took);
    let figure = format!("{took:.1} ms");
    let mut rows = vec![
        Row::goal("2,000 parked threads walked to their roots, median of 9", figure, "<= 25 ms", took <= SNAPSHOT_MS_MAX),
        Row::beside("the same from exec to the listing", format!("{:.0} ms", median(&mut whole))),
    ];
    if find("gdb").is_some() {
        let gdb = gdb(parked.pid())?;
        rows.push(Row::beside("gdb `thread apply all bt` of the same", format!("{gdb:.0} ms, {:.0} times as long", gdb / took)));
    }
    if find("eu-stack").is_some() {
        let eu_stack = eu_stack(parked.pid())?;
        rows.push(Row::beside("eu-stack of the same", format!("{eu_stack:.0} ms, {:.0} times as long", eu_stack / took)));
    }
    drop(parked);
    rows.extend(runnable(took)?);
    rows.extend(gaps()?);
    rows.extend(many()?);
    Ok(rows)
}

/// A snapshot where 200 of 2,000 threads want a CPU all the time: who waits for one stands still, and is walked without a tick. `parked_ms`: what it took where
/// none does.
fn runnable(parked_ms: f64) -> Result<Vec<Row>> {
    let words = [(THREADS - RUNNABLE).to_string(), "running".to_owned(), RUNNABLE.to_string()];
    let subject = Subject::start(&build("parked", Build::CBare)?, words)?;
    let (mut took, mut left) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let (ms, listed) = listed(subject.pid())?;
        took.push(ms);
        let walked: u64 = listed.split("\n\n").filter(|group| group.contains("spins_for_ever")).filter_map(first_number).sum();
        left += RUNNABLE - walked;
    }
    let took = median(&mut took);
    let most = parked_ms.max(SNAPSHOT_MS_MAX) + 2.0 * TICK_MS;
    let goal = format!("<= {most:.0} ms: two ticks of a 250 Hz kernel more");
    Ok(vec![
        Row::goal("the same where 200 of the 2,000 want a CPU, median of 9", format!("{took:.1} ms"), goal, took <= most),
        Row::goal("of them without a stack, in nine snapshots", left.to_string(), "0", left == 0),
    ])
}

/// The longest time in which a thread that wants to run is not run, alone and with who looks at its process.
fn gaps() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut running = Subject::start(&build("parked", Build::CBare)?, [THREADS.to_string(), "gaps".to_owned()])?;
    rows.push(Row::beside("longest gap of a running thread of the target in 2 s, undisturbed", gap(&mut running, |_| Ok(()))?));
    rows.push(Row::beside(
        "the same with five snapshots in it",
        gap(&mut running, |pid| (0..5).try_for_each(|_| snapshot(pid, THREADS).map(drop)))?,
    ));
    if find("gdb").is_some() {
        rows.push(Row::beside("the same with gdb once in it", gap(&mut running, |pid| gdb(pid).map(drop))?));
    }
    if find("eu-stack").is_some() {
        rows.push(Row::beside("the same with eu-stack once in it", gap(&mut running, |pid| eu_stack(pid).map(drop))?));
    }
    Ok(rows)
}

/// A snapshot of a process with very many threads, whose stacks lie in one mapping, or in two each; where the limits stay too low nothing is reached.
fn many() -> Result<Vec<Row>> {
    let _raised = match Raised::to(&LIMITS) {
        Ok(raised) => raised,
        Err(why) => return Ok(vec![Row::goal("50,000 parked threads", format!("NOT MEASURED: {why:#}"), "<= 1 s", false)]),
    };
    let mut rows = Vec::new();
    for (what, how) in [("in one mapping", Some("together")), ("in two mappings each", None)] {
        let parked = Subject::start(&build("parked", Build::CBare)?, std::iter::once(MANY.to_string()).chain(how.map(str::to_owned)))?;
        let mut took = (0..MANY_ROUNDS).map(|_| snapshot(parked.pid(), MANY)).collect::<Result<Vec<f64>>>()?;
        let took = median(&mut took);
        let figure = format!("{took:.0} ms, {:.1} us a thread", took * 1e3 / MANY as f64);
        rows.push(Row::goal(format!("50,000 parked threads, stacks {what}, median of 5"), figure, "<= 1 s", took <= MANY_MS_MAX));
        if how.is_some() {
            let running = Profiler::new("stacks")?.args([parked.pid().to_string().as_str(), "-o", "many.pb.gz"]).start()?;
            let mb = until_end_kb(&running, Counted::Now) as f64 / 1024.0;
            running.finish()?.success()?;
            rows.push(Row::goal("memory of all processes of such a one, at most", format!("{mb:.0} MB"), "<= 128 MB", mb <= MANY_MB_MAX));
        }
    }
    Ok(rows)
}

/// Takes one, and gives what it says that it took, ms.
fn snapshot(pid: u32, threads: u64) -> Result<f64> {
    let (ms, listed) = listed(pid)?;
    let first = listed.split("\n\n").next().unwrap_or_default();
    let are_all_alike = first.starts_with(&format!("{threads} threads [worker, futex wait]"));
    ensure!(are_all_alike && first.contains("\nstart_thread("), "not all were walked to their roots:\n{listed}");
    Ok(ms)
}

/// How long one took, ms, and its listing.
fn listed(pid: u32) -> Result<(f64, String)> {
    let outcome = Profiler::new("stacks")?.args([pid.to_string().as_str(), "--timing", "--group"]).run()?.success()?;
    let ms = outcome.stderr.split(" in ").nth(1).and_then(|rest| rest.split(' ').next()).context("it does not say how long it took")?;
    Ok((ms.parse()?, String::from_utf8_lossy(&outcome.stdout).into_owned()))
}

/// The number that a group of the listing begins with.
fn first_number(group: &str) -> Option<u64> {
    group.trim_start().split(' ').next()?.parse().ok()
}

fn eu_stack(pid: u32) -> Result<f64> {
    let before = Instant::now();
    // Its status is 1 where some stack ends before its root.
    let output = Command::new("eu-stack").args(["-p", &pid.to_string()]).output()?;
    ensure!(output.stdout.starts_with(b"PID "), "eu-stack: {}", String::from_utf8_lossy(&output.stderr));
    Ok(before.elapsed().as_secs_f64() * 1e3)
}

fn gdb(pid: u32) -> Result<f64> {
    let before = Instant::now();
    let output = Command::new("gdb").args(["-nx", "-batch", "-p", &pid.to_string(), "-ex", "thread apply all bt"]).output()?;
    ensure!(output.status.success(), "gdb failed");
    Ok(before.elapsed().as_secs_f64() * 1e3)
}

/// The longest gap in two seconds with something in them. The target tells it once a second, and forgets it then.
fn gap(target: &mut Subject, what: impl Fn(u32) -> Result<()>) -> Result<String> {
    target.wait_for_line("gap ")?;
    let before = Instant::now();
    what(target.pid())?;
    let (mut longest, mut lines) = (0.0f64, 0);
    // What was told while nobody read comes first.
    while lines < 4 || before.elapsed() < Duration::from_secs(2) {
        lines += 1;
        let line = target.wait_for_line("gap ")?;
        longest = longest.max(line.trim_start_matches("gap ").parse()?);
    }
    Ok(format!("{longest:.1} ms"))
}
