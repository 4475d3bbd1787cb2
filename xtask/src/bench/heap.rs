//! P8 and P9: what an allocation costs a program that is recorded, every one of them and at the default interval; against a script of bpftrace, and against
//! the traps alone, which nothing that probes functions can go below. And what the figures are worth, and whether others are left alone.

mod peer;
mod subject;

use super::Row;
use anyhow::{Context as _, Result, ensure};
use peer::{Watched, Watching};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Outcome, Profiler};
use subject::{Round, Subject, Took};

/// Frames of the subject's own below `main`: with those of the C library, `main` and malloc itself the stack is 10 deep.
const DEPTH: &str = "3";
/// Turns in which each is measured once; the least of each counts.
const TURNS: usize = 4;
/// Rounds of a turn.
const ROUNDS: usize = 5;
/// Every allocation: pairs of 64 bytes.
const EVERY: Round = Round { calls: 20_000, sizes: (64, 64), work_ns: 0 };
/// Sampled: blocks as programs ask for them, so that a sample comes every hundred of them.
const SIZES: (u64, u64) = (256, 8 << 10);
/// Calls for 20,000 samples at the default interval of 512 KiB, and some more.
const CALLS: u64 = 2_700_000;
const SAMPLES_MIN: i64 = 20_000;
/// Goals: a share of bpftrace's time; ns above the traps; a share of the traps' time; shares of the truth.
const OF_BPFTRACE_MAX: f64 = 0.4;
const ABOVE_FLOOR_MAX: f64 = 1_200.0;
const OF_FLOOR_MAX: f64 = 1.15;
const IN_USE_ERROR_MAX: f64 = 0.01;
const ALLOCATED_ERROR_MAX: f64 = 0.05;
/// What a round of `blocks` leaves: objects, bytes.
const BLOCKS_LEFT: (f64, f64) = (1_450.0, 2_004_800.0);
/// Columns of a heap profile.
const ALLOC_SPACE: usize = 1;
const INUSE_OBJECTS: usize = 2;
const INUSE_SPACE: usize = 3;

/// All of it.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut rows = every()?;
    rows.extend(in_use()?);
    for work_ns in [0, 1_000, 10_000] {
        rows.extend(sampled(work_ns)?);
    }
    rows.extend(left_alone()?);
    Ok(rows)
}

/// Least times of a pair, ns.
struct Pairs {
    alone: f64,
    /// Traps at entries; at entries and returns.
    floor: f64,
    floor_returns: f64,
    ours: f64,
    bpftrace: f64,
    bpftrace_malloc: f64,
}

impl Default for Pairs {
    fn default() -> Self {
        let never = f64::INFINITY;
        Self { alone: never, floor: never, floor_returns: never, ours: never, bpftrace: never, bpftrace_malloc: never }
    }
}

/// Every allocation, in use.
fn every() -> Result<Vec<Row>> {
    let all = ["--sample-bytes", "1"];
    let mut least = Pairs::default();
    for _ in 0..TURNS {
        let mut mal = Subject::start("mal", &[DEPTH])?;
        least.alone = least.alone.min(mal.rounds(EVERY, ROUNDS)?.ns);
        least.floor = least.floor.min(recorded(&mut mal, &[&all[..], &["--probes-only", "entries"]].concat(), EVERY)?.0.ns);
        least.floor_returns = least.floor_returns.min(recorded(&mut mal, &[&all[..], &["--probes-only", "returns"]].concat(), EVERY)?.0.ns);
        least.ours = least.ours.min(recorded(&mut mal, &all, EVERY)?.0.ns);
        if peer::program().is_some() {
            let watching = Watching::start(&mal, Watched::Both)?;
            least.bpftrace = least.bpftrace.min(mal.rounds(EVERY, ROUNDS)?.ns);
            drop(watching);
            let _watching = Watching::start(&mal, Watched::Malloc)?;
            least.bpftrace_malloc = least.bpftrace_malloc.min(mal.rounds(EVERY, ROUNDS)?.ns);
        }
    }
    let mut mal = Subject::start("mal", &[DEPTH])?;
    let (_, outcome) = recorded(&mut mal, &["--sample-bytes", "1", "--self-cost"], EVERY)?;
    let mut rows = every_rows(&least);
    rows.extend(programs(&outcome).into_iter().map(|line| Row::beside("every allocation: a program of ours", line)));
    Ok(rows)
}

