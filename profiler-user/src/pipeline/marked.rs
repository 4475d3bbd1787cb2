//! Files that tell of their blocks themselves, by marks: which are probed in whom, and why others are not.

use super::placements::Placements;
use crate::bpf::{BpfError, Capture};
use crate::model::allocator::{MARKS_PROVIDER, Marks, UselessMarks};
use crate::model::mapping::ObjectId;
use crate::model::process::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;

/// Files that are named.
const NAMED_MAX: usize = 32;

/// Which files' marks are probed in whom.
#[derive(Default)]
pub(super) struct Marked {
    armed: BTreeSet<(Pid, ObjectId)>,
    /// Files, by their paths; those of no use with the reason.
    files: BTreeMap<String, Option<UselessMarks>>,
    has_any: bool,
}

impl Marked {
    /// Arms the marks of a file, if there are any, in a process that maps it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn arm(
        &mut self,
        whose: (Pid, ObjectId),
        (file, path): (BorrowedFd<'_>, &[u8]),
        (marks, placements): (&Marks, &mut Option<Placements>),
        capture: &mut Capture,
    ) -> Result<(), BpfError> {
        match marks {
            Marks::None => {}
            Marks::Useless(why) => self.name(path, Some(*why)),
            Marks::Usable(_) if self.armed.contains(&whose) => {}
            Marks::Usable(marks) => {
                capture.arm_marks(whose.0, file, marks)?;
                self.armed.insert(whose);
                self.name(path, None);
                if let Some(placements) = placements {
                    placements.note_marks(whose, path, marks);
                }
            }
        }
        Ok(())
    }

    fn name(&mut self, path: &[u8], why: Option<UselessMarks>) {
        self.has_any |= why.is_none();
        if self.files.len() < NAMED_MAX {
            self.files.insert(String::from_utf8_lossy(path).into_owned(), why);
        }
    }

    /// Whether those of a file are probed in a process.
    pub(super) fn is_armed(&self, whose: (Pid, ObjectId)) -> bool {
        self.armed.contains(&whose)
    }

    /// Whether any were probed.
    pub(super) fn has_any(&self) -> bool {
        self.has_any
    }

    /// A process has ended.
    pub(super) fn forget(&mut self, pid: Pid, capture: &mut Capture) {
        let before = self.armed.len();
        self.armed.retain(|(armed, _)| *armed != pid);
        if before != self.armed.len() {
            capture.disarm_marks(pid);
        }
    }

    /// All were disarmed.
    pub(super) fn disarmed(&mut self) {
        self.armed.clear();
    }

    /// What there is to say of them.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> + '_ {
        self.files.iter().map(|(file, why)| {
            let Some(why) = why else {
                return format!("{MARKS_PROVIDER}: {file} tells of its blocks itself, of those that it samples at a distance of its own");
            };
            let why = match why {
                UselessMarks::Malloc => "it takes its memory from the malloc of another file, which is probed and counts the same blocks",
                UselessMarks::Written => "one of them is written in a way that is not understood here",
                UselessMarks::Half => "only one of alloc and free is there",
                UselessMarks::Many => "there are too many of them",
            };
            format!("{MARKS_PROVIDER}: the marks of {file} are not probed: {why}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_with_what_became_of_their_marks() {
        let mut marked = Marked::default();
        marked.name(b"/opt/server", None);
        marked.name(b"/lib/libwrap.so", Some(UselessMarks::Malloc));
        marked.name(b"/lib/libwrap.so", Some(UselessMarks::Malloc));
        assert!(marked.has_any());
        let notes: Vec<String> = marked.notes().collect();
        assert_eq!(notes.len(), 2);
        assert!(notes[0].starts_with("otel_memory: the marks of /lib/libwrap.so are not probed: it takes its memory from"), "{notes:?}");
        assert!(notes[1].starts_with("otel_memory: /opt/server tells of its blocks itself"), "{notes:?}");
    }
}
