//! P10 and P11: what a hand-off of a lock costs two threads whose waits are recorded, on one CPU and on two, against a script of bpftrace that follows
//! futex(2) with stacks and against libbpf-tools' offcputime; and what those pay that nobody records: context switches, system calls.
//!
//! All of it in turns of one run; the least of each counts. What is measured is CPU time of the threads. On two CPUs a hand-off wakes an idle one, which takes
//! far longer than all else, and how long differs more than what is looked for; so there the goals are about what the programs take, by the kernel's statistics
//! of them (what the kernel does around a program is missing then, with us and with the peers).

mod peer;
mod subject;

use super::Row;
use anyhow::{Context as _, Result, ensure};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use peer::Peer;
use profiler_tests::profile::Profile;
use profiler_tests::run::{Outcome, Profiler};
use std::collections::HashSet;
use std::fs;
use subject::Handoffs;

/// Turns in which each is measured once.
const TURNS: usize = 5;
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
/// What is recorded, and whether it is what the goals are about: who waits and who ends it.
const OURS: [(&str, bool); 4] = [("block,mutex", true), ("block", false), ("mutex", false), ("off-cpu", false)];

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
    let mut alone = f64::INFINITY;
    let (mut ours, mut theirs) = ([f64::INFINITY; OURS.len()], [f64::INFINITY; Peer::ALL.len()]);
    let is_loud = cpus > 1;
    let mut counted = String::new();
    for _ in 0..TURNS {
        let mut handoffs = Handoffs::start(cpus)?;
        alone = alone.min(handoffs.took("lock", count)?);
        for (least, (kinds, _)) in ours.iter_mut().zip(OURS) {
            let (took, outcome) = recorded(&mut handoffs, &["-e", kinds], "lock", count)?;
            *least = least.min(took);
            if kinds == "block,mutex" {
                counted = taken(&outcome);
            }
        }
        for (least, peer) in theirs.iter_mut().zip(Peer::ALL).filter(|(_, peer)| peer.is_here()) {
            let watching = peer.watch(handoffs.pid())?;
            handoffs.took("lock", count / 10)?;
            *least = least.min(handoffs.took("lock", count)?);
            drop(watching);
        }
    }
    let mut rows = vec![Row::beside(format!("{at}: alone"), format!("{alone:.0} ns"))];
    for ((kinds, is_goal), took) in OURS.into_iter().zip(ours) {
        let added = took - alone;
        rows.push(Row::beside(format!("{at}: what -e {kinds} adds"), format!("{added:.0} ns")));
        for (peer, took) in Peer::ALL.into_iter().zip(theirs) {
            let (theirs, most) = (took - alone, peer.share_max());
            let ratio = added / theirs;
            let what = format!("{at}: what -e {kinds} adds / what {} adds", peer.name());
            let figure = format!("{ratio:.3} ({added:.0} / {theirs:.0} ns)");
            rows.push(match (is_goal && !is_loud, peer.is_here()) {
                (_, false) => Row::missing(peer.name(), "apt-get install bpftrace libbpf-tools"),
                // A peer that seems to cost nothing was lost in the noise, and proves nothing.
                (true, true) => Row::goal(what, figure, format!("<= {most}"), theirs > 0.0 && ratio <= most),
                (false, true) => Row::beside(what, figure),
            });
        }
    }
    rows.push(Row::beside(format!("{at}: waits of the last round of {count} and the one before"), counted));
    if is_loud {
        rows.extend(in_programs(&at, cpus, count)?);
    }
    let mut handoffs = Handoffs::start(cpus)?;
    let (_, outcome) = recorded(&mut handoffs, &["-e", "block,mutex", "--self-cost"], "lock", count)?;
    rows.extend(programs(&outcome).into_iter().map(|line| Row::beside(format!("{at}: a program of ours"), line)));
    Ok(rows)
}

/// What the programs take of a hand-off, ours and the peers'.
fn in_programs(at: &str, cpus: u32, count: u64) -> Result<Vec<Row>> {
    let _statistics = enable_stats(Stats::RunTime).context("turning the statistics of programs on")?;
    let (mut ours, mut theirs) = (f64::INFINITY, [f64::INFINITY; Peer::ALL.len()]);
    for _ in 0..TURNS {
        let mut handoffs = Handoffs::start(cpus)?;
        let before = Programs::that_are_loaded();
        let mut running = Profiler::record()?.args(["-e", "block,mutex"]).pid(handoffs.pid()).start()?;
        running.wait_until_recording()?;
        ours = ours.min(before.took(&mut handoffs, count)?);
        running.interrupt()?.success()?;
        for (least, peer) in theirs.iter_mut().zip(Peer::ALL).filter(|(_, peer)| peer.is_here()) {
            let before = Programs::that_are_loaded();
            let watching = peer.watch(handoffs.pid())?;
            *least = least.min(before.took(&mut handoffs, count)?);
            drop(watching);
        }
    }
    let here = Peer::ALL.into_iter().zip(theirs).filter(|(peer, _)| peer.is_here());
    let rows = here.map(|(peer, theirs)| {
        let (what, most) = (format!("{at}: time in programs of -e block,mutex / in those of {}", peer.name()), peer.share_max());
        let figure = format!("{:.3} ({ours:.0} / {theirs:.0} ns)", ours / theirs);
        Row::goal(what, figure, format!("<= {most}"), theirs > 0.0 && ours <= most * theirs)
    });
    Ok(rows.collect())
}

/// The programs that are loaded before others are: those are another's.
struct Programs(HashSet<u32>);

impl Programs {
    fn that_are_loaded() -> Self {
        Self(loaded_programs().flatten().map(|info| info.id()).collect())
    }

    /// Nanoseconds that others have taken so far.
    fn others_ns(&self) -> f64 {
        let others = loaded_programs().flatten().filter(|info| !self.0.contains(&info.id()));
        others.map(|info| info.run_time().as_nanos() as f64).sum()
    }

    /// Nanoseconds that they take of a hand-off.
    fn took(&self, handoffs: &mut Handoffs, count: u64) -> Result<f64> {
        handoffs.took("lock", count / 10)?;
        let before = self.others_ns();
        handoffs.took("lock", count)?;
        Ok((self.others_ns() - before) / count as f64)
    }
}

/// Records the subject while it makes a round, after a short one that warms up.
fn recorded(handoffs: &mut Handoffs, args: &[&str], kind: &str, count: u64) -> Result<(f64, Outcome)> {
    let mut running = Profiler::record()?.args(args).pid(handoffs.pid()).start()?;
    running.wait_until_recording()?;
    handoffs.took(kind, count / 10)?;
    let took = handoffs.took(kind, count)?;
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
    let mut subject = subject::Told::start("locks", "mutex")?;
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
