//! What a recording takes over at its end: what runtimes have counted themselves, and stacks that ended waits.

use super::go_heap::GoHeaps;
use super::go_waits::{self, GoWaitRows};
use super::session::{Session, World};
use crate::aggregate::Aggregator;
use crate::config::Config;
use crate::go::waits::Which;
use crate::memory::MemoryReader;
use crate::process::Context;
use profiler_common::source::Source;

/// From which version on Go's profile of released locks has the runtime's own ones.
const OWN_LOCKS_SINCE: u32 = 22;

impl Session {
    /// Reads what Go's runtime has counted itself in the processes of the target.
    pub(super) fn take_go_heaps(&mut self) -> GoHeaps {
        let mut go = GoHeaps::default();
        let Some(arming) = &self.arming else { return go };
        let mut memory = MemoryReader::new(None);
        for (pid, found) in arming.go_processes(&self.processes) {
            go.add(&mut memory, pid, found);
        }
        let mut world = World { objects: &mut self.objects };
        for tally in &go.stacks {
            let mut context = Context { kernel: self.kernel, threads: self.threads, describe: &mut world };
            let normalized = self.tables.normalize(tally, &mut self.processes, &mut context);
            self.tables.dictionary.logical.insert(normalized.key.stack);
            if let (Some(key), Some(aggregator)) = (tally.counted_under, self.aggregators.get_mut(&tally.source)) {
                aggregator.name(key, normalized.key, normalized.ended);
            }
        }
        go
    }

    /// Stacks that ended waits, and those of waits that were ended by them, get their numbers.
    pub(super) fn take_partners(&mut self, config: &Config) {
        let partners = &mut self.tables.dictionary.partners;
        for (bits, key) in self.aggregators.remove(&Source::WAKERS).map(Aggregator::into_wakers).unwrap_or_default() {
            partners.add_as(bits, key.side());
        }
        for key in self.aggregators.get(&Source::MUTEX).into_iter().flat_map(Aggregator::with_wakers) {
            partners.add(key.side());
        }
        self.tables.dictionary.shows_partners = config.waiting.pairs;
    }

    /// Reads what Go's runtimes have recorded of their goroutines' waits.
    pub(super) fn take_go_waits(&mut self) -> GoWaitRows {
        let Some(recordings) = self.go_waits.as_ref().map(go_waits::GoWaits::end) else { return GoWaitRows::default() };
        let mut rows = Vec::new();
        let mut world = World { objects: &mut self.objects };
        for (pid, minor, recorded) in &recordings.programs {
            for recorded in recorded {
                for (tally, counts) in go_waits::tallies(*pid, recorded) {
                    let mut context = Context { kernel: self.kernel, threads: self.threads, describe: &mut world };
                    let key = self.tables.normalize(&tally, &mut self.processes, &mut context).key;
                    self.tables.dictionary.logical.insert(key.stack);
                    if recorded.which == Which::Mutex && *minor >= OWN_LOCKS_SINCE {
                        self.tables.dictionary.records_own_locks.insert(key.process);
                    }
                    rows.push((tally.source, go_waits::key(key), counts));
                }
            }
        }
        GoWaitRows { rows, notes: recordings.notes }
    }
}
