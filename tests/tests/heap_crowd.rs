//! `-e heap` of more processes than there are places for the functions of allocators: what is alike is described once, so each of them is probed and counted.

use anyhow::{Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Command;

/// Processes: with places of their own for the eight functions of an allocator they would need more than there are (`SITES_MAX`).
const CHILDREN: usize = 520;
/// Blocks that each takes.
const BLOCKS: i64 = 3;

#[test]
fn each_of_very_many_processes_is_counted() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut command = Command::new(build("crowd", Build::CBare)?);
    command.arg(CHILDREN.to_string());
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut running = Profiler::record()?.pid(subject.pid()).args(["-e", "heap", "--sample-bytes", "1"]).start()?;
    running.wait_until_recording()?;
    writeln!(stdin, "go")?;
    subject.wait_for_line("done")?;
    let outcome = running.interrupt()?.success()?;
    let profile = Profile::read(&outcome.folder.join("heap.prof"))?;
    let mut by_process: BTreeMap<i64, i64> = BTreeMap::new();
    for sample in profile.samples.iter().filter(|sample| profile.names(sample).contains(&"takes")) {
        *by_process.entry(sample.label("pid").map_or(0, |label| label.number)).or_default() += sample.values[2];
    }
    ensure!(by_process.len() == CHILDREN, "{} processes of {CHILDREN}: {:#?}", by_process.len(), profile.comments);
    ensure!(by_process.values().all(|blocks| *blocks == BLOCKS), "{by_process:?}");
    ensure!(outcome.stderr.contains(&format!("taking the probes of {} processes away", CHILDREN + 1)), "{}", outcome.stderr);
    ensure!(profile.balance()?.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
    Ok(())
}