fn every_rows(least: &Pairs) -> Vec<Row> {
    let Pairs { alone, floor, floor_returns, ours, bpftrace, bpftrace_malloc } = *least;
    let (added, above) = (ours - alone, ours - floor_returns);
    let at = "every allocation, malloc(64) and free, depth 10";
    let mut rows = vec![
        Row::beside(format!("{at}: alone; traps at entries; and at returns; ours"), {
            format!("{alone:.0}; {floor:.0}; {floor_returns:.0}; {ours:.0} ns")
        }),
        Row::goal(
            format!("{at}: ours above the traps at entries and returns"),
            format!("{above:.0} ns ({:.0} above those at entries alone)", ours - floor),
            format!("<= {ABOVE_FLOOR_MAX:.0} ns"),
            above <= ABOVE_FLOOR_MAX,
        ),
    ];
    if bpftrace.is_finite() {
        let theirs = bpftrace - alone;
        rows.push(Row::goal(
            format!("{at}: what ours adds / what bpftrace adds"),
            format!("{:.3} ({added:.0} / {theirs:.0} ns)", added / theirs),
            format!("<= {OF_BPFTRACE_MAX}"),
            added <= OF_BPFTRACE_MAX * theirs,
        ));
        let theirs = bpftrace_malloc - alone;
        rows.push(Row::beside(
            format!("{at}: what all of ours adds / what bpftrace adds without its probe of free"),
            format!("{:.3} ({added:.0} / {theirs:.0} ns)", added / theirs),
        ));
    } else {
        rows.push(Row::missing("bpftrace", "apt-get install bpftrace"));
    }
    rows
}

/// Records the subject while it makes a turn's rounds, after one that warms up, and gives the least of them.
fn recorded(mal: &mut Subject, args: &[&str], round: Round) -> Result<(Took, Outcome)> {
    let mut running = recorder(mal, args)?.start()?;
    running.wait_until_recording()?;
    let took = mal.rounds(round, ROUNDS + 1)?;
    let outcome = running.interrupt()?.success()?;
    Ok((took, outcome))
}

fn recorder(subject: &Subject, args: &[&str]) -> Result<Profiler> {
    Ok(Profiler::record()?.args(["-e", "heap", "-o", "out.prof"]).args(args).pid(subject.pid()))
}

/// The lines of `--self-cost` that are about programs of probes.
fn programs(outcome: &Outcome) -> Vec<String> {
    outcome.stderr.lines().filter_map(|line| line.strip_prefix("program heap_")).map(|line| format!("heap_{line}")).collect()
}

fn profile(outcome: &Outcome) -> Result<Profile> {
    Profile::read(&outcome.folder.join("out.prof")).with_context(|| outcome.stderr.clone())
}

/// What lives, of a known pattern.
fn in_use() -> Result<Vec<Row>> {
    let mut blocks = Subject::start("blocks", &[])?;
    let mut running = recorder(&blocks, &["--sample-bytes", "1"])?.start()?;
    running.wait_until_recording()?;
    blocks.ask("round")?;
    let profile = profile(&running.interrupt()?.success()?)?;
    let (objects, bytes) = (profile.total(INUSE_OBJECTS) as f64, profile.total(INUSE_SPACE) as f64);
    let error = (bytes / BLOCKS_LEFT.1 - 1.0).abs().max((objects / BLOCKS_LEFT.0 - 1.0).abs());
    Ok(vec![Row::goal(
        "every allocation: in use, of a known pattern",
        format!("{objects} of {} objects, {bytes} of {} bytes", BLOCKS_LEFT.0, BLOCKS_LEFT.1),
        "<= 1 % off",
        error <= IN_USE_ERROR_MAX,
    )])
}

