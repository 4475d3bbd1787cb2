//! `--diff` and `--at peak`: what is in use at other moments than the end.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::pprof_tool::pprof;
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::io::Write as _;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

#[test]
fn what_leaks_is_first_among_what_grows() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("go")]) {
        return Ok(());
    }
    let subject = Subject::start(&build("leak", Build::CBare)?, [""; 0])?;
    let run = Profiler::record()?.pid(subject.pid()).args(["-e", "heap", "--sample-bytes", "4K", "--diff", "5s"]).run()?.success()?;
    let (base, heap) = (run.folder.join("heap-base.prof"), run.folder.join("heap.prof"));
    ensure!(run.stderr.contains("go tool pprof -top -diff_base heap-base.prof heap.prof"), "{}", run.stderr);
    let report = pprof(["-top".into(), "-nodecount=3".into(), "-diff_base".into(), base.clone(), heap])?;
    let first = report.text.lines().skip_while(|line| !line.contains("flat%")).nth(1).context("a first line")?;
    // What obtains is called by all; the path that forgets is the one that calls it ever more.
    let peek = pprof(["-peek=obtain$".into(), "-diff_base".into(), base.clone(), run.folder.join("heap.prof")])?;
    let callers = peek.text.lines().take_while(|line| !line.trim_end().ends_with("| obtain")).filter(|line| line.contains("path_"));
    let caller = callers.max_by_key(|line| megabytes(line).abs() as i64).context("callers")?;
    ensure!(first.contains("obtain") && caller.contains("path_17"), "{}\n{}", report.text, peek.text);
    // 1 MB a second for 5 s.
    ensure!((megabytes(caller) - 5.0e6).abs() < 1.2e6, "{caller}");
    let base = Profile::read(&base)?;
    ensure!(base.duration_ns >= 5_000_000_000 && base.duration_ns < 6_000_000_000, "{}", base.duration_ns);
    Ok(())
}

/// Bytes of the first number with a unit in a line.
fn megabytes(line: &str) -> f64 {
    let number = |word: &str| {
        let at = word.find(|c: char| c.is_ascii_alphabetic())?;
        let scale = match &word[at..] {
            "B" => 1.0,
            "kB" => 1024.0,
            "MB" => 1048576.0,
            _ => return None,
        };
        Some(word[..at].parse::<f64>().ok()? * scale)
    };
    line.split_whitespace().find_map(number).unwrap_or(0.0)
}

#[test]
fn the_peak_is_shown_where_the_end_has_nothing() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("python3")]) {
        return Ok(());
    }
    // Rises to 40 blocks of 100 kB, and gives all but 5 back.
    let script = "import sys
print('ready', flush=True)
sys.stdin.readline(); held = [bytearray(100000) for _ in range(40)]; print('up', flush=True)
sys.stdin.readline(); del held[5:]; print('down', flush=True)
sys.stdin.readline()";
    let mut command = Command::new("python3");
    command.args(["-c", script]).env("PYTHONMALLOC", "malloc");
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let options = ["-e", "heap,allocs", "--sample-bytes", "1", "--at", "peak"];
    let mut recording = Profiler::record()?.pid(subject.pid()).args(options).start()?;
    recording.wait_until_recording()?;
    stdin.write_all(b"\n")?;
    subject.wait_for_line("up")?;
    sleep(Duration::from_millis(600));
    stdin.write_all(b"\n")?;
    subject.wait_for_line("down")?;
    sleep(Duration::from_millis(300));
    let run = recording.interrupt()?.success()?;
    let profile = Profile::read(&run.folder.join("heap.prof"))?;
    let large =
        profile.only(|sample| sample.labels.iter().any(|label| label.key == "bytes" && label.number >= 98_304 && label.number <= 106_496));
    ensure!((large.total(0), large.total(2)) == (40, 40), "{} {}: {:#?}", large.total(0), large.total(2), profile.comments);
    ensure!(profile.comments.iter().any(|comment| comment.starts_with("in use: at its peak")), "{:#?}", profile.comments);
    ensure!(profile.balance()?.difference == 0, "{:#?}", profile.comments);
    Ok(())
}

#[test]
fn moments_are_of_a_heap_and_lie_within_it() -> Result<()> {
    if !can_record(&[]) {
        return Ok(());
    }
    let own = std::process::id();
    Profiler::record()?.pid(own).args(["-e", "cpu", "-d", "1", "--diff", "1s"]).run()?.failed(2, "-e heap")?;
    Profiler::record()?.pid(own).args(["-e", "allocs", "-d", "1", "--at", "peak"]).run()?.failed(2, "-e heap")?;
    Profiler::record()?.pid(own).args(["-e", "heap", "-d", "1", "--diff", "1s"]).run()?.failed(2, "shorter than -d")?;
    Ok(())
}
