//! P2: what a sample takes from the target, beyond the interrupt itself: the time of our own program, by the kernel's statistics of programs.
//!
//! The floor is the same interrupt with an empty program, so what our program takes is at most what we add to it. The kernel's statistics themselves
//! cost some 20 to 40 ns a run, which are in the figures.

use super::Row;
use anyhow::{Context, Result};
use profiler_tests::run::{Profiler, online_cpus};
use profiler_tests::subject::{Build, Subject, build};

/// Depths that are measured, and what a sample may cost at them; None where the figure stands beside the others.
const DEPTHS: [(u32, Option<f64>); 3] = [(1, None), (10, Some(1500.0)), (50, None)];

/// Measures all depths at 99 and 997 Hz, every CPU busy.
pub(super) fn run() -> Result<Vec<Row>> {
    let deep = build("deep", Build::C)?;
    let mut rows = Vec::new();
    for frequency in ["99", "997"] {
        for (depth, goal) in DEPTHS {
            let _load = (0..online_cpus()).map(|_| Subject::start(&deep, [depth.to_string()])).collect::<Result<Vec<_>>>()?;
            let recorded = Profiler::record()?.args(["-a", "-F", frequency, "-d", "5", "--self-cost"]).run()?.success()?;
            let nanoseconds = cost(&recorded.stderr).context("--self-cost shows the program `cpu`")?;
            let what = format!("{frequency} Hz, depth {depth} with frame pointers: our program a sample");
            let figure = format!("{nanoseconds:.0} ns");
            rows.push(match goal {
                Some(most) => Row::goal(what, figure, format!("<= {most:.0} ns"), nanoseconds <= most),
                None => Row::beside(what, figure),
            });
        }
    }
    Ok(rows)
}

/// Nanoseconds a run of the program `cpu`, from `program cpu: RUNS runs, NS ns each, ...`.
fn cost(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("program cpu: "))?;
    line.split_once(" runs, ")?.1.split_once(" ns each")?.0.parse().ok()
}
