//! What a recording's probes of allocators say of themselves.

use super::capture::Capture;
use crate::model::allocator::{AllocatorFunction, ProbePlace};

impl Capture {
    /// Where a function of an allocator is probed, if it is.
    pub fn place_of(&self, function: &AllocatorFunction) -> Option<ProbePlace> {
        self.programs.probes.as_ref()?.place_of(function)
    }
}
