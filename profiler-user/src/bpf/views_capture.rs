//! The views of memory that nearly nobody pays for, which a budget may begin in the middle of a recording.

use super::BpfError;
use super::capture::Capture;
use super::sampled_events::SampledEvents;
use crate::config::{Tick, Traced};
use std::collections::btree_map::Entry;

impl Capture {
    /// Lets page faults be sampled from now on, where they were not from the beginning.
    ///
    /// # Errors
    /// The program does not load, or the kernel refuses an event.
    pub fn start_faults(&mut self, frequency_hz: u32) -> Result<(), BpfError> {
        if let Entry::Vacant(place) = self.events.entry(Tick::Faults.source()) {
            let mut events = SampledEvents::open(Tick::Faults, frequency_hz, self.programs.ticked(Tick::Faults)?)?;
            events.enable()?;
            place.insert(events);
        }
        Ok(())
    }

    /// Has address spaces followed from now on, where they were not from the beginning.
    ///
    /// # Errors
    /// A program does not load, or the kernel has no such tracepoint.
    pub fn start_mappings(&mut self) -> Result<(), BpfError> {
        if !self.traced.contains(&Traced::Mappings) {
            self.programs.trace(Traced::Mappings)?;
            self.traced.push(Traced::Mappings);
        }
        Ok(())
    }
}
