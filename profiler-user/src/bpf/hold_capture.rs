//! What a recording asks of the command that is held.

use super::BpfError;
use super::arena::wait_for_programs;
use super::capture::Capture;
use crate::model::process::Pid;
use std::os::fd::BorrowedFd;

impl Capture {
    /// How often the command was stopped.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn stops(&self) -> Result<u64, BpfError> {
        self.programs.hold.as_ref().map_or(Ok(0), |hold| hold.stops())
    }

    /// Has it stopped when its loader comes to this place of its file.
    ///
    /// # Errors
    /// The kernel refuses, or the process has ended.
    pub fn watch_loader(&mut self, pid: Pid, file: BorrowedFd<'_>, offset: u64) -> Result<(), BpfError> {
        self.programs.hold.as_mut().map_or(Ok(()), |hold| hold.watch(pid, file, offset))
    }

    /// It is not stopped any more; gives how often it was.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn end_hold(&mut self) -> Result<u64, BpfError> {
        let Some(mut hold) = self.programs.hold.take() else { return Ok(0) };
        hold.let_go();
        self.programs.stop_noting_execs();
        // One that has begun may stop it still.
        wait_for_programs();
        hold.stops()
    }
}
