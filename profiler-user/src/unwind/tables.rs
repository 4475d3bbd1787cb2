//! Which files' tables there are, where their parts lie, and what goes when there is no more room.

use super::arena_space::{ArenaSpace, Piece};
use super::lists::Lists;
use super::state::{Loaded, State, States, TableOf};
use crate::bpf::{Arena, BpfError, Capture, wait_for_programs};
use crate::model::unwind::{Elsewhere, UnwindTable};
use crate::process::AddressSpace;
use profiler_common::unwind::rule::Rule;
use profiler_common::unwind::table;
use std::collections::BTreeSet;

/// By which the arena grows.
const CHUNK_BYTES: u64 = profiler_common::limits::ARENA_CHUNK_WORDS as u64 * 4;
/// Files whose state is remembered, table or not.
const FILES_MAX: usize = 65_536;

/// What the tables take, and took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Costs {
    /// Files with a table in the arena.
    pub files: u64,
    /// Rows of all tables that were loaded.
    pub rows: u64,
    /// Bytes of the arena that are used.
    pub used_bytes: u64,
    /// Tables that had to go for others.
    pub evicted: u64,
    /// Stacks that were finished in user space.
    pub finished: u64,
    /// Lists of ranges that were written.
    pub lists: u64,
}

/// The unwind tables of a recording.
#[derive(Debug)]
pub struct Unwinder {
    pub(super) states: States,
    pub(super) space: ArenaSpace,
    pub(super) lists: Lists,
    /// What the tables may become by the configuration, and for now.
    bytes_max: [u64; 2],
    /// Raised with each use, so that the one used longest ago is known.
    clock: u64,
    pub(super) costs: Costs,
}

impl Unwinder {
    /// No tables yet; they may become so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            states: States::default(),
            space: ArenaSpace::default(),
            lists: Lists::default(),
            bytes_max: [bytes_max.max(CHUNK_BYTES); 2],
            clock: 0,
            costs: Costs::default(),
        }
    }

    /// What the tables take now, and took.
    pub fn costs(&self) -> Costs {
        Costs { used_bytes: self.space.used_bytes(), ..self.costs }
    }

    /// For now the arena grows by so many bytes at most, whatever the tables may become in the end.
    pub fn bound_growth(&mut self, bytes: u64, arena: &Arena) {
        self.bytes_max[1] = self.bytes_max[0].min(arena.bytes() as u64 + bytes);
    }

    /// Whether a table must be asked for; if so, it counts as asked from now on.
    pub fn ask(&mut self, table: TableOf) -> bool {
        if self.states.contains_key(&table) || self.states.len() >= FILES_MAX {
            return false;
        }
        self.states.insert(table, State::Asked);
        true
    }

    /// The tables of an address space that nobody has asked for.
    pub fn unasked(&self, space: &AddressSpace) -> Vec<TableOf> {
        let tables: BTreeSet<TableOf> = space.iter().filter_map(|range| TableOf::of(&range.kind)).collect();
        tables.into_iter().filter(|table| !self.states.contains_key(table)).collect()
    }

    /// Takes in what the reader made of a file; None if it could make nothing.
    ///
    /// # Errors
    /// The arena cannot grow.
    pub fn provide(&mut self, table: TableOf, parsed: Option<UnwindTable>, capture: &mut Capture) -> Result<(), BpfError> {
        self.lists.note_table(table);
        let Some(parsed) = parsed else {
            self.states.insert(table, State::Bad);
            return Ok(());
        };
        self.clock += 1;
        let mut parts = Vec::with_capacity(parsed.parts.len());
        for part in &parsed.parts {
            let piece = self.room(capture, part.words.len())?;
            if let Some(piece) = piece {
                capture.arena().write(piece.at, &part.words);
            }
            parts.push(Loaded { first: part.first, length: part.length(), piece });
        }
        self.costs.files += 1;
        self.costs.rows += parsed.rows;
        self.states.insert(table, State::Here { parts, elsewhere: parsed.elsewhere, used: self.clock });
        Ok(())
    }

    /// Room for some words, for which other tables may have to go; None: there is none.
    pub(super) fn room(&mut self, capture: &mut Capture, words: usize) -> Result<Option<Piece>, BpfError> {
        loop {
            if let Some(piece) = self.space.take(capture.arena(), words) {
                return Ok(Some(piece));
            }
            if self.space.has_resting() {
                self.lists.take_away_doomed(capture);
                wait_for_programs();
                self.space.settle();
            } else if capture.arena().bytes() as u64 + CHUNK_BYTES <= self.bytes_max[1] {
                capture.arena().grow()?;
            } else if words as u64 * 4 > CHUNK_BYTES || !self.evict() {
                return Ok(None);
            }
        }
    }

    /// Lets the table go that was used longest ago; false if there is none.
    fn evict(&mut self) -> bool {
        let used = |(table, state): (&TableOf, &State)| match state {
            State::Here { parts, used, .. } if !parts.is_empty() => Some((*used, *table)),
            _ => None,
        };
        let Some((_, oldest)) = self.states.iter().filter_map(used).min_by_key(|(used, _)| *used) else { return false };
        if let Some(State::Here { parts, .. }) = self.states.remove(&oldest) {
            // The lists that lead there go first; what a program has read already is still there while it rests.
            self.lists.drop_users_of(oldest, &mut self.space);
            parts.iter().filter_map(|part| part.piece).for_each(|piece| self.space.give(piece));
            self.costs.evicted += 1;
            self.costs.files -= 1;
        }
        true
    }

    /// The rule for a place in a file; `Err` if its table is not here.
    pub(super) fn rule(&mut self, table: TableOf, offset: u64, arena: &Arena) -> Result<Rule, Missing> {
        self.clock += 1;
        match self.states.get_mut(&table) {
            None => Err(Missing::NotAsked),
            Some(State::Asked) => Err(Missing::Asked),
            Some(State::Bad) => Ok(Rule::FRAME_POINTER),
            Some(State::Here { parts, elsewhere, used }) => {
                *used = self.clock;
                let at = parts.partition_point(|part| part.first <= offset).checked_sub(1);
                let part = at.map(|at| parts[at]).filter(|part| offset - part.first < u64::from(part.length));
                let Some(part) = part else {
                    return Ok(match elsewhere {
                        Elsewhere::Go => Rule::GO_FRAME_POINTER,
                        Elsewhere::FramePointers => Rule::FRAME_POINTER,
                    });
                };
                let piece = part.piece.ok_or(Missing::NoRoom)?;
                Ok(table::find(|word| arena.word(piece.at.wrapping_add(word as u32)), offset - part.first, |value| value))
            }
        }
    }
}

/// Why there is no rule to be had now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    /// Nobody has asked for the table.
    NotAsked,
    /// It was asked for.
    Asked,
    /// This part of it found no room.
    NoRoom,
}
