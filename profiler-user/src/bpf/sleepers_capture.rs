//! Threads that sleep when a recording of waits begins, and those that still do when it is over.

use super::BpfError;
use super::capture::Capture;
use super::sleepers::{Sleeper, Sleepers};
use super::threads::SeenThread;

impl Capture {
    /// Makes room for words at which threads wait, where it is short.
    ///
    /// # Errors
    /// The maps of the kernel side cannot be written.
    pub fn tidy(&mut self) -> Result<(), BpfError> {
        self.programs.waits.tidy()
    }

    /// Threads that were there when the recording began, where they are asked for.
    pub fn existing(&mut self) -> Vec<SeenThread> {
        self.sleepers.as_mut().map(Sleepers::existing).unwrap_or_default()
    }

    /// Threads that were off their CPU when the counting stopped; and when that was, on `CLOCK_MONOTONIC`, ns.
    ///
    /// # Errors
    /// The iterator fails.
    pub fn sleepers(&mut self) -> Result<(Vec<Sleeper>, u64), BpfError> {
        let left = self.sleepers.as_ref().map_or(Ok(Vec::new()), Sleepers::left)?;
        Ok((left, self.stopped_ns))
    }

    /// Whether such a thread has come back since, or is gone: then what its stack holds is not what it held.
    pub fn has_gone_on(&self, sleeper: &Sleeper) -> bool {
        self.programs.waits.has_gone_on(sleeper.seen.record.tid, sleeper.sleep.task)
    }
}
