//! Probes of allocators in a recording, beside their functions: where they are, and marks at which programs tell of their own blocks.

use super::capture::Capture;
use super::custom::CustomProbes;
use super::embedded::EMBEDDED_OBJECT;
use super::error::BpfError;
use super::probes::{Probes, Returns};
use super::program::Programs;
use crate::model::allocator::{AllocatorFunction, AllocatorMark, ProbePlace};
use crate::model::process::Pid;
use std::os::fd::BorrowedFd;

impl Programs {
    /// Disarms all that counts calls.
    pub(super) fn disarm_calls(&mut self) {
        self.probes.iter_mut().for_each(Probes::disarm_all);
        self.custom.iter_mut().for_each(CustomProbes::disarm_marks);
    }
}

impl Capture {
    /// Processes in which functions of an allocator are probed now.
    pub fn probed(&self) -> usize {
        self.programs.probes.as_ref().map_or(0, Probes::processes)
    }

    /// Where a function of an allocator is probed, if it is.
    pub fn place_of(&self, function: &AllocatorFunction) -> Option<ProbePlace> {
        self.programs.probes.as_ref()?.place_of(function)
    }

    /// Arms the marks of a file in a process; the file is that which it maps.
    ///
    /// # Errors
    /// The kernel refuses, or the process has ended.
    pub fn arm_marks(&mut self, pid: Pid, file: BorrowedFd<'_>, marks: &[AllocatorMark]) -> Result<(), BpfError> {
        let are_followed = self.programs.probes.as_ref().is_some_and(|probes| probes.returns() != Returns::NotSeen);
        let Some(custom) = &mut self.programs.custom else { return Ok(()) };
        custom.load_for_marks(EMBEDDED_OBJECT)?;
        custom.arm_marks(pid, file, (marks, are_followed))
    }

    /// Takes them away: the process has ended.
    pub fn disarm_marks(&mut self, pid: Pid) {
        if let Some(custom) = &mut self.programs.custom {
            custom.told.close_aside(pid);
        }
    }
}
