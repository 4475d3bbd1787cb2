//! What there is to say of Go programs in a profile of waits: what of it is their own, and what is missing where they record nothing.

use super::go_reading::Recorded;
use crate::go::waits::Which;
use crate::model::process::Pid;
use std::collections::{BTreeMap, BTreeSet};

/// Processes that are named in one line.
const NAMED_MAX: usize = 16;
/// Lines of single processes.
const LINES_MAX: usize = 32;

/// The notes of a recording, by profile.
#[derive(Default)]
pub(super) struct Notes {
    which: Vec<Which>,
    recording: Vec<(Which, Pid, String)>,
    silent: BTreeMap<bool, BTreeSet<Pid>>,
    /// By reason.
    unknown: BTreeMap<String, BTreeSet<Pid>>,
    ended: BTreeSet<Pid>,
    too_many: Option<usize>,
}

impl Notes {
    pub(super) fn new(which: Vec<Which>) -> Self {
        Self { which, ..Self::default() }
    }

    /// A process was read.
    pub(super) fn recorded(&mut self, pid: Pid, recorded: &[Recorded]) {
        for Recorded { which, rate, rows, span } in recorded {
            if *rate == 0 && rows.is_empty() {
                self.silent.entry(*which == Which::Block).or_default().insert(pid);
                continue;
            }
            let rate = match (which, rate) {
                (_, 0) => "switched off meanwhile".to_owned(),
                (_, 1) => "every one".to_owned(),
                (Which::Block, ns) => format!("every one of {ns} ns and more, shorter ones by chance"),
                (Which::Mutex, fraction) => format!("one of {fraction} by chance"),
            };
            let span = span.map_or("since it began".to_owned(), |span| format!("of the last {:.3} s", span.as_secs_f64()));
            self.recording.push((*which, pid, format!("{rate}, {span}")));
        }
    }

    /// A process cannot be read, and why.
    pub(super) fn unknown(&mut self, pid: Pid, why: &str) {
        self.unknown.entry(why.to_owned()).or_default().insert(pid);
    }

    /// These ended before they could be read.
    pub(super) fn ended(&mut self, pids: &BTreeSet<Pid>) {
        self.ended.extend(pids);
    }

    /// There are more Go programs than are read.
    pub(super) fn too_many(&mut self, most: usize) {
        self.too_many = Some(most);
    }

    /// What there is to say in one of the profiles.
    pub(super) fn of(&self, which: Which) -> Vec<String> {
        if !self.which.contains(&which) {
            return Vec::new();
        }
        let (name, call) = match which {
            Which::Block => ("block", "runtime.SetBlockProfileRate(1)"),
            Which::Mutex => ("mutex", "runtime.SetMutexProfileFraction(1)"),
        };
        let mut notes: Vec<String> = Vec::new();
        for (_, pid, how) in self.recording.iter().filter(|(of, ..)| *of == which).take(LINES_MAX) {
            notes.push(format!(
                "process {}: its goroutines' waits are those of Go's own {name} profile ({how}), label waiter:goroutine",
                pid.0
            ));
        }
        if let Some(silent) = self.silent.get(&(which == Which::Block)) {
            let whose = named(silent);
            notes.push(format!(
                "{whose}: Go, and records no waits of goroutines, which no futex shows; {call} in the program switches that on"
            ));
        }
        for (why, pids) in &self.unknown {
            notes.push(format!("{}: Go, and the waits of goroutines, which no futex shows, are not known: {why}", named(pids)));
        }
        if !self.ended.is_empty() {
            notes.push(format!("{}: Go, and ended before the waits of its goroutines were read", named(&self.ended)));
        }
        notes.extend(self.too_many.map(|most| format!("processes of Go beyond {most}: the waits of their goroutines were not read")));
        notes
    }
}

/// Processes in words.
fn named(pids: &BTreeSet<Pid>) -> String {
    let some: Vec<String> = pids.iter().take(NAMED_MAX).map(|pid| pid.0.to_string()).collect();
    let more = pids.len().saturating_sub(NAMED_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{} {}{more}", if pids.len() == 1 { "process" } else { "processes" }, some.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::go_reading::Row;
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_profile_says_what_is_its_own_and_what_is_missing() {
        let mut notes = Notes::new(vec![Which::Block, Which::Mutex]);
        let recorded = |which, rate, rows: usize| Recorded {
            which,
            rate,
            rows: vec![Row { stack: Vec::new(), waits: 1, ns: 1 }; rows],
            span: Some(Duration::from_millis(1500)),
        };
        notes.recorded(Pid(7), &[recorded(Which::Block, 20_000, 0), recorded(Which::Mutex, 0, 0)]);
        notes.recorded(Pid(9), &[recorded(Which::Block, 0, 2), recorded(Which::Mutex, 5, 1)]);
        (100..130).for_each(|pid| notes.recorded(Pid(pid), &[recorded(Which::Mutex, 0, 0)]));
        let block = notes.of(Which::Block);
        assert!(block[0].starts_with("process 7: ") && block[0].contains("20000 ns") && block[0].contains("last 1.500 s"), "{block:?}");
        assert!(block[1].contains("switched off meanwhile") && block.len() == 2, "{block:?}");
        let mutex = notes.of(Which::Mutex);
        assert!(mutex[0].starts_with("process 9: ") && mutex[0].contains("one of 5"), "{mutex:?}");
        assert!(mutex[1].starts_with("processes 7, 100, ") && mutex[1].contains(" and 15 more: Go, and records no waits"), "{mutex:?}");
        assert!(mutex[1].contains("runtime.SetMutexProfileFraction(1)"), "{mutex:?}");
        assert!(Notes::new(vec![Which::Block]).of(Which::Mutex).is_empty());
    }

    #[test]
    fn what_could_not_be_read_is_said_once_for_each_reason() {
        let mut notes = Notes::new(vec![Which::Block]);
        notes.unknown(Pid(2), "it is too young");
        notes.unknown(Pid(1), "it is too young");
        notes.ended(&[Pid(3)].into());
        notes.too_many(512);
        let block = notes.of(Which::Block);
        assert!(block[0].starts_with("processes 1, 2: ") && block[0].ends_with("it is too young"), "{block:?}");
        assert!(block[1].starts_with("process 3: ") && block[2].contains("512") && block.len() == 3, "{block:?}");
    }
}
