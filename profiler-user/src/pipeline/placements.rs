//! Where the functions of allocators were probed, and in how many processes: for who asks what was chosen.

use crate::bpf::Capture;
use crate::model::allocator::{Allocator, AllocatorFunction, AllocatorMark, MARKS_PROVIDER, Placement, ProbePlace, Told};
use crate::model::mapping::ObjectId;
use crate::model::process::Pid;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Places that are kept apart.
const PLACES_MAX: usize = 1 << 14;

/// A probe in a file: of which function, by its entry, and where.
type Place = (ObjectId, u64, u64);

/// The places, and who was counted.
#[derive(Default)]
pub(super) struct Placements {
    places: BTreeMap<Place, Placement>,
    /// Processes that are there still: who is armed by turns counts once.
    counted: HashMap<Pid, HashSet<Place>>,
}

impl Placements {
    /// A file's functions were armed in a process.
    pub(super) fn note(&mut self, whose: (Pid, ObjectId), path: &[u8], allocator: &Allocator, capture: &Capture) {
        for function in &allocator.functions {
            if let Some(place) = capture.place_of(function) {
                self.note_function(whose, path, function, place);
            }
        }
    }

    fn note_function(&mut self, (pid, object): (Pid, ObjectId), path: &[u8], function: &AllocatorFunction, chosen: ProbePlace) {
        let names = || std::iter::once(&function.name).chain(&function.aliases).cloned().collect();
        self.note_place(pid, path, (object, function.entry, chosen.offset), (&names, chosen.is_emulated));
    }

    /// A file's own marks were armed in a process. Those of one name are told as one: a compiler puts them wherever it has copied their function to.
    pub(super) fn note_marks(&mut self, (pid, object): (Pid, ObjectId), path: &[u8], marks: &[AllocatorMark]) {
        for mark in marks {
            let names = || vec![format!("{MARKS_PROVIDER}:{}", mark.tells.name())];
            let sort = u64::from(matches!(mark.tells, Told::Free(_))) << 1 | u64::from(mark.is_emulated);
            self.note_place(pid, path, (object, sort, sort), (&names, mark.is_emulated));
        }
    }

    fn note_place(&mut self, pid: Pid, path: &[u8], place: Place, (names, is_emulated): (&dyn Fn() -> Vec<String>, bool)) {
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&place) || !self.counted.entry(pid).or_default().insert(place) {
            return;
        }
        let placement = self.places.entry(place).or_insert_with(|| Placement {
            file: String::from_utf8_lossy(path).into_owned(),
            names: names(),
            distance: place.2.saturating_sub(place.1),
            is_emulated,
            processes: 0,
        });
        placement.processes += 1;
    }

    /// A process has ended: another one may have its number.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.counted.remove(&pid);
    }

    /// All of them, those of the most processes first, then in the order of files and of functions in them.
    pub(super) fn all(&self) -> Vec<Placement> {
        let mut all: Vec<Placement> = self.places.values().cloned().collect();
        all.sort_by(|one, other| (Reverse(one.processes), &one.file).cmp(&(Reverse(other.processes), &other.file)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::allocator::AllocatorCall;

    fn function(name: &str, entry: u64) -> AllocatorFunction {
        let place = |offset, is_emulated| ProbePlace { offset, pushed: 0, is_emulated };
        AllocatorFunction {
            name: name.into(),
            aliases: vec![format!("__{name}")],
            call: AllocatorCall::Free,
            entry,
            at_entry: place(entry, false),
            after_entry: place(entry + 9, true),
            forwards: false,
            given: None,
        }
    }

    #[test]
    fn a_process_counts_once_at_a_place_until_it_has_ended() {
        let mut placements = Placements::default();
        let object = ObjectId { device: 1, inode: 2, modified_ns: 3, size: 4 };
        let (free, malloc) = (function("free", 64), function("malloc", 16));
        for pid in [1, 2, 2] {
            placements.note_function((Pid(pid), object), b"/lib/libc.so.6", &free, free.after_entry);
        }
        placements.note_function((Pid(1), object), b"/lib/libc.so.6", &malloc, malloc.at_entry);
        placements.forget(Pid(2));
        placements.note_function((Pid(2), object), b"/lib/libc.so.6", &free, free.after_entry);
        let all = placements.all();
        let told: Vec<_> = all.iter().map(|at| (at.names.join(" "), at.distance, at.is_emulated, at.processes)).collect();
        assert_eq!(told, [("free __free".to_owned(), 9, true, 3), ("malloc __malloc".to_owned(), 0, false, 1)]);
    }
}
