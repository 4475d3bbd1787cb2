//! gdb beside a recording with `--stop-at-sample`: it walks each stack at the instant of the sample, by its own reading of the same files.

use crate::run::Folder;
use crate::waiting;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What gdb is told to do.
const SCRIPT: &str = include_str!("gdb.py");

/// Where a frame stands: an offset in a file, or an address and no file. Of a caller it is the last byte of its call.
pub type Place = (u64, String);
/// A stack, leaf first.
pub type Stack = Vec<Place>;

/// One stack that gdb walked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Walk {
    /// Its frames.
    pub stack: Stack,
    /// Why gdb went no further, in its words; nothing where it saw the end.
    pub stopped: Option<String>,
}

impl Walk {
    /// Reads a line of the script.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(line: &str) -> Result<Self> {
        let mut walk = Self::default();
        for word in line.split('\t') {
            if let Some(reason) = word.strip_prefix('!') {
                walk.stopped = Some(reason.to_owned());
                continue;
            }
            let (offset, file) = word.split_once(':').with_context(|| format!("no stack: {line}"))?;
            walk.stack.push((u64::from_str_radix(offset, 16)?, file.to_owned()));
        }
        Ok(walk)
    }
}

/// A running gdb; killed with the value.
#[derive(Debug)]
pub struct Gdb {
    child: Child,
    folder: Folder,
}

impl Gdb {
    /// Attaches to a process and lets it go on. With `frames_of`, gdb takes what it knows of the executable from that file instead.
    ///
    /// # Errors
    /// gdb cannot be started, or does not attach.
    pub fn attach(pid: u32, frames_of: Option<&Path>) -> Result<Self> {
        let folder = Folder::create()?;
        fs::write(folder.join("walk.py"), SCRIPT)?;
        let mut command = Command::new("gdb");
        command.args(["-nx", "-q", "-batch", "-x"]).arg(folder.join("walk.py")).stdin(Stdio::null());
        command.env("TARGET", pid.to_string()).env("STACKS", folder.join("stacks")).env_remove("DEBUGINFOD_URLS");
        command.envs(frames_of.map(|file| ("FRAMES_OF", file)));
        let said = File::create(folder.join("said"))?;
        let child = command.stdout(said.try_clone()?).stderr(said).spawn().context("starting gdb")?;
        let mut gdb = Self { child, folder };
        waiting::until("gdb to attach", || {
            if gdb.has_ended()? {
                bail!("gdb did not attach: {}", gdb.said());
            }
            Ok((!gdb.lines().is_empty()).then_some(()))
        })?;
        Ok(gdb)
    }

    /// Whether it is gone, as it is when its target has ended.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// How many stacks it has walked by now.
    pub fn walked(&self) -> usize {
        self.lines().len().saturating_sub(1)
    }

    /// Waits for its end, which is that of its target, and gives what it walked.
    ///
    /// # Errors
    /// It hangs, or wrote nonsense.
    pub fn finish(mut self) -> Result<Vec<Walk>> {
        waiting::for_end("gdb", &mut self.child)?;
        let walks: Result<Vec<Walk>> = self.lines().iter().skip(1).map(|line| Walk::parse(line)).collect();
        walks.with_context(|| self.said())
    }

    /// What it printed.
    fn said(&self) -> String {
        fs::read_to_string(self.folder.join("said")).unwrap_or_default()
    }

    /// The whole lines that its script has written.
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("stacks")).unwrap_or_default();
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }
}

impl Drop for Gdb {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
