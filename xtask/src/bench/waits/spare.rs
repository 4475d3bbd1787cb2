//! What is taken of CPUs, in whatever context: by what is left of them for a loop on each that runs only where nobody else wants to. The loops also keep them from
//! halting.
//!
//! CPU time of the threads that are measured is not enough on two CPUs: what a program does when a thread leaves its CPU is charged to the one that comes, and where
//! that is the idle task nobody has it. (It made the peer look four times as cheap there as on one CPU, where the other thread has it.)

use super::subject::Told;
use anyhow::{Context as _, Result};

/// The loops.
pub(super) struct Spare {
    loops: Told,
    cpus: u32,
}

impl Spare {
    /// On the first so many CPUs.
    pub(super) fn start(cpus: u32) -> Result<Self> {
        Ok(Self { loops: Told::start("spare", &cpus.to_string())?, cpus })
    }

    /// What they have had until now, and the time, ns.
    fn had(&mut self) -> Result<(f64, f64)> {
        let said = self.loops.ask_numbers("", "spare ")?;
        Ok((*said.first().context("what they had")?, *said.get(1).context("the time")?))
    }

    /// Nanoseconds of these CPUs that are taken meanwhile.
    pub(super) fn taken(&mut self, meanwhile: impl FnOnce() -> Result<()>) -> Result<f64> {
        let before = self.had()?;
        meanwhile()?;
        let after = self.had()?;
        Ok((after.1 - before.1) * f64::from(self.cpus) - (after.0 - before.0))
    }
}
