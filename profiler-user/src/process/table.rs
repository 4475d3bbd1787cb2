//! The processes that are known, kept up to date by events in their order.

use super::address_space::{AddressSpace, Range};
use super::maps_file::read_ranges;
use crate::model::event::ProcessEvent;
use crate::model::label::Label;
use crate::model::mapping::{MappedRange, MappingKind};
use crate::model::process::{Pid, Tid};
use crate::model::text::lossy;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Ended processes that are kept, because threads of theirs may still run or samples of theirs be on their way.
const ENDED_MAX: usize = 4_096;
/// For how long. What arrives is in order but for a millisecond; but a stack may wait for the table of a large file, and its process may be over by then.
const ENDED_REST: Duration = Duration::from_secs(30);
/// How many are looked for at each end: more than one, so that those which go do not wait behind those which stay.
const ENDED_LOOKS: usize = 8;
/// Names of threads that are kept.
const THREAD_NAMES_MAX: usize = 65_536;

/// For how long the labels of a process that only maps are not read again.
const LABELS_REST: Duration = Duration::from_secs(1);

/// What this room must ask others: floors above it, or rooms beside it.
pub trait Describe {
    /// What is behind a mapping: opens the file if it can still be had.
    fn mapping(&mut self, pid: Pid, range: &MappedRange) -> MappingKind;
    /// The labels of a process; None if it is gone.
    fn labels(&mut self, pid: Pid) -> Option<Arc<[Label]>>;
}

/// One process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) comm: Arc<str>,
    pub(super) space: AddressSpace,
    pub(super) labels: Arc<[Label]>,
    /// Its main binary: the first file that its image mapped.
    pub(super) main: Option<Arc<Range>>,
}

impl Process {
    fn unknown() -> Self {
        Self { comm: "?".into(), space: AddressSpace::default(), labels: Arc::default(), main: None }
    }
}

/// All processes that are known.
#[derive(Debug, Default)]
pub struct Processes {
    table: HashMap<Pid, Process>,
    /// Processes whose leader has ended, and when they are looked for, the next one first.
    ended: VecDeque<(Instant, Pid)>,
    ended_set: HashSet<Pid>,
    /// Those that are gone since somebody has asked.
    forgotten: Vec<Pid>,
    /// Labels read when a new image's first mapping arrived, for when its events come to be applied.
    fresh_labels: HashMap<Pid, (Instant, Arc<[Label]>)>,
    thread_names: HashMap<Tid, Arc<str>>,
}

