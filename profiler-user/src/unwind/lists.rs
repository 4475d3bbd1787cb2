//! The ranges of a process as the kernel side needs them: one sorted list a process, written anew when something in it has changed.

use super::arena_space::{ArenaSpace, Piece};
use super::tables::{State, TableOf, Unwinder};
use crate::bpf::{BpfError, Capture};
use crate::model::mapping::MappingKind;
use crate::model::process::{Pid, ProcessKey};
use crate::model::unwind::Elsewhere;
use crate::process::{AddressSpace, Processes, Range};
use profiler_common::unwind::range::{
    ProcessRanges, RANGE_FRAME_POINTER, RANGE_GO, RANGE_NO_RULES, RANGE_UNKNOWN, RANGES_MAX, RangeEntry,
};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A list is written again at the earliest after so many times what writing it took: a process that maps without end costs a hundredth of a CPU.
const REST: u32 = 100;

/// The lists that the kernel side has, and those that are to be written.
#[derive(Debug, Default)]
pub(super) struct Lists {
    held: HashMap<Pid, Held>,
    /// Processes whose list is to be written.
    due: HashSet<Pid>,
    /// The image that asked for it.
    images: HashMap<Pid, ProcessKey>,
    /// Lists to be taken away before their room is used again.
    doomed: Vec<Pid>,
    last_number: u64,
}

#[derive(Debug)]
struct Held {
    piece: Piece,
    tables: Vec<TableOf>,
    /// Tables that it would lead to if they were there.
    missing: Vec<TableOf>,
    rested: Instant,
}

impl Lists {
    /// A table has arrived: lists with a hole in its place are due.
    pub(super) fn note_table(&mut self, table: TableOf) {
        self.due.extend(self.held.iter().filter(|(_, held)| held.missing.contains(&table)).map(|(pid, _)| *pid));
    }

    /// The kernel side has no list of these processes any more.
    pub(super) fn take_away_doomed(&mut self, capture: &mut Capture) {
        self.doomed.drain(..).for_each(|pid| capture.remove_ranges(pid));
    }

    /// A table goes: the lists that lead to it go first.
    pub(super) fn drop_users_of(&mut self, table: TableOf, space: &mut ArenaSpace) {
        let users: Vec<Pid> = self.held.iter().filter(|(_, held)| held.tables.contains(&table)).map(|(pid, _)| *pid).collect();
        for pid in users {
            if let Some(held) = self.held.remove(&pid) {
                space.give(held.piece);
                self.doomed.push(pid);
                self.due.insert(pid);
            }
        }
    }
}

impl Unwinder {
    /// A stack of this process image was not walked in the kernel: it wants a list.
    pub fn want_list(&mut self, process: ProcessKey) {
        let pid = Pid(process.tgid);
        if self.lists.images.insert(pid, process) != Some(process) || !self.lists.held.contains_key(&pid) {
            self.lists.due.insert(pid);
        }
    }

    /// The mappings of a process have changed.
    pub fn note_change(&mut self, pid: Pid) {
        if self.lists.held.contains_key(&pid) {
            self.lists.due.insert(pid);
        }
    }

    /// A process has another image, or has ended: its list says nothing any more.
    pub fn forget(&mut self, pid: Pid) {
        self.lists.images.remove(&pid);
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
            if let (Some(image), Some(space)) = (self.lists.images.get(&pid).copied(), processes.space(pid)) {
                self.write_list(image, space, capture)?;
            }
        }
        Ok(())
    }

    fn write_list(&mut self, image: ProcessKey, space: &AddressSpace, capture: &mut Capture) -> Result<(), BpfError> {
        let (pid, began) = (Pid(image.tgid), Instant::now());
        let list = self.list_of(space);
        let Some(piece) = self.room(capture, list.entries.len() * 4)? else { return Ok(()) };
        // A table may have gone to make the room; then the list must not lead there, and is shorter.
        let list = self.list_of(space);
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

    fn list_of(&self, space: &AddressSpace) -> List {
        let mut list = List::default();
        for range in space.iter() {
            list.end_at(range.mapped.start);
            self.add_range(&mut list, range);
            list.end = range.mapped.end;
        }
        list.end_at(u64::MAX);
        list
    }

    fn add_range(&self, list: &mut List, range: &Range) {
        let start = range.mapped.start;
        let Some(table) = TableOf::of(&range.kind) else {
            let kind = if matches!(range.kind, MappingKind::Anonymous(_)) { RANGE_FRAME_POINTER } else { RANGE_NO_RULES };
            return list.push(RangeEntry::plain(start, kind));
        };
        let (parts, elsewhere) = match self.states.get(&table) {
            Some(State::Here { parts, elsewhere, .. }) => (parts, *elsewhere),
            Some(State::Bad) => return list.push(RangeEntry::plain(start, RANGE_NO_RULES)),
            Some(State::Asked) | None => {
                list.missing.push(table);
                return list.push(RangeEntry::plain(start, RANGE_UNKNOWN));
            }
        };
        list.tables.push(table);
        let outside = if elsewhere == Elsewhere::Go { RANGE_GO } else { RANGE_NO_RULES };
        let (first, end) = (range.mapped.file_offset, range.mapped.file_offset.saturating_add(range.mapped.end - start));
        let mut covered = first;
        for part in parts.iter().filter(|part| part.first < end && part.first + u64::from(part.length) > first) {
            let from = part.first.max(first);
            if from > covered {
                list.push(RangeEntry::plain(start + (covered - first), outside));
            }
            list.push(RangeEntry::table(start + (from - first), part.piece.at, (from - part.first) as u32));
            covered = part.first + u64::from(part.length);
        }
        if covered < end {
            list.push(RangeEntry::plain(start + (covered - first), outside));
        }
    }
}

/// A list that is being made.
#[derive(Default)]
struct List {
    entries: Vec<RangeEntry>,
    tables: Vec<TableOf>,
    missing: Vec<TableOf>,
    /// Where the last range ends.
    end: u64,
}

impl List {
    fn push(&mut self, entry: RangeEntry) {
        let is_same = |last: &RangeEntry| last.table == 0 && entry.table == 0 && last.kind() == entry.kind();
        if self.entries.last().is_some_and(is_same) {
            return;
        }
        if self.entries.len() + 1 < RANGES_MAX {
            self.entries.push(entry);
        } else if self.entries.len() < RANGES_MAX {
            self.entries.push(RangeEntry::plain(entry.start(), RANGE_UNKNOWN)); // The rest is asked of user space.
        }
    }

    /// Nothing is between the last range and the next one.
    fn end_at(&mut self, next: u64) {
        if self.end < next {
            self.push(RangeEntry::plain(self.end, RANGE_UNKNOWN));
        }
    }
}
