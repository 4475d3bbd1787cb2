//! P10 and P11: what a hand-off of a lock costs two threads whose waits are recorded, on one CPU and on two, against a script of bpftrace that follows
//! futex(2) with stacks and against libbpf-tools' offcputime; and what those pay that nobody records: context switches, system calls.
//!
//! All of it in turns of one run. What is measured is CPU time of the threads, on two CPUs what is taken of both, by what is left of them (`handoffs.c`); and what
//! recording adds to it is taken at once before, from the same two threads: how they lie in caches differs more between processes than what is looked for. On two CPUs a
//! hand-off wakes a thread on a CPU that has nothing else to do, and leaving a halt takes far longer than all else (on a virtual machine tens of microseconds, each time
//! others); so both are kept from halting there. What a program does when a thread leaves such a CPU is charged to nobody's CPU time, which made the peer look four times
//! as cheap there as on one CPU.

mod peer;
mod subject;

use super::{Row, median};
use anyhow::{Context as _, Result, ensure};
use peer::Peer;
use profiler_tests::profile::Profile;
use profiler_tests::run::{Outcome, Profiler};
use std::fs;
use subject::Handoffs;

/// Turns in which each is measured, the least of its rounds.
const TURNS: usize = 7;
const ROUNDS: usize = 3;
/// Hand-offs of a round, on one CPU and on two.
const COUNTS: [(u32, u64); 2] = [(1, 200_000), (2, 20_000)];
/// Calls of getppid(2) of a round.
const CALLS: u64 = 2_000_000;
/// Goals: shares of what the peers add; of a context switch of a process that is not recorded.
const OF_BPFTRACE_MAX: f64 = 0.45;
const OF_OFFCPUTIME_MAX: f64 = 0.3;
const SWITCH_MAX: f64 = 1.15;
/// Every kind of waits.
const ALL: &str = "off-cpu,block,mutex,threadcreate";
/// What is recorded, and beside which peer it is put for the goals: what follows who waits for whom, and what takes every sleep.
const OURS: [(&str, Option<Peer>); 4] =
    [("block,mutex", Some(Peer::Bpftrace)), ("off-cpu", Some(Peer::Offcputime)), ("block", None), ("mutex", None)];

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (cpus, count) in COUNTS {
        rows.extend(handed_over(cpus, count)?);
    }
    rows.extend(truth()?);
    rows.extend(others()?);
    Ok(rows)
}

/// Hand-offs of a lock.
fn handed_over(cpus: u32, count: u64) -> Result<Vec<Row>> {
    let at = format!("hand-off on {cpus} CPU{}", if cpus == 1 { "" } else { "s" });
    let (mut alone, mut ours, mut theirs) = (Vec::new(), [const { Vec::new() }; OURS.len()], [const { Vec::new() }; Peer::ALL.len()]);
    let mut counted = String::new();
    for _ in 0..TURNS {
        let mut handoffs = Handoffs::start_among(cpus)?;
        alone.push(least(&mut handoffs, count)?);
        for (added, (kinds, _)) in ours.iter_mut().zip(OURS) {
            let took = least(&mut handoffs, count)?;
            let (with, outcome) = recorded(&mut handoffs, &["-e", kinds], count)?;
            added.push(with - took);
            if kinds == OURS[0].0 {
                counted = taken(&outcome);
            }
        }
        for (added, peer) in theirs.iter_mut().zip(Peer::ALL).filter(|(_, peer)| peer.is_here()) {
            let took = least(&mut handoffs, count)?;
            let watching = peer.watch(handoffs.pid())?;
            handoffs.took("lock", count / 10)?;
            added.push(least(&mut handoffs, count)? - took);
            drop(watching);
        }
    }
    let mut rows = vec![Row::beside(format!("{at}: alone"), format!("{:.0} ns", median(&mut alone)))];
    let theirs: Vec<(Peer, f64)> =
        Peer::ALL.into_iter().zip(theirs.each_mut().map(|added| if added.is_empty() { f64::NAN } else { median(added) })).collect();
    for ((kinds, beside), mut added) in OURS.into_iter().zip(ours) {
        let added = median(&mut added);
        rows.extend(theirs.iter().map(|(peer, theirs)| compared(&at, (kinds, added), (*peer, *theirs), beside == Some(*peer))));
    }
    rows.push(Row::beside(format!("{at}: waits of the last {ROUNDS} rounds of {count} and the one before"), counted));
    let mut handoffs = Handoffs::start_among(cpus)?;
    let (_, outcome) = recorded(&mut handoffs, &["-e", "block,mutex", "--self-cost"], count)?;
    rows.extend(programs(&outcome).into_iter().map(|line| Row::beside(format!("{at}: a program of ours"), line)));
    Ok(rows)
}

/// What ours adds to a hand-off beside what a peer adds.
fn compared(at: &str, (kinds, ours): (&str, f64), (peer, theirs): (Peer, f64), is_goal: bool) -> Row {
    let (ratio, most) = (ours / theirs, peer.share_max());
    let what = format!("{at}: what -e {kinds} adds / what {} adds", peer.name());
    let figure = format!("{ratio:.3} ({ours:.0} / {theirs:.0} ns)");
    match (is_goal, peer.is_here()) {
        (_, false) => Row::missing(peer.name(), "apt-get install bpftrace libbpf-tools"),
        // A peer that seems to cost nothing was lost in the noise, and proves nothing.
        (true, true) => Row::goal(what, figure, format!("<= {most}"), theirs > 0.0 && ratio <= most),
        (false, true) => Row::beside(what, figure),
    }
}