impl Processes {
    /// Reads what runs already, once. Events that were recorded meanwhile are applied after it.
    pub fn scan(&mut self, describe: &mut dyn Describe) {
        let Ok(entries) = std::fs::read_dir("/proc") else { return };
        for entry in entries.flatten() {
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                self.adopt(Pid(pid), describe);
            }
        }
    }

    /// Reads one process that nothing is known of.
    pub(super) fn adopt(&mut self, pid: Pid, describe: &mut dyn Describe) {
        let mut process = Process::unknown();
        if let Ok(comm) = std::fs::read(format!("/proc/{}/comm", pid.0)) {
            process.comm = name(comm.strip_suffix(b"\n").unwrap_or(&comm));
        }
        for range in read_ranges(pid).unwrap_or_default() {
            let kind = describe.mapping(pid, &range);
            process.space.insert(Range::new(range, kind));
        }
        process.main = main_binary(pid, &process.space);
        process.labels = describe.labels(pid).unwrap_or_default();
        self.table.insert(pid, process);
    }

    /// Notes what can only be read now, of mappings that have just arrived and are not yet in order.
    pub fn arrived(&mut self, arrived: &[(Pid, MappedRange)], describe: &mut dyn Describe) {
        let mut seen = HashSet::new();
        for (pid, range) in arrived {
            describe.mapping(*pid, range);
            let is_known = self.fresh_labels.get(pid).is_some_and(|(read, _)| read.elapsed() < LABELS_REST);
            if seen.insert(*pid)
                && !is_known
                && let Some(labels) = describe.labels(*pid)
            {
                self.fresh_labels.insert(*pid, (Instant::now(), labels));
            }
        }
    }

    /// Applies an event.
    pub fn apply(&mut self, event: ProcessEvent, describe: &mut dyn Describe) {
        match event {
            ProcessEvent::Exec { pid, comm } => {
                let process = self.table.entry(pid).or_insert_with(Process::unknown);
                process.comm = name(&comm);
                process.space.clear();
                process.main = None;
                if let Some((_, labels)) = self.fresh_labels.remove(&pid) {
                    process.labels = labels;
                }
                self.revive(pid);
            }
            ProcessEvent::Renamed { pid, tid, comm } => self.rename(pid, tid, &comm),
            ProcessEvent::Map { pid, range } => self.map(pid, range, describe),
            ProcessEvent::Fork { pid, tid, parent } => {
                self.thread_names.remove(&tid);
                if tid.0 == pid.0 {
                    let process = self.table.get(&parent).cloned().unwrap_or_else(Process::unknown);
                    self.table.insert(pid, process);
                    self.fresh_labels.remove(&pid);
                    self.revive(pid);
                }
            }
            ProcessEvent::Exit { pid, tid } => {
                self.thread_names.remove(&tid);
                if tid.0 == pid.0 {
                    self.end(pid);
                }
            }
        }
    }

    fn map(&mut self, pid: Pid, range: MappedRange, describe: &mut dyn Describe) {
        let kind = describe.mapping(pid, &range);
        let process = self.table.entry(pid).or_insert_with(Process::unknown);
        let start = range.start;
        let is_file = range.file.inode != 0;
        process.space.insert(Range::new(range, kind));
        if process.main.is_none() && is_file {
            process.main = process.space.find(start).cloned();
        }
    }

    fn rename(&mut self, pid: Pid, tid: Tid, comm: &[u8]) {
        if self.thread_names.len() >= THREAD_NAMES_MAX {
            self.thread_names.clear(); // They are read again from /proc where they are needed.
        }
        self.thread_names.insert(tid, name(comm));
        if tid.0 == pid.0
            && let Some(process) = self.table.get_mut(&pid)
        {
            process.comm = name(comm);
        }
    }

    /// A pid is used, again perhaps.
    fn revive(&mut self, pid: Pid) {
        self.forgotten.retain(|gone| *gone != pid);
        if self.ended_set.remove(&pid) {
            self.ended.retain(|(_, ended)| *ended != pid);
        }
    }

    fn end(&mut self, pid: Pid) {
        let now = Instant::now();
        if self.ended_set.insert(pid) {
            self.ended.push_back((now + ENDED_REST, pid));
        }
        self.fresh_labels.remove(&pid);
        self.forget_ended(now);
    }

    /// Forgets those of which nothing more will come.
    fn forget_ended(&mut self, now: Instant) {
        for _ in 0..ENDED_LOOKS {
            let is_due = self.ended.front().is_some_and(|(due, _)| *due <= now) || self.ended.len() > ENDED_MAX;
            let Some((_, oldest)) = self.ended.pop_front_if(|_| is_due) else { return };
            // Its other threads may go on without their leader, or its parent has not asked for it yet; then it is still in /proc.
            if std::path::Path::new(&format!("/proc/{}", oldest.0)).exists() {
                self.ended.push_back((now + ENDED_REST, oldest));
                continue;
            }
            self.ended_set.remove(&oldest);
            self.table.remove(&oldest);
            self.forgotten.push(oldest);
        }
    }

    /// The processes that were forgotten since the last time.
    pub fn take_forgotten(&mut self) -> Vec<Pid> {
        std::mem::take(&mut self.forgotten)
    }

    /// What a process has mapped now; None if nothing is known of it.
    pub fn space(&self, pid: Pid) -> Option<&AddressSpace> {
        self.table.get(&pid).map(|process| &process.space)
    }

    /// A process by its pid; read from /proc if no event has made it known.
    pub(super) fn get(&mut self, pid: Pid, describe: &mut dyn Describe) -> &Process {
        if !self.table.contains_key(&pid) {
            self.adopt(pid, describe);
            if !std::path::Path::new(&format!("/proc/{}", pid.0)).exists() {
                self.end(pid); // No event will tell of it.
            }
        }
        self.table.entry(pid).or_insert_with(Process::unknown)
    }

    /// The name of a thread, as far as it can be had.
    pub(super) fn thread_name(&mut self, pid: Pid, tid: Tid) -> Arc<str> {
        if let Some(known) = self.thread_names.get(&tid) {
            return Arc::clone(known);
        }
        let read = std::fs::read(format!("/proc/{}/task/{}/comm", pid.0, tid.0)).ok();
        let found = match read {
            Some(comm) => name(comm.strip_suffix(b"\n").unwrap_or(&comm)),
            None => self.table.get(&pid).map_or_else(|| "?".into(), |process| Arc::clone(&process.comm)),
        };
        if self.thread_names.len() < THREAD_NAMES_MAX {
            self.thread_names.insert(tid, Arc::clone(&found));
        }
        found
    }

    /// All that are known, those that have just ended among them.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.table.keys().copied()
    }

    /// The name of a process.
    pub fn comm(&self, pid: Pid) -> Option<&str> {
        Some(&self.table.get(&pid)?.comm)
    }

    /// How many processes are known and have not ended.
    pub fn living(&self) -> usize {
        self.table.len().saturating_sub(self.ended.len())
    }
}

