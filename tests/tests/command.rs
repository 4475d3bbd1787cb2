//! `profiler record -- CMD`: the command runs as it would without us, its end is our end, and its status is our status.

use anyhow::{Result, bail, ensure};
use profiler_tests::profile::{Profile, Sample};
use profiler_tests::run::Profiler;
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, build};
use profiler_tests::waiting;
use rustix::process::Signal;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;

/// The path of the spinning subject.
fn spin() -> Result<String> {
    Ok(build("spin", Build::C)?.to_string_lossy().into_owned())
}

#[test]
fn the_commands_status_is_passed_on() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let outcome = Profiler::record()?.args(["-F", "499", "--", &spin()?, "0.5", "7"]).run()?;
    assert_eq!(outcome.code()?, 7, "{}", outcome.stderr);
    let profile = outcome.profile()?;
    let spin = profile.cumulative().get("spin_here").copied().unwrap_or(0);
    ensure!(spin > 200, "spin_here: {spin} of {}", profile.total(0));
    Ok(())
}

#[test]
fn a_command_that_a_signal_ended_is_128_and_the_signal() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    let outcome = Profiler::record()?.args(["--", "sh", "-c", "kill -KILL $$"]).run()?;
    assert_eq!(outcome.code()?, 128 + 9, "{}", outcome.stderr);
    outcome.profile()?;
    Ok(())
}

#[test]
fn a_command_that_is_not_there_is_127_and_one_that_cannot_run_126() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    Profiler::record()?.args(["--", "no-such-command-anywhere"]).run()?.failed(127, "no-such-command-anywhere")?;
    let profiler = Profiler::record()?;
    let text = profiler.folder().join("text");
    fs::write(&text, "not executable")?;
    let outcome = profiler.args(["--", &text.to_string_lossy()]).run()?;
    fs::remove_file(&text)?;
    outcome.failed(126, "text")
}

#[test]
fn signals_reach_the_command_and_the_profile_is_written() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    let profiler = Profiler::record()?;
    let started = profiler.folder().join("started");
    let script = format!("trap 'exit 42' TERM; touch {}; while :; do :; done", started.display());
    let mut running = profiler.args(["-F", "199", "--", "sh", "-c", &script]).start()?;
    running.wait_until_recording()?;
    waiting::until("the command to start", || Ok(started.exists().then_some(())))?;
    running.signal(Signal::TERM)?;
    let outcome = running.finish()?;
    assert_eq!(outcome.code()?, 42, "{}", outcome.stderr);
    outcome.profile()?;
    Ok(())
}

#[test]
fn a_duration_ends_the_recording_and_not_the_command() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let profiler = Profiler::record()?;
    let survived = profiler.folder().join("survived");
    let script = format!("{} 3; touch {}; exit 5", spin()?, survived.display());
    let outcome = profiler.args(["-F", "199", "-d", "1", "--", "sh", "-c", &script]).run()?;
    assert_eq!(outcome.code()?, 5, "{}", outcome.stderr);
    ensure!(survived.exists(), "the command did not come to its end");
    let profile = outcome.profile()?;
    ensure!(profile.total(1) < 2_000_000_000, "one second was asked for, {} ns of CPU time recorded", profile.total(1));
    Ok(())
}

#[test]
fn the_commands_output_is_its_own() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let outcome = Profiler::record()?.args(["--", &spin()?, "0.1", "0", "a line"]).run()?.success()?;
    let stdout = String::from_utf8(outcome.stdout)?;
    let lines: Vec<&str> = stdout.lines().collect();
    ensure!(
        matches!(lines[..], ["ready", "a line", cpu] if cpu.starts_with("cpu ")),
        "standard output is not the command's alone: {lines:?}"
    );
    Ok(())
}

/// In the kernel's exec, or in the loader with nobody below it: who resolves a function later, or leaves, was called by the program.
fn is_of_the_start(profile: &Profile, sample: &Sample) -> bool {
    let files = profile.files(sample);
    let mut users = files.iter().filter(|file| !file.starts_with('[')).peekable();
    let is_loading = users.peek().is_some() && users.all(|file| file.contains("/ld-"));
    is_loading || profile.names(sample).iter().any(|name| name.contains("execve"))
}