/// Nanoseconds of a hand-off: the least of some rounds.
fn least(handoffs: &mut Handoffs, count: u64) -> Result<f64> {
    (0..ROUNDS).try_fold(f64::INFINITY, |least, _| Ok(least.min(handoffs.took("lock", count)?)))
}

/// Records the subject while it hands over, after a short round that warms up.
fn recorded(handoffs: &mut Handoffs, args: &[&str], count: u64) -> Result<(f64, Outcome)> {
    // The loops are its children, and none of it.
    let mut running = Profiler::record()?.args(args).args(["--no-inherit"]).pid(handoffs.pid()).start()?;
    running.wait_until_recording()?;
    handoffs.took("lock", count / 10)?;
    let took = least(handoffs, count)?;
    Ok((took, running.interrupt()?.success()?))
}

/// What it says of what it has counted: waits, and stacks that were walked.
fn taken(outcome: &Outcome) -> String {
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(" taken in ")).collect();
    lines.join("; ")
}

/// The lines of `--self-cost` that are about programs of the scheduler.
fn programs(outcome: &Outcome) -> Vec<String> {
    outcome.stderr.lines().filter_map(|line| line.strip_prefix("program thread_")).map(|line| format!("thread_{line}")).collect()
}

/// What is waited of long waits, by the profile and by the program itself.
fn truth() -> Result<Vec<Row>> {
    let mut subject = subject::Told::start("locks", &["mutex"])?;
    let mut running = Profiler::record()?.args(["-e", "block,mutex"]).pid(subject.pid()).start()?;
    running.wait_until_recording()?;
    let truth: f64 = subject.ask("go", "waited ")?;
    let outcome = running.interrupt()?.success()?;
    let mut rows = Vec::new();
    for kind in ["block", "mutex"] {
        let profile = Profile::read(&outcome.folder.join(format!("{kind}.prof"))).with_context(|| outcome.stderr.clone())?;
        // The program's own measure is that of the lock alone.
        let locks =
            profile.only(|sample| profile.names(sample).iter().any(|name| name.contains("pthread_mutex_") || name.contains("lll_lock")));
        let off = locks.total(1) as f64 / truth - 1.0;
        rows.push(Row::goal(
            format!("waits of 2 ms and more, {kind} / what the program measured"),
            format!("{:+.2} %", 100.0 * off),
            "<= 2 % off",
            off.abs() <= 0.02,
        ));
    }
    Ok(rows)
}

/// Processes that are not recorded.
fn others() -> Result<Vec<Row>> {
    let (target, mut other) = (Handoffs::start(2)?, Handoffs::start(1)?);
    let chosen = target.pid().to_string();
    let (mut switch, mut switch_armed) = (f64::INFINITY, f64::INFINITY);
    let (mut call, mut call_armed) = (f64::INFINITY, f64::INFINITY);
    let mut links = Vec::new();
    for _ in 0..TURNS {
        switch = switch.min(other.took("pipe", COUNTS[0].1)?);
        call = call.min(other.took("getppid", CALLS)?);
        let mut running = Profiler::record()?.args(["-e", ALL, "-p", &chosen]).start()?;
        running.wait_until_recording()?;
        switch_armed = switch_armed.min(other.took("pipe", COUNTS[0].1)?);
        running.interrupt()?.success()?;
        let mut running = Profiler::record()?.args(["-e", ALL, "-a"]).start()?;
        running.wait_until_recording()?;
        call_armed = call_armed.min(other.took("getppid", CALLS)?);
        links = attached(running.pid())?;
        running.interrupt()?.success()?;
    }
    let ratio = switch_armed / switch;
    let is_any = links.iter().any(|link| link.contains("sys_"));
    Ok(vec![
        Row::goal(
            "a switch between two threads through a pipe, another process recorded / nothing recorded",
            format!("{ratio:.3} ({switch_armed:.0} / {switch:.0} ns)"),
            format!("<= {SWITCH_MAX}"),
            ratio <= SWITCH_MAX,
        ),
        Row::beside(
            "getppid, everything recorded / nothing recorded",
            format!("{:.3} ({call_armed:.1} / {call:.1} ns)", call_armed / call),
        ),
        Row::goal("links and perf events with everything recorded", links.join(", "), "none of system calls", !is_any),
    ])
}

/// What a recording is attached to: its links by their tracepoints, and how many perf events it has.
fn attached(pid: u32) -> Result<Vec<String>> {
    let (mut links, mut events) = (Vec::new(), 0);
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        events += usize::from(target.to_string_lossy().contains("perf_event"));
        let about = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", entry.file_name().to_string_lossy())).unwrap_or_default();
        let of = |key: &str| about.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned());
        if let Some(kind) = of("link_type:") {
            links.push(of("tp_name:").unwrap_or(kind));
        }
    }
    ensure!(!links.is_empty(), "no links of {pid} are to be seen");
    links.sort();
    links.push(format!("{events} perf events"));
    Ok(links)
}
