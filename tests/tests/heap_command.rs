//! A command whose calls are probed is counted from its first allocation, also one that lasts some milliseconds; and is what it is without us.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Outcome, Profiler, Running};
use profiler_tests::skip::{Need, can_record, ready, skip};
use profiler_tests::subject::{Build, build, source};
use profiler_tests::waiting;
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the subject allocates, by function: blocks and bytes, and those of them that stay.
const PATTERN: [(&str, [i64; 4]); 3] =
    [("constructed", [7, 336, 7, 336]), ("kept", [501, 50_100, 501, 50_100]), ("dropped", [300, 300_000, 0, 0])];

fn of(profile: &Profile, function: &str) -> Vec<i64> {
    let mine = profile.only(|sample| profile.names(sample).contains(&function));
    (0..profile.sample_types.len()).map(|column| mine.total(column)).collect()
}

fn record(words: &[&str]) -> Result<(Profile, Outcome)> {
    let run = Profiler::record()?.args(["-e", "heap", "--sample-bytes", "1", "--"]).args(words).run()?.success()?;
    let profile = Profile::read(&run.folder.join("heap.prof"))?;
    Ok((profile, run))
}

fn is_exact(profile: &Profile) -> Result<()> {
    for (function, figures) in PATTERN {
        ensure!(of(profile, function) == figures, "{function}: {:?}: {:#?}", of(profile, function), profile.comments);
    }
    ensure!(profile.balance()?.difference == 0, "{:#?}", profile.comments);
    Ok(())
}

/// The subject, built otherwise.
fn compiled(name: &str, words: &[&str]) -> Result<PathBuf> {
    let folder = profiler_tests::manifest::root().join("target/profiler-tests/heap");
    fs::create_dir_all(&folder)?;
    let out = folder.join(name);
    let status = Command::new(words[0]).args(&words[1..]).arg("-o").arg(&out).arg(source("brief", Build::C)).status()?;
    ensure!(status.success(), "{words:?}");
    Ok(out)
}

#[test]
fn a_program_of_milliseconds_is_counted_from_its_first_allocation() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("musl-gcc")]) {
        return Ok(());
    }
    let built = build("brief", Build::CBare)?;
    let mut programs = vec![built.clone(), compiled("brief-static", &["gcc", "-static", "-O2", "-g"])?];
    programs.push(compiled("brief-musl", &["musl-gcc", "-O2", "-g"])?);
    programs.push(compiled("brief-static-musl", &["musl-gcc", "-static", "-O2", "-g"])?);
    for program in programs {
        is_exact(&record(&[&program.to_string_lossy()])?.0).with_context(|| program.display().to_string())?;
    }
    let library = Path::new("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2");
    let built = built.to_string_lossy();
    if library.exists() {
        is_exact(&record(&["env", &format!("LD_PRELOAD={}", library.display()), &built])?.0).context("another allocator")?;
    } else {
        skip("libjemalloc.so.2 is not there");
    }
    // By a program that becomes it.
    is_exact(&record(&["sh", "-c", &format!("exec {built}")])?.0).context("a shell")
}

#[test]
fn a_custom_profile_of_a_command_begins_as_early() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let program = build("brief", Build::CBare)?;
    let run = Profiler::record()?
        .args(["--profile", "calls", "--add", "uprobe:libc.so.6:malloc:weight=arg0", "--"])
        .args([&program])
        .run()?
        .success()?;
    let profile = Profile::read(&run.folder.join("calls.prof"))?;
    ensure!((profile.total(0), profile.total(1)) == (808, 350_436), "{} {}", profile.total(0), profile.total(1));
    Ok(())
}

#[test]
fn a_command_does_not_notice_that_it_was_stopped() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("python3")]) {
        return Ok(());
    }
    // Signals that are ignored and blocked, children, standard input, status: as without us. A child that stops stays so until its parent lets it go on.
    let script = "import os, signal, sys
assert signal.getsignal(signal.SIGCONT) == signal.SIG_DFL and not signal.sigpending()
child = os.fork()
if child == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(7)
_, status = os.waitpid(child, os.WUNTRACED)
assert os.WIFSTOPPED(status), status
os.kill(child, signal.SIGCONT)
_, status = os.waitpid(child, 0)
assert os.WEXITSTATUS(status) == 7, status
sys.exit(5)";
    let run = Profiler::record()?.args(["-e", "heap", "--", "python3", "-c", script]).run()?;
    ensure!(run.code()? == 5, "{}: {}", run.code()?, run.stderr);
    Ok(())
}

