//! The peers: a script of bpftrace that takes the time and the stack of each wait in futex(2), and libbpf-tools' offcputime.

use crate::shell::find;
use anyhow::{Result, bail};
use profiler_tests::run::as_pid;
use profiler_tests::waiting;
use rustix::process::{Signal, kill_process};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Until it has attached its programs; neither says when.
const SETTLE: Duration = Duration::from_secs(3);

/// Who else shows where threads wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Bpftrace,
    Offcputime,
}

impl Peer {
    pub(super) const ALL: [Self; 2] = [Self::Bpftrace, Self::Offcputime];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bpftrace => "bpftrace",
            Self::Offcputime => "offcputime",
        }
    }

    /// What we may add of what it adds.
    pub(super) fn share_max(self) -> f64 {
        match self {
            Self::Bpftrace => super::OF_BPFTRACE_MAX,
            Self::Offcputime => super::OF_OFFCPUTIME_MAX,
        }
    }

    pub(super) fn is_here(self) -> bool {
        find(self.name()).is_some()
    }

    /// Has it watch a process, as long as the value lives.
    pub(super) fn watch(self, pid: u32) -> Result<Watching> {
        let mut command = Command::new(self.name());
        match self {
            Self::Bpftrace => {
                // FUTEX_WAIT and FUTEX_WAIT_BITSET, private or not.
                let waits = "(args->op & 127) == 0 || (args->op & 127) == 9";
                command.args(["-e", &format!(
                    "tracepoint:syscalls:sys_enter_futex /pid == {pid} && ({waits})/ {{ @from[tid] = nsecs; }} \
                     tracepoint:syscalls:sys_exit_futex /@from[tid]/ {{ @waited[ustack] = sum(nsecs - @from[tid]); @waits[ustack] = count(); delete(@from[tid]); }}"
                )]);
            }
            Self::Offcputime => {
                command.args(["-p", &pid.to_string()]);
            }
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut watching = Watching(child);
        std::thread::sleep(SETTLE);
        if let Some(status) = watching.0.try_wait()? {
            bail!("{} ended: {status}", self.name());
        }
        Ok(watching)
    }
}

/// It, watching; ended with the value.
pub(super) struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        if let Ok(pid) = as_pid(self.0.id()) {
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = waiting::for_end("a peer", &mut self.0);
    }
}
