//! The views of memory that a budget begins when nothing that needs a trap can be paid: page faults, and address spaces that grow.

use super::session::Session;
use crate::aggregate::Aggregator;
use crate::config::Tick;
use crate::model::kind::Kind;
use profiler_common::source::Source;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant, SystemTime};

impl Session {
    /// Begins those that are not recorded already. One that cannot be begun is no reason to give up what was recorded before.
    pub(super) fn begin_views(&mut self) {
        for source in [Source::FAULTS, Source::MAPPINGS] {
            let Entry::Vacant(place) = self.aggregators.entry(source) else { continue };
            let (name, begun) = match source {
                Source::FAULTS => (Kind::Faults, self.capture.start_faults(Tick::Faults.usual_frequency_hz())),
                _ => (Kind::Mmap, self.capture.start_mappings()),
            };
            match begun {
                Ok(()) => {
                    place.insert(Aggregator::default());
                    self.views.insert(source, (SystemTime::now(), Instant::now()));
                }
                Err(trouble) => self.troubles.push(format!("{} is not recorded: {trouble}", name.name())),
            }
        }
    }

    /// When each of them began, and how long it lasted until then.
    pub(super) fn view_spans(&self, stopped: Instant) -> BTreeMap<Source, (SystemTime, Duration)> {
        self.views.iter().map(|(source, (start, begun))| (*source, (*start, stopped.saturating_duration_since(*begun)))).collect()
    }
}
