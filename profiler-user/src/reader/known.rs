//! What earlier requests have taught about files, by device, inode, time of change and size: shared by the readers of a run, so that a bad file costs one of
//! them once, and not each of them.

use crate::model::mapping::ObjectId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most files that are remembered; beyond that the memory starts anew.
const REMEMBERED_MAX: usize = 16_384;

/// What is known of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Known {
    /// Its debug information did harm; its symbols did not.
    SymbolsOnly,
    /// Not to be read again.
    Bad,
}

/// The files that are known, for one reader or several.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownFiles(Arc<Mutex<HashMap<ObjectId, Known>>>);

impl KnownFiles {
    pub(super) fn of(&self, object: ObjectId) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&object).copied()
    }

    pub(super) fn remember(&self, object: ObjectId, known: Known) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() >= REMEMBERED_MAX {
            files.clear();
        }
        files.insert(object, known);
    }
}
