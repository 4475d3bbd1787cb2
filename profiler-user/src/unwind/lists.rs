//! The ranges of a process as the kernel side needs them: one sorted list a process, written anew when something in it has changed.

use super::arena_space::{ArenaSpace, Piece};
use super::state::{State, States, TableOf};
use crate::bpf::Capture;
use crate::model::event::MonotonicNs;
use crate::model::process::{Pid, ProcessKey};
use crate::model::unwind::Elsewhere;
use crate::process::{AddressSpace, Range};
use profiler_common::unwind::range::{RANGE_FRAME_POINTER, RANGE_GO, RANGE_RETURN_PROBE, RANGE_UNKNOWN, RANGES_MAX, RangeEntry};
use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// The lists that the kernel side has, and those that are to be written.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) held: HashMap<Pid, Held>,
    /// Processes whose list is to be written.
    pub(super) due: HashSet<Pid>,
    /// The image that asked for it.
    pub(super) images: HashMap<Pid, ProcessKey>,
    /// Up to which list, and since when, the lists of a process lead to code that is not there any more.
    pub(super) stale: HashMap<Pid, (u64, MonotonicNs)>,
    /// Lists to be taken away before their room is used again.
    pub(super) doomed: Vec<Pid>,
    pub(super) last_number: u64,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) piece: Piece,
    pub(super) tables: Vec<TableOf>,
    pub(super) missing: Vec<TableOf>,
    /// Until when it is not written again.
    pub(super) rested: Instant,
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

/// A table is listed once, however often its file is mapped.
fn note(tables: &mut Vec<TableOf>, table: TableOf) {
    if tables.last() != Some(&table) && !tables.contains(&table) {
        tables.push(table);
    }
}

/// A list that is being made.
#[derive(Default)]
pub(super) struct List {
    pub(super) entries: Vec<RangeEntry>,
    /// Tables that it leads to.
    pub(super) tables: Vec<TableOf>,
    /// Tables that it would lead to if they were there.
    pub(super) missing: Vec<TableOf>,
    /// Where the last range ends.
    end: u64,
}

impl List {
    /// The list of a process with these ranges, and these tables.
    pub(super) fn of(space: &AddressSpace, states: &States) -> Self {
        let mut list = Self::default();
        for range in space.iter() {
            // A call that returns to the first byte of that page is looked up one byte before.
            let start = range.mapped.start - u64::from(range.is_return_probes());
            list.end_at(start);
            list.add(range, states);
            list.end = range.mapped.end;
        }
        list.end_at(u64::MAX);
        list
    }

    fn add(&mut self, range: &Range, states: &States) {
        let start = range.mapped.start;
        if range.is_return_probes() {
            return self.push(RangeEntry::plain(start - 1, RANGE_RETURN_PROBE));
        }
        let Some(table) = TableOf::of(&range.kind) else {
            return self.push(RangeEntry::plain(start, RANGE_FRAME_POINTER));
        };
        let (parts, elsewhere) = match states.get(&table) {
            Some(State::Here { parts, elsewhere, .. }) => (parts, *elsewhere),
            Some(State::Bad) => return self.push(RangeEntry::plain(start, RANGE_FRAME_POINTER)),
            Some(State::Asked) | None => {
                note(&mut self.missing, table);
                return self.push(RangeEntry::plain(start, RANGE_UNKNOWN));
            }
        };
        note(&mut self.tables, table);
        let outside = match elsewhere {
            Elsewhere::FramePointers => RANGE_FRAME_POINTER,
            Elsewhere::Go => RANGE_GO,
        };
        let (first, end) = (range.mapped.file_offset, range.mapped.file_offset.saturating_add(range.mapped.end - start));
        let mut covered = first;
        for part in parts.iter().filter(|part| part.first < end && part.first + u64::from(part.length) > first) {
            let from = part.first.max(first);
            if from > covered {
                self.push(RangeEntry::plain(start + (covered - first), outside));
            }
            let at = start + (from - first);
            self.push(match part.piece {
                Some(piece) => RangeEntry::table(at, piece.at, (from - part.first) as u32),
                None => RangeEntry::plain(at, RANGE_UNKNOWN),
            });
            covered = part.first + u64::from(part.length);
        }
        if covered < end {
            self.push(RangeEntry::plain(start + (covered - first), outside));
        }
    }

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
