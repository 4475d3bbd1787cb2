//! What the programs themselves cost, by the kernel's own statistics.

use super::program::Programs;
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
    costs.collect()
}
