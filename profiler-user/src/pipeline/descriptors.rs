//! Which of the descriptors that were got are open at the end: the kernel side does not see what an exec closes.

use crate::model::event::{MonotonicNs, ProcessEvent, TimedEvent};
use crate::model::process::Pid;
use profiler_common::descriptor::{Descriptor, DescriptorKey};
use profiler_common::tally::TallyKey;
use std::collections::HashMap;

/// When each process has last become another program.
#[derive(Default)]
pub(super) struct Execs(HashMap<Pid, MonotonicNs>);

impl Execs {
    /// Something has happened to a process.
    pub(super) fn note(&mut self, event: &TimedEvent) {
        if let ProcessEvent::Exec { pid, .. } = &event.event {
            self.0.insert(*pid, event.time);
        }
    }

    /// Where those were got that are open. What a process had open when it ended counts: it is what it left behind.
    pub(super) fn open<'a>(&'a self, all: &'a [(DescriptorKey, Descriptor)]) -> impl Iterator<Item = TallyKey> + 'a {
        let was_closed = |key: &DescriptorKey, descriptor: &Descriptor| {
            descriptor.closes_at_exec != 0 && self.0.get(&Pid(key.tgid)).is_some_and(|exec| exec.0 > descriptor.since_ns)
        };
        all.iter().filter(move |(key, descriptor)| !was_closed(key, descriptor)).map(|(_, descriptor)| descriptor.tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::source::Source;

    #[test]
    fn an_exec_closes_what_was_got_before_and_is_marked_so() {
        let mut execs = Execs::default();
        execs.note(&TimedEvent { time: MonotonicNs(100), event: ProcessEvent::Exec { pid: Pid(7), comm: b"x".to_vec() } });
        let open = |number, tgid, since_ns, closes_at_exec| {
            let tally = TallyKey::new(Source::DESCRIPTORS, u64::from(number), 0);
            (DescriptorKey { number, tgid, start_boot_ns: 1 }, Descriptor { tally, since_ns, closes_at_exec })
        };
        let all = [open(3, 7, 50, 1), open(4, 7, 50, 0), open(5, 7, 150, 1), open(6, 8, 50, 1)];
        assert_eq!(execs.open(&all).map(|tally| tally.stack_hash).collect::<Vec<_>>(), [4, 5, 6]);
    }
}
