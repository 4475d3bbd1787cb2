//! `--profile fds` and `sockets`: descriptors that were got and not closed, by the stacks that got them; as many as the process has.

use anyhow::{Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::Command;

fn descriptors(pid: u32) -> Result<BTreeSet<u32>> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
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
