//! A window: what one profile covers, counted by key, not yet symbolized.

use super::kind::Kind;
use super::loss::{Balance, Endings, Losses};
use super::mapping::{Mapping, MappingId};
use super::process::{ProcessId, ProcessInfo, Tid};
use super::stack::{Frame, StackId};
use std::collections::HashMap;
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
}

/// Events and their weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
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

/// Interned stacks, each leaf first.
#[derive(Clone, Debug, Default)]
pub struct StackTable {
    stacks: Vec<Arc<[Frame]>>,
    ids: HashMap<Arc<[Frame]>, StackId>,
}

impl StackTable {
    /// The id of these frames, new or known.
    pub fn intern(&mut self, frames: &[Frame]) -> StackId {
        if let Some(id) = self.ids.get(frames) {
            return *id;
        }
        let id = StackId(self.stacks.len() as u32);
        let frames: Arc<[Frame]> = frames.into();
        self.stacks.push(Arc::clone(&frames));
        self.ids.insert(frames, id);
        id
    }

    /// The frames of a stack, leaf first.
    pub fn frames(&self, id: StackId) -> &[Frame] {
        &self.stacks[id.0 as usize]
    }

    /// How many distinct stacks.
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
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
    /// Process images by [`ProcessId`].
    pub processes: Vec<ProcessInfo>,
    /// Threads by the index in [`SampleKey::thread`]; empty when threads are not told apart.
    pub threads: Vec<ThreadInfo>,
    /// Stacks by [`StackId`].
    pub stacks: StackTable,
    /// Mappings by [`MappingId`].
    pub mappings: MappingTable,
    /// What did not arrive.
    pub losses: Losses,
    /// How stacks ended, by samples.
    pub endings: Endings,
    /// The conservation sum.
    pub balance: Balance,
}
