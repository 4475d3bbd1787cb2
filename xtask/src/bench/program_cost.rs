//! P2: what a sample takes from the target, beyond the interrupt itself: the time of our own program, by the kernel's statistics of programs.
//!
//! The floor is the same interrupt with an empty program, measured in the same run under the same load: it holds what calling a program and the
//! statistics themselves cost, so what we add is our program's time less that.

use super::Row;
use super::small_program::{self, Small};
use anyhow::{Context, Result};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Profiler, online_cpus};
use profiler_tests::subject::{Build, Subject, build};
use std::time::Duration;

/// Depths that are measured, and what we may add to the floor at them, ns; None where the figure stands beside the others.
const DEPTHS: [(u32, Option<f64>); 3] = [(1, None), (10, Some(1500.0)), (50, None)];
/// How long each is measured, seconds.
const SECONDS: u32 = 5;

/// Hz: what runs for ever, what is recorded for a while, and what finds our program still in the caches.
const FREQUENCIES: [u32; 3] = [99, 997, 10_000];

/// Measures all depths at all frequencies, every CPU busy.
pub(super) fn run() -> Result<Vec<Row>> {
    let deep = build("deep", Build::C)?;
    let mut rows = Vec::new();
    for frequency in FREQUENCIES {
        for (depth, goal) in DEPTHS {
            let _load = (0..online_cpus()).map(|_| Subject::start(&deep, [depth.to_string()])).collect::<Result<Vec<_>>>()?;
            let floor = small_program::cost(Small::Empty, frequency, Duration::from_secs(SECONDS.into()))?;
            let ours = our_cost(frequency)?;
            let at = format!("{frequency} Hz, depth {depth} with frame pointers");
            rows.push(Row::beside(format!("{at}: an empty program, ours"), format!("{floor:.0} ns, {ours:.0} ns")));
            let (what, added) = (format!("{at}: what we add to a sample"), ours - floor);
            let figure = format!("{added:.0} ns");
            rows.push(match goal {
                Some(most) => Row::goal(what, figure, format!("<= {most:.0} ns"), added <= most),
                None => Row::beside(what, figure),
            });
        }
    }
    Ok(rows)
}

/// Nanoseconds that a run of our program takes.
fn our_cost(frequency_hz: u32) -> Result<f64> {
    Ok(our_run(frequency_hz, SECONDS)?.ns)
}

/// What a recording of everything showed.
pub(super) struct OurRun {
    /// How often our program ran, whatever it found.
    pub(super) runs: f64,
    /// Nanoseconds a run.
    pub(super) ns: f64,
    /// What it recorded.
    pub(super) profile: Profile,
}

/// Records everything for so long.
///
/// # Errors
/// It fails, or does not say what its program cost.
pub(super) fn our_run(frequency_hz: u32, seconds: u32) -> Result<OurRun> {
    let args = ["-a", "-F", &frequency_hz.to_string(), "-d", &seconds.to_string(), "--self-cost"];
    let recorded = Profiler::record()?.args(args).run()?.success()?;
    let (runs, ns) = cost(&recorded.stderr).context("--self-cost shows the program `cpu`")?;
    Ok(OurRun { runs, ns, profile: recorded.profile()? })
}

/// Runs of the program `cpu` and nanoseconds each, from `program cpu: RUNS runs, NS ns each, ...`.
fn cost(text: &str) -> Option<(f64, f64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("program cpu: "))?;
    let (runs, rest) = line.split_once(" runs, ")?;
    Some((runs.parse().ok()?, rest.split_once(" ns each")?.0.parse().ok()?))
}
