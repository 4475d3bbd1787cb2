//! `record -e threads` and `-e goroutine`: a look at one process, before what is recorded, if anything is.

use crate::args::RecordArgs;
use crate::choices::KindArg;
use crate::summary;
use profiler::config::Target;
use profiler::encode::encode;
use profiler::model::encoded::About;
use profiler::model::kind::Kind;
use profiler::model::text::printable;
use profiler::pipeline::{Snapshot, SnapshotOptions};
use profiler::sink;
use std::path::Path;

/// Whether a kind is a look, and nothing is recorded for it.
pub(crate) fn is_snapshot(kind: &KindArg) -> bool {
    matches!(kind, KindArg::Threads | KindArg::Goroutine)
}

/// Takes those that are asked for, and writes each.
pub(crate) fn take(args: &RecordArgs) -> anyhow::Result<()> {
    let mut done = Vec::new();
    for kind in args.kinds.iter().filter(|kind| is_snapshot(kind)) {
        let [Target::Pid(pid)] = args.targets()[..] else { continue };
        let options = SnapshotOptions {
            pid,
            kernel: !args.user_only,
            threads: *kind == KindArg::Threads,
            debug_dirs: args.debug_dirs.clone(),
            memory_limit: args.memory_limit,
        };
        let taken = Snapshot::prepare(options)?.take()?;
        let entries = taken.entries.len();
        let mut profile = taken.grouped();
        if *kind == KindArg::Goroutine && profile.kind == Kind::Threads && profile.comments.is_empty() {
            profile.comments.push(format!("process {pid} is no Go program; its threads are shown instead of goroutines"));
        }
        // A program without goroutines shows its threads for them.
        if done.contains(&profile.kind) {
            if !args.quiet {
                tell(&profile.comments);
            }
            continue;
        }
        done.push(profile.kind);
        let process = profile.processes.first().map(|process| (process.pid, process.comm.clone()));
        let about = About { kind: profile.kind, process, start: profile.start, duration: profile.duration };
        let encoded = encode(&profile, args.format(), about.clone());
        if args.output() == Path::new("-") {
            sink::stdout::write(&encoded)?;
            continue;
        }
        for name in sink::file::expand_all(args.output(), &[about])? {
            sink::file::write(&encoded, &name)?;
            if !args.quiet {
                tell(&profile.comments);
                let what = counted(entries, profile.kind.event());
                summary::say(&format!("{what}; wrote {0}; look further: go tool pprof -http=: {0}\n", name.display()));
            }
        }
    }
    Ok(())
}

/// So many of what has a plural as its name.
pub(crate) fn counted(number: usize, what: &str) -> String {
    format!("{number} {}", if number == 1 { what.trim_end_matches('s') } else { what })
}

fn tell(notes: &[String]) {
    for note in notes {
        summary::say(&format!("{}\n", printable(note)));
    }
}
