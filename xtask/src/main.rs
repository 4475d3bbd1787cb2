//! `cargo xtask`: the project's own tasks.

mod bench;
mod dist;
mod ebpf;
mod kernels;
mod shell;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The project's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the eBPF programs and put the object, with its manifest, beside the code that embeds it.
    Ebpf {
        /// Change nothing: build, and compare with the committed object.
        #[arg(long)]
        check: bool,
        /// Build nothing: load the committed programs and print how large they are to this kernel, beside its limits (needs root).
        #[arg(long, conflicts_with = "check")]
        stats: bool,
    },
    /// Run every test: unit and documentation tests, then the promises of `tests/` as root.
    Test {
        /// Only the test files of `tests/tests/` with these names.
        names: Vec<String>,
    },
    /// Run the benchmarks, or the named ones, and print the table.
    Bench {
        /// Names of benchmarks, as the table has them.
        names: Vec<String>,
        /// List them only.
        #[arg(long)]
        list: bool,
    },
    /// Boot Debian's kernels 5.10, 6.1 and 6.12 under qemu and record there; or the named ones: arm64 is 6.12 on that machine.
    Kernels {
        /// Names, as 6.1.
        names: Vec<String>,
    },
    /// Build the static binary (static-pie) for release.
    Dist,
}

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Ebpf { stats: true, .. } => ebpf::stats(),
        Task::Ebpf { check: true, .. } => ebpf::check(),
        Task::Ebpf { .. } => ebpf::build(),
        Task::Test { names } => test::all(&names),
        Task::Bench { list: true, .. } => bench::list(),
        Task::Bench { names, .. } => bench::run(&names),
        Task::Kernels { names } => kernels::run(&names),
        Task::Dist => dist::build(),
    }
}
