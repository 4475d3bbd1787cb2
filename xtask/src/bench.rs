//! `cargo xtask bench`: one table, a row a figure. Peers run in the same run, and what counts are ratios; figures of one machine say nothing of another.
//! A new benchmark is one file and one row in [`BENCHMARKS`].

mod bpftrace;
mod budget;
mod cold_walk;
mod footprint;
mod heap;
mod lightswitch;
mod limits;
mod mapped_memory;
mod mappings;
mod mariadb;
mod memory;
mod program_cost;
mod rate;
mod small_program;
mod snapshot;
mod soak;
mod start;
mod unwind;
mod waits;
mod whole_cost;

use anyhow::{Result, bail};

/// One figure.
pub(crate) struct Row {
    /// What was measured, on what.
    what: String,
    /// The figure, with its unit.
    figure: String,
    /// What it must reach, and whether it did; nothing for a figure that stands beside others.
    goal: Option<(String, bool)>,
}

impl Row {
    /// A figure that must reach a goal.
    fn goal(what: impl Into<String>, figure: impl Into<String>, goal: impl Into<String>, reached: bool) -> Self {
        Self { what: what.into(), figure: figure.into(), goal: Some((goal.into(), reached)) }
    }

    /// A figure that explains another one.
    fn beside(what: impl Into<String>, figure: impl Into<String>) -> Self {
        Self { what: what.into(), figure: figure.into(), goal: None }
    }

    /// A peer that is not there: the goals against it are not measured, and so not reached.
    fn missing(peer: &str, install: &str) -> Self {
        Self::goal(format!("the peer {peer}"), format!("missing: {install}"), "there", false)
    }

    /// The same, held to nothing.
    fn without_goal(self) -> Self {
        Self { goal: None, ..self }
    }
}

/// A benchmark.
struct Benchmark {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<Vec<Row>>,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark { name: "rate", about: "P16: samples taken against frequency times CPU seconds, at 19, 99 and 997 Hz", run: rate::run },
    Benchmark {
        name: "program-cost",
        about: "P2: what our program adds to a sample beyond an empty one, at depth 1, 10 and 50",
        run: program_cost::run,
    },
    Benchmark {
        name: "whole-cost",
        about: "P3: CPU time from capture to symbolized profile, against perf record and perf script",
        run: whole_cost::run,
    },
    Benchmark {
        name: "unwind",
        about: "P1 and P6: a walk without frame pointers against the kernel's own walk with them and against lightswitch's; a cold mix; bytes a row, rows a second",
        run: unwind::run,
    },
    Benchmark {
        name: "snapshot",
        about: "2,000 parked threads walked to their roots, and how long the target is held up, against gdb; 50,000",
        run: snapshot::run,
    },
    Benchmark { name: "start", about: "P18: from exec to the first sample", run: start::run },
    Benchmark {
        name: "memory",
        about: "P5: what we hold with a compiler, Node, a JVM and 200 short processes, at rest and at the peak",
        run: mapped_memory::run,
    },
    Benchmark { name: "soak", about: "P5: growth in ten minutes (SOAK_MINUTES) with 50 programs a second", run: soak::run },
    Benchmark {
        name: "mappings",
        about: "P17: a process with 60,000 mappings that change 100 times a second: our CPU time, its calls' latency",
        run: mappings::run,
    },
    Benchmark {
        name: "heap",
        about: "P8 and P9: what an allocation costs, each of them and sampled, against bpftrace and the traps alone; what the figures are worth",
        run: heap::run,
    },
    Benchmark {
        name: "budget",
        about: "what redis, MariaDB, PostgreSQL and Python lose under -e heap --max-overhead 3%, and what is recorded meanwhile",
        run: budget::run,
    },
    Benchmark {
        name: "waits",
        about: "P10 and P11: what a hand-off of a lock costs, against bpftrace and offcputime; what those pay that are not recorded",
        run: waits::run,
    },
    Benchmark { name: "rest", about: "P19 and memory at rest: wake-ups a second and memory with nothing running", run: memory::run },
];

/// Prints the names.
pub(crate) fn list() -> Result<()> {
    for benchmark in BENCHMARKS {
        println!("{:<12} {}", benchmark.name, benchmark.about);
    }
    Ok(())
}

/// Runs all, or the named ones.
///
/// # Errors
/// A benchmark cannot run, or a figure misses its goal.
pub(crate) fn run(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| BENCHMARKS.iter().all(|benchmark| benchmark.name != **name)) {
        bail!("there is no benchmark `{unknown}`; `cargo xtask bench --list` shows them");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("benchmarks record, so they need root: sudo --preserve-env=PATH cargo xtask bench");
    }
    crate::test::build_release()?;
    let mut missed = 0;
    println!("| benchmark | what | figure | goal | |\n|---|---|---|---|---|");
    for benchmark in BENCHMARKS.iter().filter(|benchmark| names.is_empty() || names.iter().any(|name| name == benchmark.name)) {
        for row in (benchmark.run)()? {
            let (goal, verdict) = match &row.goal {
                Some((goal, true)) => (goal.as_str(), "reached"),
                Some((goal, false)) => (goal.as_str(), "MISSED"),
                None => ("", ""),
            };
            missed += usize::from(verdict == "MISSED");
            println!("| {} | {} | {} | {goal} | {verdict} |", benchmark.name, row.what, row.figure);
        }
    }
    if missed > 0 {
        bail!("{missed} figures miss their goals");
    }
    Ok(())
}

/// The middle one of some figures.
fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