fn name(comm: &[u8]) -> Arc<str> {
    lossy(comm).as_ref().into()
}

/// The range of the file that `/proc/PID/exe` leads to, by device and inode; else the first file.
fn main_binary(pid: Pid, space: &AddressSpace) -> Option<Arc<Range>> {
    let exe = rustix::fs::stat(format!("/proc/{}/exe", pid.0)).ok();
    let is_main = |range: &&Arc<Range>| exe.is_some_and(|exe| exe.st_ino == range.mapped.file.inode);
    let first = || space.iter().find(|range| range.mapped.file.inode != 0);
    space.iter().find(is_main).or_else(first).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mapping::InodeId;

    pub(crate) struct Fixed;

    impl Describe for Fixed {
        fn mapping(&mut self, _: Pid, range: &MappedRange) -> MappingKind {
            MappingKind::Unopened(range.file)
        }
        fn labels(&mut self, _: Pid) -> Option<Arc<[Label]>> {
            None
        }
    }

    fn map(pid: u32, start: u64, inode: u64) -> ProcessEvent {
        let range = MappedRange {
            start,
            end: start + 10,
            file_offset: 0,
            file: InodeId { major: 0, minor: 0, inode },
            generation: None,
            path: b"/x".to_vec(),
        };
        ProcessEvent::Map { pid: Pid(pid), range }
    }

    #[test]
    fn a_child_has_its_parents_mappings_until_it_execs() {
        let (mut processes, pid) = (Processes::default(), Pid(u32::MAX - 1));
        let parent = Pid(u32::MAX - 2);
        processes.apply(ProcessEvent::Exec { pid: parent, comm: b"parent".to_vec() }, &mut Fixed);
        processes.apply(map(parent.0, 100, 1), &mut Fixed);
        processes.apply(ProcessEvent::Fork { pid, tid: Tid(pid.0), parent }, &mut Fixed);
        assert_eq!(processes.get(pid, &mut Fixed).space.find(105).expect("inherited").mapped.file.inode, 1);
        assert_eq!(processes.get(pid, &mut Fixed).comm.as_ref(), "parent");
        processes.apply(ProcessEvent::Exec { pid, comm: b"child".to_vec() }, &mut Fixed);
        assert!(processes.get(pid, &mut Fixed).space.find(105).is_none());
        processes.apply(map(pid.0, 500, 2), &mut Fixed);
        assert_eq!(processes.get(pid, &mut Fixed).main.as_ref().expect("a main binary").mapped.file.inode, 2);
    }

    #[test]
    fn ended_processes_are_bounded() {
        let mut processes = Processes::default();
        let first = 1 << 30; // Beyond any real pid.
        for pid in first..first + 2 * ENDED_MAX as u32 {
            processes.apply(ProcessEvent::Exec { pid: Pid(pid), comm: b"x".to_vec() }, &mut Fixed);
            processes.apply(ProcessEvent::Exit { pid: Pid(pid), tid: Tid(pid) }, &mut Fixed);
        }
        assert!(processes.table.len() <= ENDED_MAX + 1);
        assert_eq!(processes.living(), 0);
    }

    #[test]
    fn ended_processes_are_forgotten_when_nothing_more_will_come_and_those_that_live_on_are_not() {
        let (mut processes, gone, lives) = (Processes::default(), Pid(1 << 30), Pid(std::process::id()));
        for pid in [lives, gone] {
            processes.apply(ProcessEvent::Exec { pid, comm: b"x".to_vec() }, &mut Fixed);
            processes.apply(map(pid.0, 100, 1), &mut Fixed);
            processes.apply(ProcessEvent::Exit { pid, tid: Tid(pid.0) }, &mut Fixed);
        }
        processes.forget_ended(Instant::now());
        assert!(processes.space(gone).is_some(), "samples of it may be on their way");
        processes.forget_ended(Instant::now() + ENDED_REST);
        assert!(processes.space(gone).is_none() && processes.space(lives).is_some());
        assert_eq!(processes.take_forgotten(), [gone]);
        assert!(processes.ended_set.contains(&lives), "it is looked for again");
    }

    #[test]
    fn a_process_that_was_gone_when_it_was_first_met_is_forgotten() {
        let (mut processes, gone) = (Processes::default(), Pid(1 << 30));
        assert_eq!(processes.get(gone, &mut Fixed).comm.as_ref(), "?");
        processes.forget_ended(Instant::now() + ENDED_REST);
        assert!(processes.table.is_empty() && processes.ended.is_empty());
    }
}
