//! What a recording asks of the sampled blocks that live.

use super::BpfError;
use super::capture::Capture;
use super::live_blocks::Ages;

impl Capture {
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
