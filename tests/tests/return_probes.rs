//! Functions whose return somebody traces (`uretprobe`): the kernel puts an address of its own in the place of the return address, and the stack goes on all the
//! same.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::run::Profiler;
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, build};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

const TRACING: &str = "/sys/kernel/tracing";
/// Its functions, from the leaf on.
const TRACED: [&str; 3] = ["burn", "alloca_walk", "run"];

/// Probes on the returns of functions, taken away with the value.
struct ReturnProbes;

impl ReturnProbes {
    /// Puts them into a program.
    fn put(program: &Path) -> Result<Self> {
        let put = Self;
        for name in TRACED {
            let line = format!("r:profiler_tests/{name} {}:{:#x}", program.display(), offset(program, name)?);
            OpenOptions::new().append(true).open(format!("{TRACING}/uprobe_events"))?.write_all(line.as_bytes())?;
        }
        fs::write(format!("{TRACING}/events/profiler_tests/enable"), "1")?;
        Ok(put)
    }

    /// How often each was met.
    fn hits() -> Result<Vec<u64>> {
        let profile = fs::read_to_string(format!("{TRACING}/uprobe_profile"))?;
        let hits = |name: &&str| {
            let line = profile.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
            line.and_then(|line| line.split_whitespace().nth(2)?.parse().ok()).with_context(|| format!("{name} in {profile}"))
        };
        TRACED.iter().map(hits).collect()
    }
}

impl Drop for ReturnProbes {
    fn drop(&mut self) {
        let _ = fs::write(format!("{TRACING}/events/profiler_tests/enable"), "0");
        for name in TRACED {
            let events = OpenOptions::new().append(true).open(format!("{TRACING}/uprobe_events"));
            let _ = events.and_then(|mut file| file.write_all(format!("-:profiler_tests/{name}").as_bytes()));
        }
    }
}

/// Where in a file a function begins: its first segments lie in the file as they do in memory.
fn offset(program: &Path, name: &str) -> Result<u64> {
    let symbols = String::from_utf8(Command::new("nm").arg(program).output()?.stdout)?;
    let line = symbols.lines().find(|line| line.split_whitespace().nth(2) == Some(name)).with_context(|| format!("no {name}"))?;
    Ok(u64::from_str_radix(line.split_whitespace().next().unwrap_or_default(), 16)?)
}

#[test]
fn a_traced_return_does_not_end_the_stack() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("nm"), Need::Path("/sys/kernel/tracing/uprobe_events")]) {
        return Ok(());
    }
    let walks = build("walks", Build::CBare)?;
    let _probes = ReturnProbes::put(&walks)?;
    let profile = Profiler::record()?.args(["-F", "1999", "--", &walks.to_string_lossy(), "alloca", "2"]).run()?.success()?.profile()?;
    let hits = ReturnProbes::hits()?;
    ensure!(hits.iter().all(|hits| *hits > 0), "the probes were not met: {hits:?}");
    let (mut all, mut whole, mut other) = (0, 0, Vec::new());
    for sample in &profile.samples {
        let names = profile.names(sample);
        let Some(at) = names.iter().position(|name| *name == "burn") else { continue };
        all += sample.values[0];
        if names[at..].starts_with(&["burn", "alloca_walk", "run", "main"]) && names.last() == Some(&"_start") {
            whole += sample.values[0];
        } else {
            other = names.iter().map(|name| (*name).to_owned()).collect();
        }
    }
    // What was sampled before the tables were there is finished in user space, which does not know what the kernel has replaced: on a busy machine
    // those are one in twenty, and without the list that the kernel is asked for they were all.
    ensure!(all > 500 && whole as f64 >= 0.9 * all as f64, "{whole} of {all} stacks are whole; the last other one: {other:?}");
    Ok(())
}
