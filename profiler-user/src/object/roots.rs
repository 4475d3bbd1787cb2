//! Root folders of mount namespaces, kept: a process that is gone has no `/proc/PID/root` any more, but the files that it mapped may still be there.

use rustix::fd::OwnedFd;
use std::collections::HashMap;

/// Roots that are kept at most.
const ROOTS_MAX: usize = 64;

/// Kept roots, by the inode number of their mount namespace.
#[derive(Debug, Default)]
pub(super) struct Roots(HashMap<u64, OwnedFd>);

impl Roots {
    /// Keeps the root of a live process's mount namespace, unless one of that namespace is kept already.
    pub(super) fn keep(&mut self, pid: crate::model::process::Pid, root: impl FnOnce() -> Option<OwnedFd>) {
        let Ok(namespace) = rustix::fs::stat(format!("/proc/{}/ns/mnt", pid.0)) else { return };
        if self.0.len() < ROOTS_MAX && !self.0.contains_key(&namespace.st_ino) {
            self.0.extend(root().map(|root| (namespace.st_ino, root)));
        }
    }

    /// All that are kept.
    pub(super) fn iter(&self) -> impl Iterator<Item = &OwnedFd> {
        self.0.values()
    }
}
