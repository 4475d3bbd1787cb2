//! Subjects: small programs that do one known thing, built once from `tests/subjects/` and kept below `target/`, named by a hash of source and flags.

use crate::manifest::{hash_bytes, root};
use crate::run::as_pid;
use crate::waiting::{self, HANG};
use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, kill_process};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Instant;

/// How a subject becomes a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Build {
    /// C with frame pointers, optimized, with debug information.
    C,
    /// C with frame pointers and without any symbol.
    CStripped,
    /// C without frame pointers, as distributions build it, optimized, with debug information.
    CBare,
    /// C++ as distributions build it, like [`Self::CBare`].
    CxxBare,
    /// Rust with frame pointers, optimized, with debug information.
    Rust,
    /// Go as `go build` does it.
    Go,
    /// Go with `-s -w`: no symbol table and no DWARF.
    GoStripped,
}

impl Build {
    /// The ending of the source file.
    fn ending(self) -> &'static str {
        match self {
            Self::C | Self::CStripped | Self::CBare => "c",
            Self::CxxBare => "cpp",
            Self::Rust => "rs",
            Self::Go | Self::GoStripped => "go",
        }
    }

    /// The program that builds it; what a test needs.
    pub fn tool(self) -> &'static str {
        match self {
            Self::C | Self::CStripped | Self::CBare => "gcc",
            Self::CxxBare => "g++",
            Self::Rust => "rustc",
            Self::Go | Self::GoStripped => "go",
        }
    }

    /// The words between the tool and `-o OUT SOURCE`.
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::C => &["-O2", "-g", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread"],
            Self::CStripped => &["-O2", "-s", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread"],
            Self::CBare | Self::CxxBare => &["-O2", "-g", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread"],
            Self::Rust => &["-O", "-g", "-Cforce-frame-pointers=yes", "--edition=2021"],
            Self::Go => &["build", "-trimpath"],
            Self::GoStripped => &["build", "-trimpath", "-ldflags=-s -w"],
        }
    }
}

/// The source of a subject.
pub fn source(name: &str, build: Build) -> PathBuf {
    root().join("tests/subjects").join(format!("{name}.{}", build.ending()))
}

/// The built program. Several tests may ask at once: each builds under a name of its own, and the first one that is done stays. (Another file in its place would
/// be none that a process maps which runs already.)
///
/// # Errors
/// Its tool is missing or fails.
pub fn build(name: &str, build: Build) -> Result<PathBuf> {
    let source = source(name, build);
    let text = fs::read(&source).with_context(|| format!("reading {}", source.display()))?;
    let key = hash_bytes(&[text.as_slice(), format!("{build:?}{:?}", build.flags()).as_bytes()].concat());
    let folder = root().join("target/profiler-tests/subjects").join(key);
    let built = folder.join(name);
    if built.is_file() {
        return Ok(built);
    }
    fs::create_dir_all(&folder)?;
    let fresh = folder.join(format!("{name}.{}.{:?}", std::process::id(), std::thread::current().id()));
    let mut command = Command::new(build.tool());
    command.args(build.flags()).arg("-o").arg(&fresh).arg(&source);
    // A source that stands alone: no module, no cache of another user, no network.
    command.env("GO111MODULE", "off").env("GOFLAGS", "").env("GOTOOLCHAIN", "local");
    let output = command.output().with_context(|| format!("starting {}", build.tool()))?;
    ensure!(output.status.success(), "building the subject {name} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    match fs::hard_link(&fresh, &built) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => fs::remove_file(&fresh)?,
    }
    Ok(built)
}

