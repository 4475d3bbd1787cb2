//! What a recording asks of the sampled blocks that live.

use super::BpfError;
use super::capture::Capture;
use super::live_blocks::Ages;
use crate::model::event::MonotonicNs;
use crate::model::process::Pid;

impl Capture {
    /// A process has become another program: what it had allocated before takes no room from now on.
    pub fn note_exec(&mut self, pid: Pid, at: MonotonicNs) {
        self.programs.live.note_exec(pid.0, at);
    }

    /// One sampled block that lives in 2 to the power of this is followed, where there is no room for more.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn live_level(&self) -> Result<u32, BpfError> {
        self.programs.live.level()
    }

    /// How old the sampled blocks are that live, where that was asked for. Nothing writes any more.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn ages(&self) -> Result<Option<Ages>, BpfError> {
        self.programs.live.ages()
    }
}