/// The default interval, with so much work after each allocation.
fn sampled(work_ns: u64) -> Result<Vec<Row>> {
    let round = Round { calls: 200_000_000 / (work_ns + 2_000), sizes: SIZES, work_ns };
    let (mut alone, mut floor, mut ours) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for _ in 0..TURNS {
        let mut mal = Subject::start("mal", &[DEPTH])?;
        alone = alone.min(mal.rounds(round, ROUNDS)?.ns);
        floor = floor.min(recorded(&mut mal, &["--probes-only", "entries"], round)?.0.ns);
        ours = ours.min(recorded(&mut mal, &[], round)?.0.ns);
    }
    let at = format!("default interval, {} us of work", work_ns / 1_000);
    let mut rows = vec![
        Row::goal(
            format!("{at}: a pair / a pair with the traps at entries alone"),
            format!("{:.3} ({ours:.0} / {floor:.0} ns)", ours / floor),
            format!("<= {OF_FLOOR_MAX}"),
            ours <= OF_FLOOR_MAX * floor,
        ),
        Row::beside(
            format!("{at}: what ours adds / what the traps add"),
            format!("{:.3} ({:.0} / {:.0} ns, alone {alone:.0} ns)", (ours - alone) / (floor - alone), ours - alone, floor - alone),
        ),
    ];
    if work_ns > 0 {
        rows.push(truth(&at, Round { calls: CALLS, ..round })?);
    }
    Ok(rows)
}

/// What was allocated, by the profile and by the program itself.
fn truth(at: &str, round: Round) -> Result<Row> {
    let mut mal = Subject::start("mal", &[DEPTH])?;
    let mut running = recorder(&mal, &["--self-cost"])?.start()?;
    running.wait_until_recording()?;
    let took = mal.round(round)?;
    let outcome = running.interrupt()?.success()?;
    let (allocated, profile) = (took.bytes, profile(&outcome)?);
    let samples = profile.balance()?.samples;
    ensure!(samples >= SAMPLES_MIN, "only {samples} samples were taken");
    let off = profile.total(ALLOC_SPACE) as f64 / allocated - 1.0;
    Ok(Row::goal(
        format!("{at}: alloc_space against the program's own count, {samples} samples"),
        format!("{:+.2} %", 100.0 * off),
        "<= 5 % off",
        off.abs() <= ALLOCATED_ERROR_MAX,
    ))
}

/// A process that was never chosen: its text, and its mappings.
fn left_alone() -> Result<Vec<Row>> {
    let (mut chosen, mut other) = (Subject::start("mal", &[DEPTH])?, Subject::start("mal", &[DEPTH])?);
    let before = (chosen.code()?, other.code()?);
    let mut running = recorder(&chosen, &["--sample-bytes", "1"])?.start()?;
    running.wait_until_recording()?;
    chosen.round(EVERY)?;
    other.round(EVERY)?;
    let during = (chosen.code()?, other.code()?);
    let pages = (chosen.has_probe_page()?, other.has_probe_page()?);
    running.interrupt()?.success()?;
    // That the bytes are the right ones shows in the process that was chosen.
    ensure!(during.0.iter().zip(&before.0).all(|(now, then)| now != then), "malloc or free of the chosen process has no breakpoint");
    let is_alone = during.1 == before.1 && !pages.1;
    Ok(vec![
        Row::goal(
            "a process that was never chosen: bytes of malloc and free, [uprobes]",
            format!("{}, {}", if during.1 == before.1 { "unchanged" } else { "CHANGED" }, if pages.1 { "MAPPED" } else { "none" }),
            "unchanged, none",
            is_alone,
        ),
        Row::beside("the chosen one: bytes of malloc and free, [uprobes]", format!("changed, {}", if pages.0 { "mapped" } else { "none" })),
        Row::beside("the chosen one, afterwards", if chosen.code()? == before.0 { "as before" } else { "STILL CHANGED" }),
    ])
}
