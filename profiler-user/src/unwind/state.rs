//! What there is of each file's table.

use super::arena_space::Piece;
use crate::model::mapping::{MappingKind, ObjectId};
use crate::model::unwind::Elsewhere;
use foldhash::HashMap;

/// Whose table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TableOf {
    /// A file's.
    Object(ObjectId),
    /// That of the page of code that the kernel gives each process.
    Vdso,
}

impl TableOf {
    /// Whose table covers a mapping, if a file's does. Code without one is that of compilers at run time, or its file could not be opened: it is walked
    /// by frame pointers, if it keeps any.
    pub(super) fn of(kind: &MappingKind) -> Option<Self> {
        match kind {
            MappingKind::Object(id) => Some(Self::Object(*id)),
            MappingKind::Vdso => Some(Self::Vdso),
            _ => None,
        }
    }
}

/// A part of a table that is in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Loaded {
    /// File offset of its first byte of code.
    pub(super) first: u64,
    /// Bytes of code.
    pub(super) length: u32,
    /// Where; None if there was no room for it, even with all others gone.
    pub(super) piece: Option<Piece>,
}

/// What there is of a file.
#[derive(Debug)]
pub(super) enum State {
    /// The reader was asked.
    Asked,
    /// In the arena.
    Here { parts: Vec<Loaded>, elsewhere: Elsewhere, used: u64 },
    /// The file cannot be parsed.
    Bad,
}

/// The states of all files that were met.
pub(super) type States = HashMap<TableOf, State>;
