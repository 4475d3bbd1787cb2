//! `record -e threads` and `-e goroutine`: a look at one process, before what is recorded, if anything is.

use crate::args::RecordArgs;
use crate::choices::KindArg;
use crate::summary;
use profiler::config::Target;
use profiler::encode::encode;
use profiler::model::encoded::About;
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
        let profile = taken.grouped();
        // A program without goroutines shows its threads for them.
        if done.contains(&profile.kind) {
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
                tell(&profile.comments, entries, profile.kind.event(), &name);
            }
        }
    }
    Ok(())
}

fn tell(notes: &[String], entries: usize, what: &str, name: &Path) {
    for note in notes {
        summary::say(&format!("{}\n", printable(note)));
    }
    summary::say(&format!("{entries} {what}; wrote {0}; look further: go tool pprof -http=: {0}\n", name.display()));
}