#[test]
fn the_command_is_seen_from_its_first_instruction_to_its_last() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let short = build("short", Build::C)?;
    // Either is less than a millisecond, and two samples at this rate, or one, or none.
    let (mut has_start, mut has_end) = (false, false);
    for _ in 0..30 {
        let outcome = Profiler::record()?.args(["-F", "1999", "--", &short.to_string_lossy(), "200"]).run()?.success()?;
        let profile = outcome.profile()?.labelled("comm", "short");
        let milliseconds = profile.total(1) as f64 / 1e6;
        // 200 ms by its own clock, which stops before it leaves; loading and leaving come on top.
        ensure!((195.0..260.0).contains(&milliseconds), "a program of 200 ms of CPU time has {milliseconds} ms in the profile");
        has_start |= profile.samples.iter().any(|sample| is_of_the_start(&profile, sample));
        has_end |= profile.cumulative().keys().any(|name| name.starts_with("do_exit"));
        if has_start && has_end {
            return Ok(());
        }
    }
    bail!("in thirty of them: its start was seen: {has_start}, its end: {has_end}")
}

#[test]
fn arguments_and_environment_of_the_command_stay_secret() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    const CANARY: &str = "S3CRET-CANARY";
    let profiler = Profiler::record()?.with(|command| {
        command.env("PASSWORD", CANARY);
    });
    let outcome = profiler.args(["--", &spin()?, "0.3", "0", CANARY]).run()?.success()?;
    ensure!(!outcome.stderr.contains(CANARY), "the terminal shows an argument:\n{}", outcome.stderr);
    let bytes = fs::read(outcome.folder.join("cpu.prof"))?;
    let mut message = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut message)?;
    ensure!(!message.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()), "the profile holds an argument");
    let profile = Profile::parse(&bytes)?;
    ensure!(
        profile.comments.iter().any(|comment| comment.contains("spin")),
        "the comments do not name the command: {:?}",
        profile.comments
    );
    Ok(())
}

#[test]
fn children_of_the_command_are_seen_unless_they_are_not_wanted() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let script = format!("{} 0.5; {} 0.5 & wait", spin()?, spin()?);
    let inherit = Profiler::record()?.args(["-F", "499", "--", "sh", "-c", &script]).run()?.success()?.profile()?;
    let pids = inherit.labelled("comm", "spin").label_values("pid");
    assert_eq!(pids.len(), 2, "both children: {pids:?}");
    let alone = Profiler::record()?.args(["-F", "499", "--no-inherit", "--", "sh", "-c", &script]).run()?.success()?.profile()?;
    ensure!(alone.labelled("comm", "spin").samples.is_empty(), "{:?}", alone.label_values("comm"));
    Ok(())
}

#[test]
fn a_script_without_an_interpreter_line_runs() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    let profiler = Profiler::record()?;
    let script = profiler.folder().join("script");
    fs::write(&script, "exit 9\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let outcome = profiler.args(["--", &script.to_string_lossy()]).run()?;
    assert_eq!(outcome.code()?, 9, "{}", outcome.stderr);
    Ok(())
}

#[test]
fn of_a_script_whose_interpreter_is_missing_the_interpreter_is_named() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    for (line, named) in [("#!/nonexistent", "\"/nonexistent\""), ("#!/bin/sh\r", "\"/bin/sh\\r\"")] {
        let profiler = Profiler::record()?;
        let script = profiler.folder().join("script");
        fs::write(&script, format!("{line}\nexit 0\n"))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let outcome = profiler.args(["--", "./script"]).run()?;
        fs::remove_file(&script)?;
        outcome.failed(127, named)?;
        ensure!(!outcome.stderr.contains("no such command"), "{}", outcome.stderr);
    }
    Ok(())
}

#[test]
fn signals_reach_the_command_after_the_recording_too() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    let mut running =
        Profiler::record()?.args(["-d", "0.2", "--", "sh", "-c", "trap 'exit 43' USR1; while :; do sleep 0.05; done"]).start()?;
    running.wait_until_recording()?;
    waiting::until("the recording to end", || Ok(running.folder()?.join("cpu.prof").exists().then_some(())))?;
    running.signal(Signal::USR1)?;
    let outcome = running.finish()?;
    assert_eq!(outcome.code()?, 43, "{}", outcome.stderr);
    Ok(())
}

