//! P5: growth. A recording of one steady process while 50 programs a second are started beside it, so that what we keep of processes, files, tables and lists
//! goes through tens of thousands of them, and the window, which is to grow, does not. `SOAK_MINUTES` says how long; beside it the same with everything
//! recorded, whose window holds a row for each process that was sampled.

use super::Row;
use super::footprint::Footprint;
use anyhow::{Context, Result};
use profiler_tests::run::{Profiler, Running};
use profiler_tests::subject::{Build, Subject, build};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

const MINUTES: f64 = 10.0;
const EXECS_PER_SECOND: u64 = 50;
/// Goal, MB in ten minutes.
const GROWTH_MB_MAX: f64 = 1.0;

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let minutes = match std::env::var("SOAK_MINUTES") {
        Ok(minutes) => minutes.parse().context("SOAK_MINUTES is no number")?,
        Err(_) => MINUTES,
    };
    let spin = build("spin", Build::CBare)?;
    let steady = Subject::start(&spin, ["100000"])?;
    let mut one = Profiler::record()?.pid(steady.pid()).args(["-F", "99"]).start()?;
    let mut all = Profiler::record()?.args(["-a", "-F", "99"]).start()?;
    one.wait_until_recording()?;
    all.wait_until_recording()?;
    let length = Duration::from_secs_f64(60.0 * minutes);
    let (stop, started) = (AtomicBool::new(false), AtomicU64::new(0));
    let grown = scope(|scope| {
        scope.spawn(|| execs(&stop, &started));
        // The first tenth fills what is bounded.
        std::thread::sleep(length / 10);
        let first = both(&one, &all);
        std::thread::sleep(length);
        let last = both(&one, &all);
        stop.store(true, Ordering::Relaxed);
        Ok::<_, anyhow::Error>((first?, last?))
    });
    let (first, last) = grown?;
    one.interrupt()?.success()?;
    let samples = all.interrupt()?.success()?.profile()?.balance()?.samples;
    let per_ten = 10.0 / minutes;
    let growth = (last.0.mb() - first.0.mb()) * per_ten;
    let all_growth = (last.1.mb() - first.1.mb()) * per_ten;
    let execs = started.load(Ordering::Relaxed);
    Ok(vec![
        Row::goal("growth in ten minutes, one process recorded", format!("{growth:.2} MB"), "<= 1 MB", growth <= GROWTH_MB_MAX),
        Row::beside("of it at first, and at the end", format!("{}; {}", first.0.parts(), last.0.parts())),
        Row::beside("growth in ten minutes, everything recorded: with the window", format!("{all_growth:.2} MB")),
        Row::beside("of it at first, and at the end", format!("{}; {}", first.1.parts(), last.1.parts())),
        Row::beside("programs started, minutes, samples of everything", format!("{execs}, {minutes}, {samples}")),
    ])
}

fn both(one: &Running, all: &Running) -> Result<(Footprint, Footprint)> {
    Ok((Footprint::of(one.pid())?, Footprint::of(all.pid())?))
}

/// Programs, one after the other, at a steady rate.
fn execs(stop: &AtomicBool, started: &AtomicU64) {
    let begun = Instant::now();
    for number in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // Not every one starts on a machine that is full of processes; those that do are counted.
        let ended = Command::new("true").stdin(Stdio::null()).status();
        started.fetch_add(u64::from(ended.is_ok()), Ordering::Relaxed);
        let next = Duration::from_millis(1000 / EXECS_PER_SECOND) * number;
        std::thread::sleep(next.saturating_sub(begun.elapsed()));
    }
}
