//! What the kernel's statistics say of one program.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

/// One program's runs and time while statistics were on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramCost {
    /// Its name.
    pub name: String,
    /// How often it ran.
    pub runs: u64,
    /// For how long, all CPUs together.
    pub time: Duration,
    /// Instructions that the verifier walked through.
    pub verified_instructions: u32,
}

/// What the kernel says of a program that we have loaded ourselves (`bpf_prog_show_fdinfo` in kernel/bpf/syscall.c; Linux 5.1 and later).
pub(super) fn of_descriptor(name: &str, program: &OwnedFd) -> Option<ProgramCost> {
    Some(ProgramCost {
        name: name.to_owned(),
        runs: number(program, "run_cnt")?,
        time: Duration::from_nanos(number(program, "run_time_ns")?),
        verified_instructions: number(program, "verified_insns").unwrap_or(0) as u32,
    })
}

/// A number that the kernel says of a program.
pub(super) fn number(program: &OwnedFd, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
}
