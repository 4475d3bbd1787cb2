//! Where names come from, and what has been found out.

use crate::model::answer::SymbolLine;
use crate::model::mapping::{MappingId, ObjectId};
use crate::model::profile::Unresolved;
use crate::object::{DebugFolders, ObjectStore, object_id, vdso_image};
use crate::reader::{Reader, ReaderOptions};
use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

/// Readers at most: symbolizing uses the idle cores, not a fleet of processes.
const READERS_MAX: usize = 4;

/// The names at one address, innermost inlined function first, or why there are none.
pub(super) type Names = Result<Vec<SymbolLine>, Unresolved>;

/// Where names come from.
pub struct Sources<'a> {
    pub(super) objects: &'a ObjectStore,
    pub(super) debug: DebugFolders,
    vdso: Option<OwnedFd>,
    pub(super) readers: Vec<Reader>,
}

impl<'a> Sources<'a> {
    /// The files that a recording has opened, and folders with debug files. Readers start when they are first needed.
    pub fn new(objects: &'a ObjectStore, debug_dirs: &[PathBuf]) -> Self {
        let readers = std::thread::available_parallelism().map_or(1, usize::from).min(READERS_MAX);
        Self {
            objects,
            debug: DebugFolders::new(debug_dirs),
            vdso: vdso_image(),
            readers: (0..readers).map(|_| Reader::new(ReaderOptions::default())).collect(),
        }
    }
}

/// What was found out about a window's frames and mappings.
#[derive(Default)]
pub(super) struct Found {
    /// By the index of the distinct frame.
    pub(super) names: Vec<Option<Names>>,
    /// GNU build ids, lower-case hex.
    pub(super) build_ids: HashMap<MappingId, Arc<str>>,
}

/// The vdso's image and its identity, as a reader wants them.
pub(super) fn vdso_object(sources: &Sources<'_>) -> Option<(ObjectId, OwnedFd)> {
    let file = sources.vdso.as_ref()?.as_fd().try_clone_to_owned().ok()?;
    let id = object_id(file.as_fd()).ok()?;
    Some((id, file))
}
