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

/// Of 50 call paths one leaks 1 MB a second, and the other 49 allocate and free 100 MB a second: what Go's reader says has grown within 10 s, and how
/// many seconds they were.
fn what_grows_in_ten_seconds(sampling: &[&str]) -> Result<Option<(String, f64)>> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("go")]) {
        return Ok(None);
    }
    let subject = Subject::start(&build("leak", Build::CBare)?, [""; 0])?;
    let run = Profiler::record()?.pid(subject.pid()).args(["-e", "heap", "--diff", "10s"]).args(sampling).run()?.success()?;
    let (base, heap) = (run.folder.join("heap-base.prof"), run.folder.join("heap.prof"));
    ensure!(run.stderr.contains("go tool pprof -top -diff_base heap-base.prof heap.prof"), "{}", run.stderr);
    // The command that it names; without the function that all paths allocate with, they are what it shows.
    let report = pprof(["-top".into(), "-hide=^obtain$".into(), "-diff_base".into(), base.clone(), heap.clone()])?;
    let whole = pprof(["-top".into(), "-diff_base".into(), base.clone(), heap.clone()])?;
    ensure!(rows(&whole.text).next().is_some_and(|row| is_of(row, "obtain")), "{}", whole.text);
    let (base, heap) = (Profile::read(&base)?, Profile::read(&heap)?);
    let seconds = (heap.duration_ns - base.duration_ns) as f64 / 1e9;
    ensure!((9.9..13.0).contains(&seconds) && base.duration_ns >= 10_000_000_000, "{seconds} s, {}", base.duration_ns);
    let traffic = (heap.total(1) - base.total(1)) as f64;
    ensure!(traffic > 0.9 * 101e6 * seconds, "the program was to allocate 101 MB a second: {traffic} in {seconds} s");
    ensure!(heap.balance()?.difference == 0 && heap.losses()?.is_empty(), "{:#?}", heap.comments);
    Ok(Some((report.text, seconds)))
}

/// The rows of a table of `-top`.
fn rows(top: &str) -> impl Iterator<Item = &str> {
    top.lines().skip_while(|line| !line.contains("flat%")).skip(1)
}

fn is_of(row: &str, function: &str) -> bool {
    row.split_whitespace().next_back() == Some(function)
}

#[test]
fn what_leaks_is_first_among_what_grows() -> Result<()> {
    // As the README has it, at the usual distance between samples: some 20 of the leak, 2,000 of the rest.
    let Some((top, _)) = what_grows_in_ten_seconds(&[])? else { return Ok(()) };
    let first = rows(&top).next().context("a first row")?;
    ensure!(is_of(first, "path_17") && megabytes(first) > 3e6, "{top}");
    Ok(())
}

#[test]
fn what_leaks_has_grown_by_what_was_forgotten() -> Result<()> {
    let Some((top, seconds)) = what_grows_in_ten_seconds(&["--sample-bytes", "4K"])? else { return Ok(()) };
    let first = rows(&top).next().context("a first row")?;
    // 2,400 samples: a standard error of 2 %.
    ensure!(is_of(first, "path_17") && (megabytes(first) / seconds / 1e6 - 1.0).abs() < 0.12, "{seconds} s: {top}");
    // What the others hold comes and goes: a block each.
    ensure!(rows(&top).skip(1).filter(|row| row.contains("path_")).all(|row| megabytes(row).abs() < 1e5), "{top}");
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
    // The profiler looks every 200 ms how much is in use, and tells nobody: a look that did not come in this time fails the test, it cannot pass it.
    sleep(Duration::from_secs(3));
    stdin.write_all(b"\n")?;
    subject.wait_for_line("down")?;
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
