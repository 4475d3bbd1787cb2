//! Processes that are followed: those that were named, and the children that they start. When none lives any more there is nothing left to record.

use crate::model::event::ProcessEvent;
use crate::model::process::Pid;
use crate::process::lives;
use std::collections::BTreeSet;

/// Those that live.
#[derive(Debug, Default)]
pub(super) struct Followed {
    living: BTreeSet<Pid>,
    /// Children count, too.
    inherit: bool,
}

impl Followed {
    pub(super) fn new(pids: impl IntoIterator<Item = Pid>, inherit: bool) -> Self {
        Self { living: pids.into_iter().collect(), inherit }
    }

    /// Something has happened to a process; the end of its first thread is that of itself.
    pub(super) fn note(&mut self, event: &ProcessEvent) {
        match event {
            ProcessEvent::Fork { pid, tid, parent } if self.inherit && pid.0 == tid.0 && self.living.contains(parent) => {
                self.living.insert(*pid);
            }
            ProcessEvent::Exit { pid, tid } if pid.0 == tid.0 => {
                self.living.remove(pid);
            }
            _ => {}
        }
    }

    /// Whether none lives. An end that was lost among other events is looked for.
    pub(super) fn have_ended(&mut self) -> bool {
        self.living.retain(|pid| lives(*pid));
        self.living.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::Tid;

    #[test]
    fn a_child_of_what_is_followed_is_followed_until_it_ends() {
        let own = Pid(std::process::id());
        let gone = Pid(u32::MAX - 1);
        let fork = ProcessEvent::Fork { pid: own, tid: Tid(own.0), parent: gone };
        let mut followed = Followed::new([gone], true);
        followed.note(&fork);
        assert!(!followed.have_ended());
        followed.note(&ProcessEvent::Exit { pid: own, tid: Tid(own.0 + 1) });
        assert!(!followed.have_ended(), "a thread is not its process");
        let mut alone = Followed::new([gone], false);
        alone.note(&fork);
        assert!(alone.have_ended());
    }
}
