//! The views of memory that a budget begins when nothing that needs a trap can be paid: page faults, and address spaces that grow.

use super::session::Session;
use crate::aggregate::Aggregator;
use crate::bpf::BpfError;
use crate::config::Tick;
use profiler_common::source::Source;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant, SystemTime};

impl Session {
    /// Begins those that are not recorded already.
    pub(super) fn begin_views(&mut self) -> Result<(), BpfError> {
        for source in [Source::FAULTS, Source::MAPPINGS] {
            let Entry::Vacant(place) = self.aggregators.entry(source) else { continue };
            place.insert(Aggregator::default());
            self.views.insert(source, (SystemTime::now(), Instant::now()));
            match source {
                Source::FAULTS => self.capture.start_faults(Tick::Faults.usual_frequency_hz())?,
                _ => self.capture.start_mappings()?,
            }
        }
        Ok(())
    }

    /// When each of them began, and how long it has lasted.
    pub(super) fn view_spans(&self) -> BTreeMap<Source, (SystemTime, Duration)> {
        self.views.iter().map(|(source, (start, begun))| (*source, (*start, begun.elapsed()))).collect()
    }
}
