//! `profiler`: the face of the library on the command line.

mod args;
mod check;
mod choices;
mod custom;
mod heap;
mod record;
mod snapshots;
mod stacks;
mod summary;
mod values;
mod waits;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    profiler::init();
    profiler::sys::end::fail_on_file_size();
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let misused = error.use_stderr();
            let _ = error.print();
            return ExitCode::from(if misused { 2 } else { 0 });
        }
    };
    let result = match args.command {
        args::Command::Record(arguments) => record::run(&arguments),
        args::Command::Stacks(arguments) => stacks::run(&arguments),
        args::Command::Check => Ok(check::run()),
    };
    result.unwrap_or_else(|failure| {
        summary::say(&format!("profiler: {}\n", profiler::model::text::printable(&told(&failure.error))));
        ExitCode::from(failure.code)
    })
}

/// An error with its causes, but those that its message holds already.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| {
        let cause = cause.to_string();
        match (told.is_empty(), told.contains(&cause)) {
            (true, _) => cause,
            (false, true) => told,
            (false, false) => format!("{told}: {cause}"),
        }
    })
}
