//! The subject `mal` under a budget: a program that makes pairs of malloc and free, each followed by some work, and what is armed in it.

use crate::probes::changed;
use crate::run::{Outcome, Profiler, Running};
use crate::subject::{Build, Subject, build};
use crate::waiting;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::process::{ChildStdin, Command};

/// A size for which the allocator has room.
pub const SMALL: u64 = 64;
/// A size for which it asks the kernel each time, and touches what it gets.
pub const HUGE: u64 = 40_000_000;

/// The program.
#[derive(Debug)]
pub struct Pairs {
    /// Its process.
    pub subject: Subject,
    stdin: ChildStdin,
}

impl Pairs {
    /// Starts it; it makes none yet.
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> Result<Self> {
        let mut command = Command::new(build("mal", Build::CBare)?);
        command.arg("10");
        let (subject, stdin) = Subject::start_told(command)?;
        Ok(Self { subject, stdin })
    }

    /// Has it make so many.
    ///
    /// # Errors
    /// It is gone.
    pub fn make(&mut self, calls: u64, size: u64, work_ns: u64) -> Result<()> {
        writeln!(self.stdin, "{calls} {size} {size} {work_ns}")?;
        Ok(())
    }

    /// Records heap while it makes pairs that it does not come to the end of; what is probed is armed.
    ///
    /// # Errors
    /// The profiler does not begin to record.
    pub fn recording(&mut self, size: u64, work_ns: u64, seconds: &str, budget: &str) -> Result<Running> {
        let options = ["-e", "heap", "-d", seconds, "--max-overhead", budget];
        let mut recording = Profiler::record()?.pid(self.subject.pid()).args(options).start()?;
        self.make(u64::MAX >> 20, size, work_ns)?;
        recording.wait_until_recording()?;
        Ok(recording)
    }

    /// The same to the end.
    ///
    /// # Errors
    /// The profiler fails.
    pub fn recorded(&mut self, work_ns: u64, seconds: &str, budget: &str) -> Result<Outcome> {
        self.recording(SMALL, work_ns, seconds, budget)?.finish()?.success()
    }

    /// How many bytes of its code are other than in its files: a breakpoint is one.
    ///
    /// # Errors
    /// It is gone.
    pub fn breakpoints(&self) -> Result<usize> {
        Ok(changed(self.subject.pid())?.0)
    }

    /// Waits until it has so many breakpoints that something holds, while a recording goes on.
    ///
    /// # Errors
    /// It never has.
    pub fn until_breakpoints(&self, recording: &Running, holds: impl Fn(usize) -> bool) -> Result<usize> {
        let look = || {
            is_going_on(recording)?;
            Ok(Some(self.breakpoints()?).filter(|number| holds(*number)))
        };
        waiting::until("its breakpoints", look).with_context(|| recording.stderr_so_far())
    }
}

/// Waits until a recording that goes on says something.
///
/// # Errors
/// It ends without it.
pub fn until_said(recording: &Running, words: &str) -> Result<()> {
    let look = || {
        let is_said = recording.stderr_so_far().contains(words);
        if !is_said {
            is_going_on(recording)?;
        }
        Ok(is_said.then_some(()))
    };
    waiting::until(words, look).with_context(|| recording.stderr_so_far())
}

/// Profiles are written in the end.
fn is_going_on(recording: &Running) -> Result<()> {
    ensure!(!recording.stderr_so_far().contains("wrote "), "the recording is over:\n{}", recording.stderr_so_far());
    Ok(())
}
