//! A window: what one profile covers, counted by key, not yet symbolized.

use super::kind::Kind;
use super::loss::{Balance, Endings, Losses};
use super::mapping::{Mapping, MappingId};
use super::partner::{Partner, Partners};
use super::process::{ProcessId, ProcessInfo, Tid};
use super::stack::{Frame, StackId};
use foldhash::{HashMap, HashSet};
use profiler_common::tally::TallyCounts;
use profiler_common::wait::CLASS_BITS;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What samples have in common that are counted together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SampleKey {
    /// The process image.
    pub process: ProcessId,
    /// The thread, if threads are told apart: an index into [`Window::threads`].
    pub thread: Option<u32>,
    /// The stack.
    pub stack: StackId,
    /// What tells apart what has one stack: bytes of the size class, where blocks of memory are counted, and above them how long
    /// those live ([`super::life`]); a `CLASS_*` of [`profiler_common::wait`], where waits
    /// are, and above it the other side of the wait, from 1; [`CLASS_LESS`], where an address space has shrunk; else 0.
    pub class: u64,
}

/// The class of a wait that a runtime has recorded itself, of one of its own threads and not of the kernel's: beside the `CLASS_*` of [`profiler_common::wait`].
pub const CLASS_GOROUTINE: u64 = (1 << CLASS_BITS) - 1;

/// The class of what makes less of something, where others make more of it.
pub const CLASS_LESS: u64 = 1;

impl SampleKey {
    /// Its own side of a wait.
    pub fn side(&self) -> Partner {
        Partner { process: self.process, thread: self.thread, stack: self.stack }
    }

    /// The other side of a wait: its number in [`Dictionary::partners`]; 0: none.
    pub fn partner(&self) -> u64 {
        self.class >> CLASS_BITS
    }
}

/// Events and their weight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Counts {
    /// How many events.
    pub events: u64,
    /// Their sum in the unit of the kind.
    pub weight: u64,
}

/// A thread that is told apart.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ThreadInfo {
    /// Its id.
    pub tid: Tid,
    /// Its name.
    pub name: Arc<str>,
}

/// Interned stacks, each leaf first. A distinct frame is kept once; a stack is four bytes a frame.
#[derive(Clone, Debug, Default)]
pub struct StackTable {
    frames: Vec<Frame>,
    frame_ids: HashMap<Frame, u32>,
    /// The frames of all stacks, one behind the other.
    arena: Vec<u32>,
    /// Where in the arena each stack ends.
    ends: Vec<usize>,
    /// Stacks by the hash of their frames; stacks of one hash stand at the hashes behind it.
    ids: HashMap<u64, StackId>,
    hasher: foldhash::fast::RandomState,
}

impl StackTable {
    /// The id of these frames, new or known.
    pub fn intern(&mut self, frames: &[Frame]) -> StackId {
        let start = self.arena.len();
        for frame in frames {
            let next = self.frames.len() as u32;
            let id = *self.frame_ids.entry(*frame).or_insert(next);
            if id == next {
                self.frames.push(*frame);
            }
            self.arena.push(id);
        }
        let mut hash = self.hasher.hash_one(&self.arena[start..]);
        while let Some(known) = self.ids.get(&hash) {
            if self.range(*known).len() == frames.len() && self.arena[self.range(*known)] == self.arena[start..] {
                let known = *known;
                self.arena.truncate(start);
                return known;
            }
            hash = hash.wrapping_add(1);
        }
        let id = StackId(self.ends.len() as u32);
        self.ends.push(self.arena.len());
        self.ids.insert(hash, id);
        id
    }

    fn range(&self, id: StackId) -> std::ops::Range<usize> {
        let at = id.0 as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        start..self.ends[at]
    }

    /// The frames of a stack, leaf first.
    pub fn frames(&self, id: StackId) -> Vec<Frame> {
        self.arena[self.range(id)].iter().map(|frame| self.frames[*frame as usize]).collect()
    }

