//! The programs that allocate: started, asked for a round by a line on their standard input, and looked into from outside.

use anyhow::{Context, Result, bail, ensure};
use profiler_tests::subject::{Build, build};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Bytes of a function that are looked at: more than what a probe is put within.
const CODE_BYTES: usize = 32;

/// What a round allocates.
#[derive(Clone, Copy)]
pub(super) struct Round {
    pub(super) calls: u64,
    /// The least and the most of a block, bytes.
    pub(super) sizes: (u64, u64),
    /// Work after each call.
    pub(super) work_ns: u64,
}

/// What a round took.
#[derive(Clone, Copy)]
pub(super) struct Took {
    /// CPU time of a pair of malloc and free, and the work.
    pub(super) ns: f64,
    /// Bytes that were asked for.
    pub(super) bytes: f64,
}

/// A running subject; killed with the value.
pub(super) struct Subject {
    child: Child,
    asked: ChildStdin,
    lines: BufReader<ChildStdout>,
    /// What it printed after `ready`.
    about: String,
}

impl Subject {
    /// Builds and starts one.
    pub(super) fn start(name: &str, args: &[&str]) -> Result<Self> {
        let program = build(name, Build::C)?;
        let mut child = Command::new(&program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let asked = child.stdin.take().context("its input is a pipe")?;
        let lines = BufReader::new(child.stdout.take().context("its output is a pipe")?);
        let mut subject = Self { child, asked, lines, about: String::new() };
        subject.about = subject.line("ready")?;
        Ok(subject)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One round of `mal`.
    pub(super) fn round(&mut self, round: Round) -> Result<Took> {
        let said = self.ask(&format!("{} {} {} {}", round.calls, round.sizes.0, round.sizes.1, round.work_ns))?;
        let mut numbers = said.split_whitespace().filter_map(|word| word.parse().ok());
        let (ns, bytes) = numbers.next().zip(numbers.next()).with_context(|| format!("it said `{said}`"))?;
        Ok(Took { ns, bytes })
    }

    /// The least time of some rounds, and the bytes of all.
    pub(super) fn rounds(&mut self, round: Round, times: usize) -> Result<Took> {
        let mut took = Took { ns: f64::INFINITY, bytes: 0.0 };
        for _ in 0..times {
            let one = self.round(round)?;
            took = Took { ns: took.ns.min(one.ns), bytes: took.bytes + one.bytes };
        }
        Ok(took)
    }

    /// Sends a line, and gives what follows `done`.
    pub(super) fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.asked, "{line}")?;
        self.line("done")
    }

    fn line(&mut self, beginning: &str) -> Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            bail!("the subject ended before it printed `{beginning}`");
        }
        let rest = line.trim_end().strip_prefix(beginning).with_context(|| format!("the subject printed `{line}`"))?;
        Ok(rest.trim().to_owned())
    }

    /// The first bytes of malloc and of free, as they are in its memory.
    pub(super) fn code(&self) -> Result<[[u8; CODE_BYTES]; 2]> {
        let memory = File::open(format!("/proc/{}/mem", self.pid()))?;
        let mut code = [[0; CODE_BYTES]; 2];
        ensure!(self.about.split_whitespace().count() == code.len(), "it is ready with `{}`", self.about);
        for (bytes, address) in code.iter_mut().zip(self.about.split_whitespace()) {
            memory.read_exact_at(bytes, u64::from_str_radix(address, 16)?)?;
        }
        Ok(code)
    }

    /// Whether the kernel has mapped its page for probes there.
    pub(super) fn has_probe_page(&self) -> Result<bool> {
        Ok(std::fs::read_to_string(format!("/proc/{}/maps", self.pid()))?.contains("[uprobes]"))
    }

    /// The C library that it maps.
    pub(super) fn library(&self) -> Result<PathBuf> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid()))?;
        let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/libc"));
        path.map(PathBuf::from).context("the subject maps a C library")
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
