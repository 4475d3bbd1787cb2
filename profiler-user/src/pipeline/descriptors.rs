//! Which of the descriptors that were got are open at the end: the kernel side does not see what an exec closes.

use crate::model::event::{MonotonicNs, ProcessEvent, TimedEvent};
use crate::model::process::Pid;
use profiler_common::descriptor::{Descriptor, DescriptorKey};
use profiler_common::tally::TallyKey;
use std::collections::HashMap;

/// When each process has last become another program; kept where descriptors are recorded, also of processes that have ended, whose descriptors count.
pub(super) struct Execs(Option<HashMap<Pid, MonotonicNs>>);

impl Execs {
    /// `are_recorded`: descriptors are, and somebody will ask. Otherwise nothing is kept: it would be an entry for each process that there ever was.
    pub(super) fn new(are_recorded: bool) -> Self {
        Self(are_recorded.then(HashMap::new))
    }

    /// Something has happened to a process.
    pub(super) fn note(&mut self, event: &TimedEvent) {
        if let (Some(execs), ProcessEvent::Exec { pid, .. }) = (&mut self.0, &event.event) {
            execs.insert(*pid, event.time);
        }
    }

    /// Where those were got that are open. What a process had open when it ended counts: it is what it left behind.
    pub(super) fn open<'a>(&'a self, all: &'a [(DescriptorKey, Descriptor)]) -> impl Iterator<Item = TallyKey> + 'a {
        let exec_of = |tgid: u32| self.0.as_ref().and_then(|execs| execs.get(&Pid(tgid)));
        let was_closed = move |key: &DescriptorKey, descriptor: &Descriptor| {
            descriptor.closes_at_exec != 0 && exec_of(key.tgid).is_some_and(|exec| exec.0 > descriptor.since_ns)
        };
        all.iter().filter(move |(key, descriptor)| !was_closed(key, descriptor)).map(|(_, descriptor)| descriptor.tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::source::Source;

    fn exec() -> TimedEvent {
        TimedEvent { time: MonotonicNs(100), event: ProcessEvent::Exec { pid: Pid(7), comm: b"x".to_vec() } }
    }

    #[test]
    fn execs_are_not_kept_where_nobody_will_ask() {
        let mut execs = Execs::new(false);
        execs.note(&exec());
        assert!(execs.0.is_none());
    }

    #[test]
    fn an_exec_closes_what_was_got_before_and_is_marked_so() {
        let mut execs = Execs::new(true);
        execs.note(&exec());
        let open = |number, tgid, since_ns, closes_at_exec| {
            let tally = TallyKey::new(Source::DESCRIPTORS, u64::from(number), 0);
            (DescriptorKey { number, tgid, start_boot_ns: 1 }, Descriptor { tally, since_ns, closes_at_exec })
        };
        let all = [open(3, 7, 50, 1), open(4, 7, 50, 0), open(5, 7, 150, 1), open(6, 8, 50, 1)];
        assert_eq!(execs.open(&all).map(|tally| tally.stack_hash).collect::<Vec<_>>(), [4, 5, 6]);
    }
}
