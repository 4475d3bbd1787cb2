//! Custom profiles of a recording: their probes are armed and taken away, process by process.

use super::BpfError;
use super::capture::Capture;
use super::custom::Spotted;
use crate::model::process::Pid;
use std::os::fd::BorrowedFd;

impl Capture {
    /// Arms the probes of custom profiles in a process; the file is that which it maps.
    ///
    /// # Errors
    /// The kernel refuses, the process has ended, or an argument is not there.
    pub fn arm_custom(&mut self, pid: Pid, file: BorrowedFd<'_>, spotted: &[Spotted]) -> Result<(), BpfError> {
        self.programs.custom.as_mut().map_or(Ok(()), |custom| custom.arm(pid, file, spotted))
    }

    /// A process has ended: its probes go, and its keys make room.
    pub fn disarm_custom(&mut self, pid: Pid) {
        if let Some(custom) = &mut self.programs.custom {
            custom.disarm(pid);
            self.programs.live.note_exit(pid.0);
        }
    }
}
