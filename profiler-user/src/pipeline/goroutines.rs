//! The goroutines of a process for a snapshot: which of its files says where they are, and what each is shown as.

use super::arming::bias;
use crate::go::goroutines::{Goroutine, NoStack, Request, read, why_not};
use crate::memory::MemoryReader;
use crate::model::dump::{Creator, Entry};
use crate::model::goroutines::GoroutinePlaces;
use crate::model::label::Label;
use crate::model::mapping::MappingKind;
use crate::model::process::Pid;
use crate::model::stack::UserStack;
use crate::object::ObjectStore;
use crate::process::AddressSpace;
use crate::reader::{Reader, ReaderOptions};
use profiler_common::ended::Ended;
use std::time::{Duration, Instant};

/// Files of a process that are asked: a program, or a library that Go made.
const FILES_MAX: usize = 64;
/// Bytes of stacks that are kept here.
const BYTES_MAX: usize = 64 << 20;

/// What a process's file says of goroutines: where they are and by how much it was moved, or why they cannot be shown.
pub(super) struct InFile(Result<(u64, GoroutinePlaces), String>);

/// Asks the files of a process; None if none of them is Go's.
pub(super) fn find(space: &AddressSpace, objects: &ObjectStore) -> Option<InFile> {
    let mut reader = Reader::new(ReaderOptions::default());
    let mut asked = std::collections::BTreeSet::new();
    for range in space.iter() {
        let MappingKind::Object(object) = range.kind else { continue };
        let Some(file) = objects.file(object) else { continue };
        if asked.len() >= FILES_MAX || !asked.insert(object) {
            continue;
        }
        match reader.goroutines(object, file) {
            Err(_) => {}
            Ok(Err(why)) => {
                if let Some(why) = why_not(&why) {
                    return Some(InFile(Err(why)));
                }
            }
            Ok(Ok(places)) => {
                let segments = reader.identify(object, file).map(|facts| facts.segments).unwrap_or_default();
                let found = bias(&range.mapped, &segments).map(|bias| (bias, places));
                return Some(InFile(found.ok_or_else(|| "where the Go program lies in memory is not known".to_owned())));
            }
        }
    }
    None
}

impl InFile {
    /// Reads the goroutines.
    pub(super) fn read(self, memory: &mut MemoryReader, pid: Pid, deadline: Instant) -> Result<Vec<Goroutine>, String> {
        let (bias, places) = self.0?;
        let request = Request { pid, bias, places, deadline, bytes_max: BYTES_MAX };
        read(memory, &request).map_err(|why| format!("the goroutines cannot be shown: {why}; its threads are shown instead"))
    }
}

/// Where it was started, and its first function, as a stack of two frames.
pub(super) fn origins(goroutine: &Goroutine) -> UserStack {
    let begins_at = goroutine.begins_at;
    let created_at = if goroutine.created_at == 0 { begins_at } else { goroutine.created_at.wrapping_sub(1) };
    // What stands behind a leaf is where a call returns to.
    UserStack::Walked { addresses: vec![created_at, begins_at.wrapping_add(1)], ended: Ended::Root }
}

/// What there is to say of one, and its labels.
pub(super) fn entry(goroutine: &Goroutine, now: u64, trouble: Option<String>) -> (Entry, Vec<Label>) {
    let waits = goroutine.wait_since != 0;
    let unknown = Creator { function: "".into(), file: "".into(), line: 0, offset: 0, goroutine: goroutine.parent };
    let entry = Entry {
        id: goroutine.id,
        name: "".into(),
        state: goroutine.state.to_owned(),
        since: waits.then(|| Duration::from_nanos(now.saturating_sub(goroutine.wait_since))),
        is_locked: goroutine.is_locked,
        trouble,
        creator: (goroutine.created_at != 0 && goroutine.id != 1).then_some(unknown),
    };
    let labels = goroutine.labels.iter().map(|(key, value)| Label::text(key.as_str(), value.as_str()));
    (entry, labels.collect())
}

/// Why a goroutine has no stack, in words; the first are Go's own.
pub(super) fn trouble(why: NoStack) -> &'static str {
    match why {
        NoStack::Running => "goroutine running on other thread; stack unavailable",
        NoStack::Moving => "it was moving each time; its stack could not be had",
        NoStack::Unreadable => "its stack cannot be read",
        NoStack::NoRoom => "there is no room for more stacks",
    }
}
