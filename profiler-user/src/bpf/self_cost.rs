//! What the programs themselves cost, by the kernel's own statistics.

use super::probes::Probes;
use super::program::Programs;
use super::program_cost::{ProgramCost, of_descriptor};

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
