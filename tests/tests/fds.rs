//! `--profile fds` and `sockets`: descriptors that were got and not closed, by the stacks that got them; as many as the process has.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::served::{Served, program};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

fn descriptors(pid: u32) -> Result<BTreeSet<u32>> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// What they are of, one for each.
fn links(pid: u32) -> Result<Vec<PathBuf>> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect())
}

fn open(profile: &Profile, function: &str) -> i64 {
    profile.only(|sample| profile.names(sample).contains(&function)).total(0)
}

#[test]
fn descriptors_got_in_every_way_are_those_that_the_process_has() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let (mut subject, mut stdin) = Subject::start_told(Command::new(build("fds", Build::CBare)?))?;
    let before = descriptors(subject.pid())?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["--profile", "fds,sockets"]).start()?;
    recording.wait_until_recording()?;
    stdin.write_all(b"go\n")?;
    subject.wait_for_line("done")?;
    let got = descriptors(subject.pid())?.difference(&before).count() as i64;
    let run = recording.interrupt()?.success()?;
    let profile = Profile::read(&run.folder.join("fds.prof"))?;
    ensure!(profile.sample_types == [("fds".to_owned(), "count".to_owned())], "{:?}", profile.sample_types);
    for (function, number) in [
        ("files", 4),
        ("sockets", 7),
        ("pipes", 3),
        ("duplicates", 5),
        ("events", 8),
        ("others", 3),
        ("ranges", 10),
        ("threaded", 1),
        ("marked", 4),
    ] {
        ensure!(
            open(&profile, function) == number,
            "{function}: {} instead of {number}; all {} of {got}",
            open(&profile, function),
            profile.total(0)
        );
    }
    ensure!(profile.total(0) == got, "{} in the profile, {got} in the process", profile.total(0));
    let types = profile.label_values("type");
    ensure!(types.get("socket") == Some(&7) && types.get("file") == Some(&9) && types.get("events") == Some(&8), "{types:?}");
    let sockets = Profile::read(&run.folder.join("sockets.prof"))?;
    ensure!(sockets.total(0) == 7 && open(&sockets, "sockets") == 7, "{}", sockets.total(0));
    for profile in [profile, sockets] {
        ensure!(profile.balance()?.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
        ensure!(profile.rooted()? > 0.99, "{:?}", profile.endings()?);
    }
    Ok(())
}

#[test]
fn an_exec_closes_what_is_marked_for_it() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let (mut subject, mut stdin) = Subject::start_told(Command::new(build("fds", Build::CBare)?))?;
    let before = descriptors(subject.pid())?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["--profile", "fds"]).start()?;
    recording.wait_until_recording()?;
    stdin.write_all(b"go\n")?;
    subject.wait_for_line("done")?;
    stdin.write_all(b"exec\n")?;
    subject.wait_for_line("again")?;
    let got = descriptors(subject.pid())?.difference(&before).count() as i64;
    let run = recording.interrupt()?.success()?;
    let profile = Profile::read(&run.folder.join("fds.prof"))?;
    ensure!(profile.total(0) == got && open(&profile, "marked") == 2, "{} of {got}, {} marked", profile.total(0), open(&profile, "marked"));
    Ok(())
}

#[test]
fn what_is_closed_under_another_name_is_closed() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("perl")]) {
        return Ok(());
    }
    // Asked for by a name that it has while it opens them, and has no more when it closes all but one.
    let script = r#"$| = 1; print "ready\n"; <STDIN>;
for my $i (0..9) { open($f[$i], "<", "/etc/passwd"); }
$0 = "somebodyelse"; for my $i (1..9) { close($f[$i]); }
print "done\n"; <STDIN>;"#;
    let folder = profiler_tests::run::Folder::create()?;
    let named = folder.join("opensunderthis");
    std::os::unix::fs::symlink("/usr/bin/perl", &named)?;
    let mut command = Command::new(&named);
    command.args(["-e", script]);
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut recording = Profiler::record()?.args(["--comm", "opensunderthis", "--profile", "fds"]).start()?;
    recording.wait_until_recording()?;
    stdin.write_all(b"\n")?;
    subject.wait_for_line("done")?;
    ensure!(std::fs::read_to_string(format!("/proc/{}/comm", subject.pid()))?.trim() == "somebodyelse", "it has its other name");
    let run = recording.interrupt()?.success()?;
    let profile = Profile::read(&run.folder.join("fds.prof"))?;
    ensure!(profile.total(0) == 1, "{} open of 1: {}", profile.total(0), run.stderr);
    Ok(())
}

