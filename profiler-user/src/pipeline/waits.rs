//! What a session knows of waits beyond what the kernel has counted: threads that were there before, and what is counted of waits that are not
//! over, under keys of our own beside the kernel's.

use super::finishing::Sample;
use super::session::{Session, World};
use crate::bpf::SeenThread;
use crate::model::event::MonotonicNs;
use crate::model::process::Tid;
use crate::model::stack::{RawAddresses, RawStack, Tally, UserStack};
use crate::process::{Context, Met};
use profiler_common::ended::Ended;
use profiler_common::sampling::ONE_BLOCK;
use profiler_common::source::Source;
use profiler_common::tally::TallyKey;
use profiler_common::wait::{CLASS_EXISTING, DelayCounts};
use std::sync::Arc;

const NO_MEMORY: &str = "[not walked: no memory left]";
const EXISTING: &str = "[existing thread]";

/// A thread as what is counted under a key.
pub(super) fn raw(seen: &SeenThread, user: UserStack, (time_ns, key): (u64, Option<TallyKey>)) -> Tally<RawStack> {
    let addresses = RawAddresses { hash: 0, kernel: seen.kernel.clone(), list: 0, user };
    let of =
        RawStack { process: seen.record.process, tid: Tid(seen.record.tid), time: MonotonicNs(time_ns), addresses: Arc::new(addresses) };
    let source = key.and_then(|key| Source::try_from(key.source()).ok()).unwrap_or(Source::OFF_CPU);
    Tally { of, events: 0, weight: 0, source, class: 0, counted_under: key }
}

pub(super) fn no_user_part() -> UserStack {
    UserStack::Walked { addresses: Vec::new(), ended: Ended::NoUserStack }
}

impl Session {
    /// Counts threads that are there when the recording begins. Who created them nobody has seen.
    pub(super) fn take_existing(&mut self) {
        for (number, seen) in self.capture.existing().into_iter().enumerate() {
            let key = TallyKey::new(Source::THREADS, number as u64 + 1, CLASS_EXISTING);
            let tally = raw(&seen, no_user_part(), (seen.record.now_ns, Some(key)));
            let met = self.meet_sleeper(&tally.of);
            self.name((met, tally), &[key], Some(EXISTING));
            let one = DelayCounts { events: 1, events_for: ONE_BLOCK, ns_for: 1, ..DelayCounts::default() };
            self.beside.push(key, one);
        }
    }

    pub(super) fn meet_sleeper(&mut self, of: &RawStack) -> Met {
        let mut world = World { objects: &mut self.objects };
        let mut context = Context { kernel: self.kernel, threads: self.threads, describe: &mut world };
        self.tables.meet(of, &mut self.processes, &mut context)
    }

    /// Says what is counted under some keys: a stack, or why there is none.
    pub(super) fn name(&mut self, (met, tally): Sample, keys: &[TallyKey], reason: Option<&'static str>) {
        let reason = if self.is_full() { reason.or(Some(NO_MEMORY)) } else { reason };
        for key in keys {
            let Some(aggregator) = Source::try_from(key.source()).ok().and_then(|source| self.aggregators.get_mut(&source)) else {
                continue;
            };
            let mut tally = Tally { counted_under: Some(*key), ..tally.clone() };
            if key.source() != Source::OFF_CPU.number() {
                let addresses = RawAddresses { kernel: Vec::new(), ..(*tally.of.addresses).clone() };
                tally.of.addresses = Arc::new(addresses);
            }
            let normalized = match reason {
                Some(reason) => self.tables.place_unknown(&met, &tally, self.kernel, reason),
                None => self.tables.place(&met, &tally, self.kernel),
            };
            aggregator.name(*key, normalized.key, normalized.ended);
        }
    }
}
