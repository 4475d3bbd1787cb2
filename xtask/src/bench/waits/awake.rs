//! CPUs that do not halt: a loop on each that runs only where nobody else wants to.

use anyhow::{Context as _, Result};
use std::process::{Child, Command, Stdio};

/// The loops, ended with the value.
pub(super) struct Awake(Vec<Child>);

impl Awake {
    /// On the first so many CPUs, of the scheduler's idle class: whoever wakes takes the CPU at once, and no loop takes time from anybody.
    pub(super) fn keep(cpus: u32) -> Result<Self> {
        let mut awake = Self(Vec::new());
        for cpu in 0..cpus {
            let mut command = Command::new("chrt");
            command.args(["--idle", "0", "taskset", "-c", &cpu.to_string(), "sh", "-c", "while :; do :; done"]).stdin(Stdio::null());
            awake.0.push(command.spawn().context("chrt, of util-linux")?);
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
