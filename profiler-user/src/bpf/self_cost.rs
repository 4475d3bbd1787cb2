//! What the programs themselves cost, by the kernel's own statistics.

use super::probes::Probes;
use super::program::Programs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
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

/// Reads the statistics of all loaded programs.
pub(super) fn read(programs: &Programs) -> Vec<ProgramCost> {
    let costs = programs.each().filter_map(|(name, program)| {
        let info = program.info().ok()?;
        Some(ProgramCost {
            name: name.to_owned(),
            runs: info.run_count(),
            time: info.run_time(),
            verified_instructions: info.verified_instruction_count().unwrap_or(0),
        })
    });
    // Those of probes are not aya's.
    let of_probes = programs.probes.iter().flat_map(Probes::programs).filter_map(|(name, program)| of_descriptor(name, program));
    costs.chain(of_probes).collect()
}

/// What the kernel says of a program that we have loaded ourselves (`bpf_prog_show_fdinfo` in kernel/bpf/syscall.c; Linux 5.1 and later).
fn of_descriptor(name: &str, program: &OwnedFd) -> Option<ProgramCost> {
    Some(ProgramCost {
        name: name.to_owned(),
        runs: number(program, "run_cnt")?,
        time: Duration::from_nanos(number(program, "run_time_ns")?),
        verified_instructions: number(program, "verified_insns").unwrap_or(0) as u32,
    })
}

/// How often the kernel did not run a program because it was running on that CPU already.
pub(super) fn missed(programs: &Programs, name: &str) -> u64 {
    let Some((_, program)) = programs.each().find(|(known, _)| *known == name) else { return 0 };
    let descriptor = program.fd().ok().and_then(|descriptor| descriptor.as_fd().try_clone_to_owned().ok());
    descriptor.and_then(|descriptor| number(&descriptor, "recursion_misses")).unwrap_or(0)
}

/// A number that the kernel says of a program.
pub(super) fn number(program: &OwnedFd, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
}