/// The folder with a compiled class for a JVM.
///
/// # Errors
/// javac is not there or refuses it; with what it said.
pub fn java(class: &str) -> Result<PathBuf> {
    let source = root().join("tests/subjects").join(class).with_extension("java");
    let folder = root().join("target/profiler-tests/subjects").join(hash_bytes(&fs::read(&source)?));
    if !folder.join(class).with_extension("class").is_file() {
        let output = Command::new("javac").arg("-d").arg(&folder).arg(&source).output().context("starting javac")?;
        ensure!(output.status.success(), "javac failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(folder)
}

/// A subject that needs crates: a folder with a manifest and a lock file of its own. Cargo knows itself whether it is built.
///
/// # Errors
/// It does not build, or its crates cannot be had.
pub fn build_crate(name: &str) -> Result<PathBuf> {
    let target = root().join("target/profiler-tests/crates");
    let manifest = root().join("tests/subjects").join(name).join("Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "building the subject {name} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(target.join("release").join(name))
}

/// A running subject, killed with the value.
#[derive(Debug)]
pub struct Subject {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
}

impl Subject {
    /// Starts a program and waits until it prints the line `ready`.
    ///
    /// # Errors
    /// It cannot be started, or ends before it is ready.
    pub fn start<A: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = A>) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(args);
        Self::start_command(command)
    }

    /// The same with a command that the test has prepared.
    ///
    /// # Errors
    /// It cannot be started, or ends before it is ready.
    pub fn start_command(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| format!("starting {command:?}"))?;
        let lines = Some(BufReader::new(child.stdout.take().context("its output is a pipe")?));
        let mut subject = Self { child, lines };
        subject.wait_for_line("ready")?;
        Ok(subject)
    }

    /// The same of one that is told by lines when to go on: gives where they are written, too.
    ///
    /// # Errors
    /// It cannot be started, or ends before it is ready.
    pub fn start_told(mut command: Command) -> Result<(Self, ChildStdin)> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().with_context(|| format!("starting {command:?}"))?;
        let stdin = child.stdin.take().context("its input is a pipe")?;
        let lines = Some(BufReader::new(child.stdout.take().context("its output is a pipe")?));
        let mut subject = Self { child, lines };
        subject.wait_for_line("ready")?;
        Ok((subject, stdin))
    }

    /// Takes over a process whose output the test has read itself.
    pub fn adopt(child: Child) -> Self {
        Self { child, lines: None }
    }

    /// Reads its output up to a line that begins so, and gives that line.
    ///
    /// # Errors
    /// It ends before, or does not print it within [`HANG`].
    pub fn wait_for_line(&mut self, beginning: &str) -> Result<String> {
        let (pid, end) = (self.pid(), Instant::now() + HANG);
        let lines = self.lines.as_mut().context("the test reads its output itself")?;
        loop {
            let line = next_line(lines, end).with_context(|| format!("the line `{beginning}` of {}", name_of(pid)))?;
            let Some(line) = line else { bail!("{} ended before it printed `{beginning}`", name_of(pid)) };
            if line.starts_with(beginning) {
                return Ok(line.trim_end().to_owned());
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(as_pid(self.pid())?, signal).context("signalling the subject")
    }

    /// Asks it to end (SIGTERM) and gives what else it printed.
    ///
    /// # Errors
    /// It hangs.
    pub fn stop(mut self) -> Result<(ExitStatus, String)> {
        self.signal(Signal::TERM)?;
        let (mut rest, pid, end) = (String::new(), self.pid(), Instant::now() + HANG);
        let mut lines = self.lines.take().context("the test reads its output itself")?;
        while let Some(line) = next_line(&mut lines, end).with_context(|| format!("the last lines of {}", name_of(pid)))? {
            rest += &line;
        }
        Ok((waiting::for_end("the subject", &mut self.child)?, rest))
    }
}

/// The next line of a subject's output, with its end; none behind the last one. A read of a pipe has no bound of its own: it is waited for until there is something.
fn next_line(lines: &mut BufReader<ChildStdout>, end: Instant) -> Result<Option<String>> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if lines.buffer().is_empty() {
            let left = end.checked_duration_since(Instant::now()).with_context(|| format!("hang: waited {HANG:?}"))?;
            let mut is_there = [PollFd::new(lines.get_ref(), PollFlags::IN)];
            match poll(&mut is_there, Some(&left.try_into()?)) {
                // Looked at again: the time is over.
                Ok(0) | Err(Errno::INTR) => continue,
                found => found?,
            };
        }
        let there = lines.fill_buf()?;
        if there.is_empty() {
            break;
        }
        let taken = there.iter().position(|byte| *byte == b'\n').map_or(there.len(), |at| at + 1);
        line.extend_from_slice(&there[..taken]);
        lines.consume(taken);
    }
    if line.is_empty() { Ok(None) } else { Ok(Some(String::from_utf8(line)?)) }
}

/// What to call a subject that went wrong: its command line, as long as it is there.
fn name_of(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("the subject {pid} ({})", String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " "))
}

impl Drop for Subject {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_does_not_come_is_not_waited_for_for_ever() -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'ready\\none\\ntwo\\nthr'; exec sleep 1000"]);
        let mut subject = Subject::start_command(command)?;
        ensure!(subject.wait_for_line("tw")? == "two");
        let lines = subject.lines.as_mut().context("its output")?;
        let error = next_line(lines, Instant::now()).err().context("a line that has no end")?;
        ensure!(error.to_string().contains("hang"), "{error:?}");
        Ok(())
    }

    #[test]
    fn a_subject_that_ends_is_not_waited_for() -> Result<()> {
        let mut subject = Subject::start(Path::new("sh"), ["-c", "echo ready; printf last"])?;
        ensure!(subject.wait_for_line("last")? == "last", "a last line without an end");
        let error = subject.wait_for_line("more").err().context("a line behind the last one")?;
        ensure!(error.to_string().contains("ended before it printed `more`"), "{error:?}");
        Ok(())
    }
}
