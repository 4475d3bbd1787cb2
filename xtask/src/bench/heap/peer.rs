//! The peer: a script of bpftrace that follows every block, as those do that look for leaks.

use super::subject::Subject;
use crate::shell::find;
use anyhow::{Context, Result};
use profiler_tests::waiting;
use rustix::process::{Signal, kill_process};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What follows the last breakpoint that is planted.
const SETTLE: Duration = Duration::from_millis(300);

/// bpftrace, if it is here.
pub(super) fn program() -> Option<PathBuf> {
    find("bpftrace")
}

/// What it watches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    /// malloc and free.
    Both,
    /// malloc alone. Its probe of free is on an instruction that some processors' kernels single-step, which alone can take more than all else.
    Malloc,
}

/// It, watching a process; ended with the value.
pub(super) struct Watching(Child);

impl Watching {
    /// Size at the entry, block and stack at the return, and all forgotten when it is freed.
    pub(super) fn start(subject: &Subject, watched: Watched) -> Result<Self> {
        let library = subject.library()?;
        let library = library.display();
        // With `-p` alone version 0.17 counts other processes, too.
        let mut script = format!(
            "uprobe:{library}:malloc /pid == {}/ {{ @size[tid] = arg0; }} \
             uretprobe:{library}:malloc /@size[tid]/ {{ @live[retval] = @size[tid]; @where[retval] = ustack; delete(@size[tid]); }}",
            subject.pid()
        );
        if watched == Watched::Both {
            script += &format!(" uprobe:{library}:free /@live[arg0]/ {{ delete(@live[arg0]); delete(@where[arg0]); }}");
        }
        let before = subject.code()?;
        let mut command = Command::new(program().context("bpftrace is in PATH")?);
        command.args(["-p", &subject.pid().to_string(), "-e", &script]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut watching = Self(child);
        waiting::until("bpftrace to plant its probes", || {
            if let Some(status) = watching.0.try_wait()? {
                anyhow::bail!("bpftrace ended: {status}");
            }
            let planted = subject.code()?.iter().zip(&before).filter(|(now, then)| now != then).count();
            Ok((planted == if watched == Watched::Both { 2 } else { 1 }).then_some(()))
        })?;
        std::thread::sleep(SETTLE);
        Ok(watching)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Ok(pid) = profiler_tests::run::as_pid(self.0.id()) {
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = waiting::for_end("bpftrace", &mut self.0);
    }
}
