//! Signals while names are found: the first may have come a moment too late to end the recording, and costs nothing; the second gives the profile up, whole.

use anyhow::{Result, bail, ensure};
use profiler_tests::run::{Outcome, Profiler, Running, as_pid};
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build};
use profiler_tests::waiting;
use rustix::process::{Signal, kill_process};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;

/// How often a reader is to be met at its work: it may be done before it is stopped.
const TRIES: u32 = 20;

/// A field of `/proc/PID/status`, in hexadecimal where it is one of signals.
fn status(pid: u32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)).map(|rest| rest.trim().to_owned())
}

/// Children are of the thread that started them.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_thread = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    threads.flat_map(|thread| of_thread(thread).split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Records for a moment without tables, so that the only child is the reader that finds names, and stops that one. None if it was too fast.
fn held_at_its_names(subject: &Subject) -> Result<Option<(Running, u32)>> {
    let args = ["-F", "199", "-d", "0.3", "--frame-pointers"];
    let mut running = Profiler::record()?.pid(subject.pid()).args(args).start()?;
    running.wait_until_recording()?;
    let profiler = running.pid();
    let reader = waiting::until("a reader, or the end", || {
        let first = children(profiler).into_iter().next();
        let has_ended = status(profiler, "State:").is_none_or(|state| state.starts_with('Z'));
        Ok(first.map(Some).or(has_ended.then_some(None)))
    })?;
    let Some(reader) = reader else { return Ok(None) };
    let is_stopped = kill_process(as_pid(reader)?, Signal::STOP).is_ok();
    let stands = waiting::until("the reader to stand", || {
        Ok(match status(reader, "State:") {
            Some(state) if state.starts_with('T') => Some(true),
            Some(state) if !state.starts_with('Z') => None,
            _ => Some(false),
        })
    })?;
    // Who waits for a reader that stands has written nothing.
    let waits = is_stopped && stands && !running.folder()?.join("cpu.prof").exists();
    Ok(waits.then_some((running, reader)))
}

/// A profiler that waits for its reader, which stands, and the reader.
fn held(subject: &Subject) -> Result<(Running, u32)> {
    for _ in 0..TRIES {
        if let Some(held) = held_at_its_names(subject)? {
            return Ok(held);
        }
    }
    bail!("no reader was met at its work in {TRIES} recordings")
}

/// Sends an interrupt; returns when it has been taken. What ends a process stays pending in what is left of it.
fn interrupt(running: &Running) -> Result<()> {
    running.signal(Signal::INT)?;
    let bit = 1u64 << (Signal::INT.as_raw() - 1);
    waiting::until("the interrupt to be taken", || {
        let has_ended = status(running.pid(), "State:").is_none_or(|state| state.starts_with(['Z', 'X']));
        let waiting = status(running.pid(), "ShdPnd:").filter(|_| !has_ended);
        let Some(waiting) = waiting else { return Ok(Some(())) };
        Ok((u64::from_str_radix(&waiting, 16)? & bit == 0).then_some(()))
    })
}

fn goes_on(reader: u32, running: Running) -> Result<Outcome> {
    kill_process(as_pid(reader)?, Signal::CONT)?;
    running.finish()
}

#[test]
fn an_interrupt_that_comes_after_the_end_of_the_recording_costs_nothing() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    let (running, reader) = held(&subject)?;
    interrupt(&running)?;
    let profile = goes_on(reader, running)?.success()?.profile()?;
    let (named, all) = (profile.cumulative().get("spin_here").copied().unwrap_or(0), profile.total(0));
    ensure!(all > 5 && named as f64 > 0.9 * all as f64, "{named} of {all}");
    Ok(())
}

#[test]
fn a_second_interrupt_ends_without_a_profile_and_without_a_part_of_one() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    let (running, _) = held(&subject)?;
    interrupt(&running)?;
    interrupt(&running)?;
    let outcome = running.finish()?;
    assert_eq!(outcome.status.signal(), Some(Signal::INT.as_raw()), "{}: {}", outcome.status, outcome.stderr);
    ensure!(outcome.folder.names()?.is_empty(), "it left {:?}", outcome.folder.names()?);
    Ok(())
}