    /// Every distinct frame; a stack refers to them by their index here.
    pub fn distinct_frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The frames of a stack as indexes into [`Self::distinct_frames`], leaf first.
    pub fn frame_indexes(&self, id: StackId) -> &[u32] {
        &self.arena[self.range(id)]
    }

    /// How many distinct stacks.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// About how much memory it holds, bytes: vectors, and the maps with their spare room.
    pub fn bytes(&self) -> u64 {
        (self.frames.len() * (16 + 2 * 24) + self.arena.len() * 4 + self.ends.len() * (8 + 2 * 16)) as u64
    }
}

/// Interned mappings.
#[derive(Clone, Debug, Default)]
pub struct MappingTable {
    mappings: Vec<Mapping>,
}

impl MappingTable {
    /// Adds one; who calls it keeps the ids of what it has added.
    pub fn push(&mut self, mapping: Mapping) -> MappingId {
        self.mappings.push(mapping);
        MappingId(self.mappings.len() as u32 - 1)
    }

    /// A mapping.
    pub fn get(&self, id: MappingId) -> &Mapping {
        &self.mappings[id.0 as usize]
    }

    /// All of them with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (MappingId, &Mapping)> {
        self.mappings.iter().enumerate().map(|(at, mapping)| (MappingId(at as u32), mapping))
    }
}

/// What the ids in a recording's windows refer to; one for all of them.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    /// Process images by [`ProcessId`].
    pub processes: Vec<ProcessInfo>,
    /// Threads by the index in [`SampleKey::thread`]; empty when threads are not told apart.
    pub threads: Vec<ThreadInfo>,
    /// Stacks by [`StackId`].
    pub stacks: StackTable,
    /// Mappings by [`MappingId`].
    pub mappings: MappingTable,
    /// Stacks in which functions that were inlined have frames of their own: what their addresses unfold to is there once more.
    pub logical: HashSet<StackId>,
    /// Processes whose runtime records the waits for its own locks itself, too.
    pub records_own_locks: HashSet<ProcessId>,
    /// Allocators' functions that make blocks and that the user has named, by their symbols.
    pub entry_points: Vec<String>,
    /// The other sides of waits, by [`SampleKey::partner`]: where the user has asked for them, and where they tell what a wait was.
    pub partners: Partners,
    /// Whether the user has asked for them.
    pub shows_partners: bool,
}

/// What one profile covers.
#[derive(Clone, Debug)]
pub struct Window {
    /// Kind of profile.
    pub kind: Kind,
    /// When it began.
    pub start: SystemTime,
    /// How long it was.
    pub duration: Duration,
    /// Weight of one event: ns between ticks, or cycles.
    pub period: u64,
    /// The samples.
    pub tallies: HashMap<SampleKey, Counts>,
    /// Sampled blocks of memory, where those are counted: what was added, and what of it was removed.
    pub blocks: HashMap<SampleKey, TallyCounts>,
    /// What there is to say of single processes.
    pub notes: Vec<String>,
    /// What the keys refer to.
    pub dictionary: Arc<Dictionary>,
    /// What did not arrive.
    pub losses: Losses,
    /// How stacks ended, by samples.
    pub endings: Endings,
    /// The conservation sum.
    pub balance: Balance,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::FileAddress;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_stack_comes_back_as_it_went_in(stacks in proptest::collection::vec(proptest::collection::vec(0u64..20, 0..12), 0..60)) {
            let mut table = StackTable::default();
            let mut ids = HashMap::default();
            for stack in &stacks {
                let frames: Vec<Frame> = stack.iter().map(|at| Frame { mapping: MappingId(*at as u32 % 3), address: FileAddress(*at) }).collect();
                let id = table.intern(&frames);
                prop_assert_eq!(*ids.entry(stack.clone()).or_insert(id), id);
                prop_assert_eq!(table.frames(id), frames);
            }
            prop_assert_eq!(table.len(), ids.len());
        }
    }
}
