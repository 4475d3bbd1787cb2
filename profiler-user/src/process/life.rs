//! Whether a process lives: it may outlive its first thread, and one that has ended may wait for its parent.

use crate::model::event::{ProcessEvent, TimedEvent};
use crate::model::process::{Pid, Tid};
use std::collections::BTreeSet;
use std::path::Path;

/// A thread that is no process's first one.
const NO_LEADER: Tid = Tid(0);

/// What counts is that one of its threads does.
pub fn lives(pid: Pid) -> bool {
    let tasks = Path::new("/proc").join(pid.0.to_string()).join("task");
    std::fs::read_dir(tasks).is_ok_and(|mut tasks| {
        tasks.any(|task| task.is_ok_and(|task| std::fs::read_to_string(task.path().join("stat")).is_ok_and(|stat| !is_dead(&stat))))
    })
}

/// Whether a process goes on without its first thread.
pub fn has_lost_its_first_thread(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.0));
    stat.is_ok_and(|stat| is_dead(&stat)) && lives(pid)
}

/// By the state in the line of a thread (proc_pid_stat(5)).
fn is_dead(stat: &str) -> bool {
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Tells the end of a process from that of its first thread: `main` may end alone, and a thread that becomes another program ends all others of its process.
#[derive(Debug, Default)]
pub struct Ends {
    /// Processes that live without their first thread.
    leaderless: BTreeSet<Pid>,
}

impl Ends {
    /// The event, as one in which the end of the thread with a process's number is the end of that process, and the only one.
    pub fn of_processes(&mut self, event: &TimedEvent) -> TimedEvent {
        let told = match &event.event {
            ProcessEvent::Exit { pid, tid } if pid.0 == tid.0 && lives(*pid) => {
                self.leaderless.insert(*pid);
                Some(ProcessEvent::Exit { pid: *pid, tid: NO_LEADER })
            }
            ProcessEvent::Exit { pid, tid } if pid.0 != tid.0 && self.leaderless.contains(pid) && !lives(*pid) => {
                self.leaderless.remove(pid);
                Some(ProcessEvent::Exit { pid: *pid, tid: Tid(pid.0) })
            }
            ProcessEvent::Exec { pid, .. } => {
                self.leaderless.remove(pid);
                None
            }
            _ => None,
        };
        TimedEvent { time: event.time, event: told.unwrap_or_else(|| event.event.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::MonotonicNs;

    #[test]
    fn the_end_of_a_first_thread_is_no_end_while_others_live() {
        let (own, gone) = (Pid(std::process::id()), Pid(u32::MAX - 1));
        let exit = |pid: Pid, tid| TimedEvent { time: MonotonicNs(7), event: ProcessEvent::Exit { pid, tid: Tid(tid) } };
        let mut ends = Ends::default();
        assert_eq!(ends.of_processes(&exit(gone, gone.0)), exit(gone, gone.0));
        assert_eq!(ends.of_processes(&exit(own, own.0)), exit(own, NO_LEADER.0));
        assert_eq!(ends.of_processes(&exit(own, own.0 + 1)), exit(own, own.0 + 1), "others live still");
        ends.leaderless.insert(gone);
        assert_eq!(ends.of_processes(&exit(gone, 1)), exit(gone, gone.0), "that was its last one");
        assert_eq!(ends.of_processes(&exit(gone, 1)), exit(gone, 1));
    }
}