#[test]
fn the_leak_of_a_program_is_first() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("perl"), Need::Program("go")]) {
        return Ok(());
    }
    // Opens and closes a thousand files, and forgets the pipes that it makes for a child's output.
    let script = r#"$| = 1; print "ready\n"; <STDIN>;
for my $i (1..1000) { open(my $f, "<", "/etc/passwd"); close($f); }
for my $i (1..40) { pipe($r[$i], $w[$i]); }
print "done\n"; <STDIN>;"#;
    let mut command = Command::new("perl");
    command.args(["-e", script]);
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["--profile", "fds"]).start()?;
    recording.wait_until_recording()?;
    stdin.write_all(b"\n")?;
    subject.wait_for_line("done")?;
    let run = recording.interrupt()?.success()?;
    let path = run.folder.join("fds.prof");
    let profile = Profile::read(&path)?;
    ensure!(profile.total(0) == 80 && open(&profile, "Perl_pp_pipe_op") == 80, "{}: {}", profile.total(0), run.stderr);
    let report = profiler_tests::pprof_tool::pprof(["-top".into(), "-nodecount=20".into(), path])?;
    ensure!(report.text.contains("Type: fds") && report.text.contains("Perl_pp_pipe_op"), "{}", report.text);
    ensure!(run.stderr.contains("system call"), "what it costs is said: {}", run.stderr);
    Ok(())
}

/// The README's line for it: what follows `profiler record`, with another process.
fn line_of_readme(pid: u32) -> Result<Vec<String>> {
    let readme = fs::read_to_string(profiler_tests::manifest::root().join("README.md"))?;
    let is_it = |line: &&str| line.starts_with("sudo profiler record --profile fds ");
    let line = readme.lines().find(is_it).context("the README has no line for it")?;
    let words = line.split('#').next().unwrap_or_default().split_whitespace().skip(3);
    Ok(words.map(|word| if word == "1234" { pid.to_string() } else { word.to_owned() }).collect())
}

#[test]
fn the_leak_of_a_server_that_nobody_here_wrote_is_found() -> Result<()> {
    let program = program();
    let needs = [Need::Program("node"), Need::Program("go"), Need::Path(&program.to_string_lossy())];
    if !can_record(&[]) || !ready(&needs) {
        return Ok(());
    }
    let served = Served::start()?;
    let (mark, _) = served.ask(None)?;
    profiler_tests::waiting::until("the first page to be closed", || Ok((served.open()? == 0).then_some(())))?;
    let before = links(served.pid())?;
    let mut recording = Profiler::record()?.args(line_of_readme(served.pid())?).start()?;
    recording.wait_until_recording()?;
    // Who asks for the page gets it, and it is closed. Who has it already is told so.
    for _ in 0..60 {
        ensure!(served.ask(None)?.1 && !served.ask(Some(&mark))?.1, "it does not look at what the client has");
    }
    // What it closes, it closes after its answer: files and connections, each of which has a number of its own.
    let fresh = || links(served.pid()).map(|links| links.into_iter().filter(|link| !before.contains(link)).count());
    profiler_tests::waiting::until("all but those that it forgets to be closed", || Ok((fresh()? <= 60).then_some(())))?;
    let run = recording.interrupt()?.success()?;
    let (path, open) = (run.folder.join("fds.prof"), served.open()? as i64);
    ensure!(open == 60, "this server was to forget 60 files: {open}");
    let profile = Profile::read(&path)?;
    let files = profile.labelled("type", "file");
    ensure!(files.total(0) == open && profile.total(0) == open, "{:?} of {open}: {:#?}", profile.label_values("type"), profile.comments);
    ensure!(profile.balance()?.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
    // Where they were got: by the one call that opens files, below the threads that libuv has for it.
    let top = profiler_tests::pprof_tool::pprof(["-top".into(), path])?.text;
    let first = top.lines().skip_while(|line| !line.contains("flat%")).nth(1).context("a first row")?;
    let words: Vec<&str> = first.split_whitespace().collect();
    ensure!(words[..2] == ["60", "100%"] && words[5].contains("open"), "{top}");
    Ok(())
}
