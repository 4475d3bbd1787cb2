//! `-e heap` of a Go program: nothing is probed, and its runtime's own profile is shown as the program itself writes it.

use anyhow::{Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build};
use std::fs;
use std::io::Write as _;
use std::process::Command;

/// The rows of a heap profile as text that are not zero, without their addresses, and the header.
fn rows(text: &str) -> (String, Vec<String>) {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default().to_owned();
    let rows = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_digit()) && line.contains(" @ "));
    let mut rows: Vec<String> =
        rows.filter_map(|line| line.split(" @ ").next()).filter(|row| *row != "0: 0 [0: 0]").map(str::to_owned).collect();
    rows.sort();
    (header, rows)
}

#[test]
fn a_go_program_shows_its_own_profile() -> Result<()> {
    if !can_record(&[Build::Go]) {
        return Ok(());
    }
    for how in [Build::Go, Build::GoStripped] {
        let mut command = Command::new(build("goheap", how)?);
        command.arg("512");
        let (mut go, mut stdin) = Subject::start_told(command)?;
        let mut tell = |go: &mut Subject, line: &str| -> Result<()> {
            writeln!(stdin, "{line}")?;
            go.wait_for_line("")?;
            Ok(())
        };
        for line in ["allocate 20", "drop", "collect", "collect"] {
            tell(&mut go, line)?;
        }
        let recording = Profiler::record()?.pid(go.pid()).args(["-e", "heap", "-d", "1", "-o", "heap.txt"]).run()?.success()?;
        let own = recording.folder.join("own.txt");
        tell(&mut go, &format!("text {}", own.display()))?;
        let (header, found) = rows(&fs::read_to_string(recording.folder.join("heap.txt"))?);
        let (own_header, own_rows) = rows(&fs::read_to_string(own)?);
        ensure!(header == own_header, "{how:?}: {header} instead of {own_header}");
        ensure!(found == own_rows && found.len() >= 50, "{how:?}: {} rows, its own are {}", found.len(), own_rows.len());
        // As protobuf: the sums that Go's scaling gives, and no frame of the runtime below the program's.
        let run = Profiler::record()?.pid(go.pid()).args(["-e", "heap", "-d", "1", "-o", "heap.prof"]).run()?.success()?;
        let profile = Profile::read(&run.folder.join("heap.prof"))?;
        let leaf = profile.only(|sample| profile.names(sample).first().is_some_and(|leaf| leaf.starts_with("main.")));
        ensure!(leaf.total(3) * 10 > profile.total(3) * 9, "{how:?}: {:?}", profile.flat());
        ensure!(profile.period == 512, "{how:?}: {}", profile.period);
    }
    Ok(())
}