#[test]
fn they_reach_it_when_the_profile_went_to_standard_output() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    let script = "trap 'exit 44' TERM; while :; do sleep 0.05; done";
    let mut running = Profiler::record()?.args(["-d", "0.2", "-o", "-", "--", "sh", "-c", script]).start()?;
    running.wait_until_recording()?;
    waiting::until("the profile", || Ok(running.stderr_so_far().contains("samples of").then_some(())))?;
    running.signal(Signal::TERM)?;
    let outcome = running.finish()?;
    assert_eq!(outcome.code()?, 44, "{}", outcome.stderr);
    Profile::parse(&outcome.stdout)?;
    Ok(())
}

#[test]
fn a_standard_error_that_is_full_costs_neither_the_profile_nor_the_status() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    let profiler = Profiler::record()?;
    let script = format!("{} record -d 1 -- sh -c 'exit 7' 2>/dev/full; echo $?", profiler_tests::run::binary().display());
    let output = std::process::Command::new("sh").current_dir(profiler.folder().path()).args(["-c", &script]).output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "7");
    ensure!(profiler.folder().join("cpu.prof").exists(), "no profile");
    Ok(())
}

#[test]
fn what_was_ignored_before_is_ignored_still() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let script = format!("trap '' HUP; exec {} record -F 199 -d 2", profiler_tests::run::binary().display());
    let mut running = Profiler::shell(&script)?.start()?;
    running.wait_until_recording()?;
    running.signal(Signal::HUP)?;
    let profile = running.finish()?.success()?.profile()?;
    ensure!(profile.duration_ns > 1_900_000_000, "a signal that was to be ignored ended it after {} ns", profile.duration_ns);
    Ok(())
}

#[test]
fn two_dashes_without_a_command_are_a_mistake() -> Result<()> {
    Profiler::record()?.args(["-d", "1", "--"]).run()?.failed(2, "command")
}

#[test]
fn what_runs_before_the_command_is_no_part_of_it() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    for _ in 0..5 {
        let outcome = Profiler::record()?.args(["-F", "4999", "--", &spin()?, "0.2"]).run()?.success()?;
        let profile = outcome.profile()?;
        let comms = profile.label_values("comm");
        ensure!(comms.keys().all(|comm| comm == "spin" || comm.is_empty()), "{comms:?}");
    }
    Ok(())
}

#[test]
fn signals_of_every_kind_reach_the_command() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    for (signal, name) in [(Signal::ALARM, "ALRM"), (Signal::WINCH, "WINCH"), (Signal::IO, "IO"), (Signal::VTALARM, "VTALRM")] {
        let profiler = Profiler::record()?;
        let started = profiler.folder().join("started");
        let script = format!("trap 'exit 42' {name}; touch {}; while :; do :; done", started.display());
        let mut running = profiler.args(["-F", "199", "--", "sh", "-c", &script]).start()?;
        running.wait_until_recording()?;
        waiting::until("the command to start", || Ok(started.exists().then_some(())))?;
        running.signal(signal)?;
        let outcome = running.finish()?;
        assert_eq!(outcome.code()?, 42, "{name}: {}", outcome.stderr);
        outcome.profile()?;
    }
    Ok(())
}

#[test]
fn the_command_has_the_signals_ignored_that_were_ignored_before_us_and_no_other() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    // SIGPIPE is ignored by Rust's runtime, SIGXFSZ by the profiler itself; SIGUSR1 by nobody.
    let numbered = [("PIPE", 13), ("XFSZ", 25), ("USR1", 10)];
    for ignored in ["", "PIPE", "XFSZ", "PIPE XFSZ USR1"] {
        let trap = if ignored.is_empty() { String::new() } else { format!("trap '' {ignored}; ") };
        let script = format!("{trap}exec {} record -- cat /proc/self/status", profiler_tests::run::binary().display());
        // The test's own runtime starts its children with the default for SIGPIPE.
        let outcome = Profiler::shell(&script)?.start()?.finish()?.success()?;
        let status = String::from_utf8(outcome.stdout)?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim).unwrap_or("none");
        let mask = u64::from_str_radix(mask, 16)?;
        for (name, number) in numbered {
            let is_ignored = mask & 1 << (number - 1) != 0;
            ensure!(is_ignored == ignored.contains(name), "SIG{name} in the command, with `{ignored}` ignored before: {is_ignored}");
        }
    }
    Ok(())
}
