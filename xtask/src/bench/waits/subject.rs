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
    pub(super) fn start(name: &str, words: &[&str]) -> Result<Self> {
        let mut command = Command::new(build(name, Build::C)?);
        command.args(words);
        let (subject, stdin) = Subject::start_told(command)?;
        Ok(Self { subject, stdin })
    }

    pub(super) fn pid(&self) -> u32 {
        self.subject.pid()
    }

    /// The first number in its answer, behind that word.
    pub(super) fn ask(&mut self, line: &str, word: &str) -> Result<f64> {
        writeln!(self.stdin, "{line}")?;
        let said = self.subject.wait_for_line(word)?;
        said.trim_start_matches(word).split_whitespace().next().and_then(|number| number.parse().ok()).with_context(|| said.clone())
    }
}

/// Two threads that let each other go.
pub(super) struct Handoffs(Told);

impl Handoffs {
    /// Starts them on so many CPUs.
    pub(super) fn start(cpus: u32) -> Result<Self> {
        Ok(Self(Told::start("handoffs", &[&cpus.to_string()])?))
    }

    /// The same, and where those are several what is taken of them is measured.
    pub(super) fn start_among(cpus: u32) -> Result<Self> {
        let words: &[&str] = if cpus > 1 { &[&cpus.to_string(), "spare"] } else { &[&cpus.to_string()] };
        Ok(Self(Told::start("handoffs", words)?))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Nanoseconds of each, of so many.
    pub(super) fn took(&mut self, kind: &str, count: u64) -> Result<f64> {
        self.0.ask(&format!("{kind} {count}"), "took ")
    }
}
