//! The programs that wait: started, and asked for a round by a line on their standard input.

use anyhow::{Context as _, Result};
use profiler_tests::subject::{Build, Subject, build};
use std::io::Write as _;
use std::process::{ChildStdin, Command};

/// A subject that answers lines.
pub(super) struct Told {
    subject: Subject,
    stdin: ChildStdin,
}

impl Told {
    /// Builds and starts one.
    pub(super) fn start(name: &str, word: &str) -> Result<Self> {
        let mut command = Command::new(build(name, Build::C)?);
        command.arg(word);
        let (subject, stdin) = Subject::start_told(command)?;
        Ok(Self { subject, stdin })
    }

    pub(super) fn pid(&self) -> u32 {
        self.subject.pid()
    }

    /// The first number in its answer, behind that word.
    pub(super) fn ask(&mut self, line: &str, word: &str) -> Result<f64> {
        self.ask_numbers(line, word)?.first().copied().context("it answers no number")
    }

    /// All of them.
    pub(super) fn ask_numbers(&mut self, line: &str, word: &str) -> Result<Vec<f64>> {
        writeln!(self.stdin, "{line}")?;
        let said = self.subject.wait_for_line(word)?;
        Ok(said.trim_start_matches(word).split_whitespace().map_while(|number| number.parse().ok()).collect())
    }
}

/// Two threads that let each other go.
pub(super) struct Handoffs(Told);

impl Handoffs {
    /// Starts them on so many CPUs.
    pub(super) fn start(cpus: u32) -> Result<Self> {
        Ok(Self(Told::start("handoffs", &cpus.to_string())?))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Nanoseconds of each, of so many.
    pub(super) fn took(&mut self, kind: &str, count: u64) -> Result<f64> {
        self.0.ask(&format!("{kind} {count}"), "took ")
    }
}
