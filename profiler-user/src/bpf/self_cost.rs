//! What the programs themselves cost, by the kernel's own statistics.

use super::custom::CustomProbes;
use super::error::BpfError;
use super::options::CaptureOptions;
use super::probes::Probes;
use super::program::Programs;
use super::program_cost::{ProgramCost, number, of_descriptor};
use std::os::fd::{AsFd as _, OwnedFd};

/// Where the kernel says whether it takes them for somebody else, or for everybody.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Has the kernel take statistics of programs for as long as the descriptor is there, where they are asked for.
///
/// # Errors
/// A budget is to be kept, and it does not take any.
pub(super) fn statistics(options: &CaptureOptions) -> Result<Option<OwnedFd>, BpfError> {
    if !options.self_cost && !options.budget {
        return Ok(None);
    }
    let is_on = || std::fs::read_to_string(SWITCH).is_ok_and(|switch| switch.trim() == "1");
    match aya::sys::enable_stats(aya::sys::Stats::RunTime) {
        Ok(descriptor) => Ok(Some(descriptor)),
        Err(_) if !options.budget || is_on() => Ok(None),
        Err(error) => Err(BpfError::NoStatistics(error.to_string())),
    }
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
    let of_custom = programs.custom.iter().flat_map(CustomProbes::programs);
    let of_probes = programs.probes.iter().flat_map(Probes::programs);
    let of_probes = of_probes.chain(of_custom).filter_map(|(name, program)| of_descriptor(name, program));
    costs.chain(of_probes).collect()
}

/// How often the kernel did not run a program because it was running on that CPU already.
pub(super) fn missed(programs: &Programs, name: &str) -> u64 {
    let Some((_, program)) = programs.each().find(|(known, _)| *known == name) else { return 0 };
    let descriptor = program.fd().ok().and_then(|descriptor| descriptor.as_fd().try_clone_to_owned().ok());
    descriptor.and_then(|descriptor| number(&descriptor, "recursion_misses")).unwrap_or(0)
}