#[test]
fn who_ends_a_recording_leaves_no_command_stopped() -> Result<()> {
    if !can_record(&[]) {
        return Ok(());
    }
    // It becomes another program again and again: wherever the end comes, it goes on.
    let script = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); done; if [ $1 -gt 0 ]; then exec sh -c \"$0\" \"$0\" $(($1 - 1)); fi; echo at its end > end";
    let run = Profiler::record()?.args(["-e", "heap", "-d", "0.3", "--", "sh", "-c", script, script, "60"]).run()?.success()?;
    ensure!(fs::read_to_string(run.folder.join("end"))?.starts_with("at its end"), "{}", run.stderr);
    Ok(())
}

#[test]
fn children_that_ended_before_they_were_probed_are_told() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    // A shell starts them when it is told to; the profiler stands still until they have ended.
    let script = format!("echo > ready; read go < told; {0}; {0}; echo > ended; read go < told", build("brief", Build::CBare)?.display());
    let running = Profiler::record()?.args(["-e", "heap", "--sample-bytes", "1", "--", "sh", "-c", &script]);
    let (ready, told, ended) = (running.folder().join("ready"), running.folder().join("told"), running.folder().join("ended"));
    ensure!(Command::new("mkfifo").arg(&told).status()?.success(), "mkfifo");
    let is_there = |path: &Path| waiting::until("the shell", || Ok(path.exists().then_some(())));
    let running = running.start()?;
    is_there(&ready)?;
    running.signal(Signal::STOP)?;
    fs::write(&told, "go\n")?;
    is_there(&ended)?;
    running.signal(Signal::CONT)?;
    fs::write(&told, "go\n")?;
    let run = running.finish()?.success()?;
    let profile = Profile::read(&run.folder.join("heap.prof"))?;
    ensure!(profile.comment("processes that ended before they could be probed: ") == Some("2"), "{:#?}", profile.comments);
    ensure!(run.stderr.contains("before they could be probed: 2") && of(&profile, "kept") == [0; 4], "{}", run.stderr);
    Ok(())
}

#[test]
fn a_command_that_is_killed_while_it_is_stopped_ends_the_recording() -> Result<()> {
    if !can_record(&[]) {
        return Ok(());
    }
    let running = Profiler::record()?.args(["-e", "heap", "--", "sh", "-c", "kill -9 $$"]).start()?;
    let outcome = running.finish()?;
    ensure!(outcome.code()? == 128 + Signal::KILL.as_raw(), "{}: {}", outcome.code()?, outcome.stderr);
    Ok(())
}

/// A child of the profiler that is stopped.
fn stopped_child(profiler: u32) -> Result<Option<u32>> {
    let task = format!("/proc/{profiler}/task/{profiler}/children");
    let children = fs::read_to_string(&task).with_context(|| task.clone())?;
    Ok(children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid| state(*pid) == Some('T')))
}

/// As the kernel tells it of a process, if there is one.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Kills a profiler in a moment in which its command is stopped, which was let go `before` times until then; whether there was such a moment.
fn is_killed_while_it_holds(running: &Running, before: usize) -> Result<bool> {
    let mut seen = 0;
    let (mut was_stopped, end) = (false, running.folder()?.join("end"));
    while !end.exists() {
        let stopped = stopped_child(running.pid())?;
        seen += usize::from(stopped.is_some() && !was_stopped);
        was_stopped = stopped.is_some();
        let Some(child) = stopped.filter(|_| seen > before) else { continue };
        // It lets nobody go from here on.
        running.signal(Signal::STOP)?;
        waiting::until("the profiler to stand", || Ok((state(running.pid()) == Some('T')).then_some(())))?;
        if state(child) == Some('T') {
            running.signal(Signal::KILL)?;
            return Ok(true);
        }
        running.signal(Signal::CONT)?;
    }
    Ok(false)
}

#[test]
fn a_profiler_that_is_killed_leaves_no_command_stopped() -> Result<()> {
    if !can_record(&[]) {
        return Ok(());
    }
    // At each of its stops: as a program, and at its libraries; and it becomes other programs.
    let script = "if [ $1 -gt 0 ]; then exec sh -c \"$0\" \"$0\" $(($1 - 1)); fi; echo at its end > end";
    for before in 0..7 {
        let start = || Profiler::record()?.args(["-e", "heap", "--", "sh", "-c", script, script, "30"]).start();
        let killed = waiting::until("a moment in which it is stopped", || {
            let running = start()?;
            Ok(is_killed_while_it_holds(&running, before)?.then_some(running))
        })?;
        let end = killed.folder()?.join("end");
        waiting::until("the command's end", || Ok(end.exists().then_some(()))).with_context(|| format!("let go {before} times before"))?;
    }
    Ok(())
}
