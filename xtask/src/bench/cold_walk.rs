//! P1 on a cold mix: what a frame costs where a cache of return addresses alone does not help.
//!
//! ```text
//!   ns a frame = (ns a sample on the mix - ns a sample of the hot stack of depth 1) / (frames a sample on the mix - frames of that stack)
//! ```
//!
//! A sample's ns are all runs of our program times what each takes, divided by the samples of the profile; its frames are those of the kernel and of the
//! user part. So what the kernel's own walk of its stacks costs, the copies of stacks that are sent for the first time, and runs that end in no sample all
//! count, and the hot stack takes away only what any sample costs.

use super::Row;
use super::lightswitch;
use super::median;
use super::program_cost::{OurRun, our_run};
use super::whole_cost::{COMPILES, GO_BUILDS, LOCATIONS_MIN, MAPPINGS_MIN, Mix};
use anyhow::{Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::online_cpus;
use profiler_tests::subject::{Build, Subject, build};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Rounds; the median counts.
const ROUNDS: usize = 3;
/// What one round records, seconds.
const SECONDS: u32 = 20;
const FREQUENCY_HZ: u32 = 997;
/// Goal, ns.
const FRAME_NS_MAX: f64 = 60.0;

/// The share of a load's samples below which something else ran beside it, whose stacks were walked as well.
pub(super) const QUIET: f64 = 0.97;

/// The share of the hot load in what was recorded.
pub(super) fn load_share(profile: &Profile) -> f64 {
    profile.labelled("comm", "deep").total(0) as f64 / profile.taken().total(0).max(1) as f64
}

/// What a load is like.
pub(super) struct Width {
    /// Samples of processes.
    pub(super) samples: f64,
    /// Their frames, all together.
    pub(super) frames: f64,
    /// Distinct stacks.
    pub(super) stacks: usize,
    /// Distinct addresses on them.
    pub(super) addresses: usize,
    /// Distinct mappings of those.
    pub(super) mappings: usize,
}

impl Width {
    /// Of a recording.
    pub(super) fn of(profile: &Profile) -> Self {
        let taken = profile.taken();
        let stacks: HashSet<&[usize]> = taken.samples.iter().map(|sample| sample.locations.as_slice()).collect();
        let addresses: HashSet<usize> = stacks.iter().flat_map(|stack| stack.iter().copied()).collect();
        let mappings: HashSet<usize> = addresses.iter().filter_map(|at| profile.locations[*at].mapping).collect();
        Self {
            samples: taken.total(0) as f64,
            frames: taken.samples.iter().map(|sample| sample.values[0] as f64 * sample.locations.len() as f64).sum(),
            stacks: stacks.len(),
            addresses: addresses.len(),
            mappings: mappings.len(),
        }
    }

    fn frames_a_sample(&self) -> f64 {
        self.frames / self.samples
    }
}

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let (hot, hot_width) = hot()?;
    let mix = Mix::start(&[GO_BUILDS, COMPILES])?;
    let mut rows = Vec::new();
    let (mut each, mut samples, mut frames, mut rooted, mut theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut stacks, mut addresses, mut mappings) = (usize::MAX, usize::MAX, usize::MAX);
    for _ in 0..ROUNDS {
        let run = our_run(FREQUENCY_HZ, SECONDS)?;
        let width = Width::of(&run.profile);
        let cold = a_sample(&run, &width);
        each.push((cold - hot) / (width.frames_a_sample() - hot_width.frames_a_sample()));
        samples.push(cold);
        frames.push(width.frames_a_sample());
        rooted.push(run.profile.rooted()?);
        (stacks, addresses, mappings) = (stacks.min(width.stacks), addresses.min(width.addresses), mappings.min(width.mappings));
        if let Some(peer) = lightswitch::program() {
            theirs.push(lightswitch::cost(&peer, FREQUENCY_HZ, Duration::from_secs(SECONDS.into()))?.ns);
        }
    }
    drop(mix);
    let each = median(&mut each);
    rows.push(Row::goal("cold mix: ns a frame", format!("{each:.0}"), format!("<= {FRAME_NS_MAX}"), each <= FRAME_NS_MAX));
    let (cold, frames, rooted) = (median(&mut samples), median(&mut frames), median(&mut rooted));
    let how = format!("{cold:.0} ns at {frames:.1} frames, {hot:.0} ns at {:.1}", hot_width.frames_a_sample());
    rows.push(Row::beside("cold mix: a sample, and one of the hot stack of depth 1", how));
    rows.push(Row::beside("cold mix: user stacks that reached the root", format!("{:.2} %", 100.0 * rooted)));
    rows.push(Row::beside(
        "a line of memory that is in no cache, which a return address that was never met needs once at least",
        format!("{:.0} ns", memory_line_ns()),
    ));
    if !theirs.is_empty() {
        let theirs = median(&mut theirs);
        rows.push(Row::beside("cold mix: a sample, ours / lightswitch", format!("{:.2} ({cold:.0} / {theirs:.0} ns)", cold / theirs)));
    }
    rows.push(Row::beside("cold mix: distinct stacks", stacks.to_string()));
    rows.push(Row::goal("cold mix: distinct addresses", addresses.to_string(), format!(">= {LOCATIONS_MIN}"), addresses >= LOCATIONS_MIN));
    rows.push(Row::goal("cold mix: mappings", mappings.to_string(), format!(">= {MAPPINGS_MIN}"), mappings >= MAPPINGS_MIN));
    Ok(rows)
}

/// What a first look at a line of memory takes: of 64 MiB, each line once, in no order, and where the next one is stands in the one before. The least of some rounds.
fn memory_line_ns() -> f64 {
    const WORDS_A_LINE: usize = 16;
    const LINES: usize = 1 << 20;
    // A full period: the multiplier is 1 more than a multiple of 4, the increment odd (Hull and Dobell, 1962).
    let next = |line: usize| line.wrapping_mul(747_796_405).wrapping_add(2_891_336_453) % LINES;
    let mut words = vec![0u32; LINES * WORDS_A_LINE];
    for line in 0..LINES {
        words[line * WORDS_A_LINE] = (next(line) * WORDS_A_LINE) as u32;
    }
    let round = || {
        let began = Instant::now();
        let end = (0..LINES).fold(0usize, |at, _| words[at] as usize);
        std::hint::black_box(end);
        began.elapsed().as_nanos() as f64 / LINES as f64
    };
    (0..3).map(|_| round()).fold(f64::INFINITY, f64::min)
}

/// A sample of the hot stack of depth 1, and how wide that load is.
fn hot() -> Result<(f64, Width)> {
    let deep = build("deep", Build::CBare)?;
    let _load = (0..online_cpus()).map(|_| Subject::start(&deep, ["1"])).collect::<Result<Vec<_>>>()?;
    let mut runs = Vec::new();
    for _ in 0..4 * ROUNDS {
        let run = our_run(FREQUENCY_HZ, 4)?;
        if runs.len() < ROUNDS && load_share(&run.profile) >= QUIET {
            runs.push(run);
        }
    }
    ensure!(!runs.is_empty(), "something else runs all the time: the hot stack cannot be measured");
    runs.sort_by(|one, other| one.ns.total_cmp(&other.ns));
    let run = runs.swap_remove(runs.len() / 2);
    let width = Width::of(&run.profile);
    Ok((a_sample(&run, &width), width))
}

/// Nanoseconds a sample, runs without one included.
fn a_sample(run: &OurRun, width: &Width) -> f64 {
    run.ns * run.runs / width.samples
}
