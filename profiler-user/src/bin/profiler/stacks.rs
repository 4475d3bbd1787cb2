//! `profiler stacks PID`: where every thread of a process stands now; for a Go program where its goroutines do.

use crate::record::{Failure, MISUSED};
use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use profiler::encode::{Format, Shape, dump, dump_parts, encode, grouped};
use profiler::model::dump::Dump;
use profiler::model::encoded::{About, Encoded};
use profiler::pipeline::{Snapshot, SnapshotOptions};
use profiler::sink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Show where every thread of a process stands now, without stopping any.
///
/// Of a Go program its goroutines are shown, in the form of its own dumps; with --threads its threads.
#[derive(Parser, Debug)]
pub(crate) struct StacksArgs {
    /// The process
    #[arg(value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: u32,
    /// Show kernel stacks, too
    #[arg(long)]
    pub kernel: bool,
    /// Show threads, of a Go program too
    #[arg(long)]
    pub threads: bool,
    /// Count equal stacks together
    #[arg(long)]
    pub group: bool,
    /// Form; without it a listing for people. text is Go's debug=1, debug2 its debug=2
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<StacksFormat>,
    /// Where to write; the ending tells the form. - is standard output
    #[arg(short = 'o', long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// A folder with separate debug files, beside /usr/lib/debug; may be given several times
    #[arg(long = "debug-dir", value_name = "DIR")]
    pub debug_dirs: Vec<PathBuf>,
    /// Memory that the profiler may use in all, maps included
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = crate::values::parse_memory_limit)]
    pub memory_limit: u64,
    /// Say on standard error how long it took
    #[arg(long)]
    pub timing: bool,
}

/// Forms of a snapshot.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StacksFormat {
    /// pprof's protobuf
    Pprof,
    /// Go's debug=1: stacks with their number
    Text,
    /// Go's debug=2: one after the other
    Debug2,
    /// A line for each stack, names joined by ;
    Folded,
    /// A flame graph
    Svg,
}

/// Takes the snapshot and writes it.
pub(crate) fn run(args: &StacksArgs) -> Result<ExitCode, Failure> {
    let failed = |error: anyhow::Error| Failure { error, code: 1 };
    if let Some(ending) = Format::foreign_ending(&args.output).filter(|_| args.format.is_none()) {
        let error = anyhow::anyhow!("{ending} is no form of a snapshot; choose one with --format");
        return Err(Failure { error, code: MISUSED });
    }
    crate::record::check_machine().map_err(failed)?;
    profiler::sys::priority::prefer();
    let options = SnapshotOptions {
        pid: args.pid,
        kernel: args.kernel,
        threads: args.threads,
        debug_dirs: args.debug_dirs.clone(),
        memory_limit: args.memory_limit,
    };
    let taken = Snapshot::prepare(options).and_then(Snapshot::take).map_err(|error| failed(error.into()))?;
    for note in &taken.profile.comments {
        crate::summary::say(&format!("profiler: {}\n", profiler::model::text::printable(note)));
    }
    if args.timing {
        crate::summary::say(&format!(
            "{} in {:.1} ms\n",
            crate::snapshots::counted(taken.entries.len(), taken.profile.kind.event()),
            taken.took.as_secs_f64() * 1e3
        ));
    }
    write(args, taken).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn write(args: &StacksArgs, taken: Dump) -> anyhow::Result<()> {
    let about = About {
        kind: taken.profile.kind,
        process: taken.profile.processes.first().map(|process| (process.pid, process.comm.clone())),
        start: taken.profile.start,
        duration: taken.profile.duration,
    };
    let text = |text: String| Encoded { bytes: text.into_bytes(), media_type: "text/plain; charset=utf-8", about: about.clone() };
    let (format, shape) = match args.format {
        Some(StacksFormat::Pprof) => (Some(Format::Pprof), Shape::Plain),
        Some(StacksFormat::Text) => (Some(Format::Text), Shape::Plain),
        Some(StacksFormat::Folded) => (Some(Format::Folded), Shape::Plain),
        Some(StacksFormat::Svg) => (Some(Format::Svg), Shape::Plain),
        Some(StacksFormat::Debug2) => (None, Shape::Go),
        None => (Format::from_path(&args.output), Shape::Plain),
    };
    let encoded = match format {
        Some(format) => encode(&taken.grouped(), format, about.clone()),
        None if args.group && args.format.is_none() => text(grouped(&taken.grouped())),
        None if args.output == Path::new("-") => {
            let mut parts = dump_parts(&taken, shape).map(text);
            return parts.try_for_each(|part| sink::stdout::write(&part)).context("writing to standard output");
        }
        None => text(dump(&taken, shape)),
    };
    if args.output == Path::new("-") {
        return sink::stdout::write(&encoded).context("writing to standard output");
    }
    let name = sink::file::expand_all(&args.output, std::slice::from_ref(&about))?;
    name.iter().try_for_each(|name| sink::file::write(&encoded, name))?;
    Ok(())
}
