//! Writing lists into the arena, and telling the kernel side.

use super::lists::{Held, List};
use super::tables::Unwinder;
use crate::bpf::{BpfError, Capture};
use crate::model::event::MonotonicNs;
use crate::model::process::{Pid, ProcessKey};
use crate::process::{AddressSpace, Processes};
use profiler_common::unwind::range::{ProcessRanges, RangeEntry};
use std::time::{Duration, Instant};

/// A list is written again at the earliest after so many times what writing it took: a process that maps without end costs a hundredth of a CPU.
const REST: u32 = 100;

impl Unwinder {
    /// A stack of this process image was not walked in the kernel: it wants a list.
    pub fn want_list(&mut self, process: ProcessKey) {
        let pid = Pid(process.tgid);
        if self.lists.images.insert(pid, process) != Some(process) || !self.lists.held.contains_key(&pid) {
            self.lists.due.insert(pid);
        }
    }

    /// A process will be walked of whose image nothing is known yet: its list is that of the image which meets it first.
    pub fn want_list_early(&mut self, pid: Pid) {
        self.lists.images.entry(pid).or_insert(ProcessKey { start_boot_ns: 0, tgid: pid.0, exec_generation: 0 });
        self.lists.due.insert(pid);
    }

    /// The mappings of a process have changed.
    pub fn note_change(&mut self, pid: Pid) {
        if self.lists.held.contains_key(&pid) {
            self.lists.due.insert(pid);
        }
    }

    /// Other code has taken the place of code: what is walked with the present list after that is not to be believed.
    pub fn note_replaced(&mut self, pid: Pid, time: MonotonicNs) {
        if self.lists.held.contains_key(&pid) {
            self.lists.stale.insert(pid, (self.lists.last_number, time));
        }
    }

    /// Whether a stack was walked with a list that did not hold any more.
    pub fn is_stale(&self, pid: Pid, list: u32, time: MonotonicNs) -> bool {
        let before = |(last, since): &(u64, MonotonicNs)| list != 0 && list <= *last as u32 && time > *since;
        self.lists.stale.get(&pid).is_some_and(before)
    }

    /// A process has another image since then.
    pub fn forget_image(&mut self, pid: Pid, time: MonotonicNs) {
        self.forget(pid);
        // An early list may have met the new image before we heard of it.
        self.lists.stale.insert(pid, (self.lists.last_number, time));
    }

    /// A process has ended: its list says nothing any more.
    pub fn forget(&mut self, pid: Pid) {
        self.lists.images.remove(&pid);
        self.lists.stale.remove(&pid);
        self.lists.due.remove(&pid);
        if let Some(held) = self.lists.held.remove(&pid) {
            self.space.give(held.piece);
            self.lists.doomed.push(pid);
        }
    }

    /// Writes the lists that are due.
    ///
    /// # Errors
    /// The arena cannot grow.
    pub fn write_lists(&mut self, processes: &Processes, capture: &mut Capture) -> Result<(), BpfError> {
        self.lists.take_away_doomed(capture);
        let now = Instant::now();
        for pid in std::mem::take(&mut self.lists.due) {
            if self.lists.held.get(&pid).is_some_and(|held| held.rested > now) {
                self.lists.due.insert(pid);
                continue;
            }
            let Some(space) = processes.space(pid) else {
                self.forget(pid); // What asks for it has waited longer than its process was kept.
                continue;
            };
            if let Some(image) = self.lists.images.get(&pid).copied() {
                self.write_list(image, space, capture)?;
            }
        }
        Ok(())
    }

    fn write_list(&mut self, image: ProcessKey, space: &AddressSpace, capture: &mut Capture) -> Result<(), BpfError> {
        let (pid, began) = (Pid(image.tgid), Instant::now());
        let (mut list, evicted) = (List::of(space, &self.states), self.costs.evicted);
        let Some(piece) = self.room(capture, list.entries.len() * 4)? else { return Ok(()) };
        if evicted != self.costs.evicted {
            // A table has gone to make the room: the list must not lead there, and is shorter.
            list = List::of(space, &self.states);
        }
        if list.entries.len() * 4 > piece.words as usize {
            self.space.give(piece);
            return Ok(());
        }
        let words = |entry: &RangeEntry| {
            [entry.start_and_kind as u32, (entry.start_and_kind >> 32) as u32, entry.table as u32, (entry.table >> 32) as u32]
        };
        let words: Vec<u32> = list.entries.iter().flat_map(words).collect();
        capture.arena().write(piece.at, &words);
        self.lists.last_number += 1;
        let ranges = ProcessRanges {
            start_boot_ns: image.start_boot_ns,
            exec_generation: image.exec_generation,
            entries: list.entries.len() as u32,
            list: self.lists.last_number,
            at: piece.at,
            reserved: 0,
        };
        if capture.set_ranges(pid, &ranges).is_err() {
            self.space.give(piece); // More processes than the map holds: the stacks of this one are finished here.
            return Ok(());
        }
        self.costs.lists += 1;
        let rested = Instant::now() + began.elapsed().saturating_mul(REST).min(Duration::from_secs(10));
        let held = Held { piece, tables: list.tables, missing: list.missing, rested };
        if let Some(old) = self.lists.held.insert(pid, held) {
            self.space.give(old.piece);
        }
        Ok(())
    }
}
