//! The files that are kept open, by identity: a mapping whose file is open already costs no system call.
//!
//! A descriptor pins its inode: while it is open no other file can have that inode number, so (device, inode) of a mapping record may stand for the
//! open file. When a descriptor is let go, what was said of its inode goes with it.

use super::open::{Opened, Refused, object_id, open_mapping};
use super::perf_map;
use crate::model::mapping::{InodeId, MappedRange, MappingKind, ObjectId};
use crate::model::process::{Pid, ProcessKey};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::{HashMap, VecDeque};

/// Files that are kept at most.
const FILES_MAX: usize = 4096;
/// Descriptors that are left for everything else.
const SPARE_DESCRIPTORS: usize = 128;
/// Perf maps that are kept at most, and processes that were found to have none.
const PERF_MAPS_MAX: usize = 512;
/// Root folders of mount namespaces that are kept at most.
const ROOTS_MAX: usize = 64;

/// Open files of targets.
#[derive(Debug)]
pub struct ObjectStore {
    files: HashMap<ObjectId, OwnedFd>,
    by_inode: HashMap<InodeId, ObjectId>,
    /// In the order in which they were opened, for letting the oldest go.
    opened: VecDeque<(ObjectId, InodeId)>,
    files_max: usize,
    perf_maps: HashMap<ProcessKey, Option<(ObjectId, OwnedFd)>>,
    /// Roots by mount namespace, and the namespace of a process as it was last seen.
    roots: HashMap<u64, OwnedFd>,
    host_root: Option<OwnedFd>,
    /// Files that were let go to make room.
    evicted: u64,
}

impl Default for ObjectStore {
    fn default() -> Self {
        Self::new()
    }
}

impl ObjectStore {
    /// An empty store. Raises our own limit on open files as far as it goes.
    pub fn new() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
        let allowed = limit.maximum.map_or(usize::MAX, |maximum| maximum as usize);
        Self {
            files: HashMap::new(),
            by_inode: HashMap::new(),
            opened: VecDeque::new(),
            files_max: FILES_MAX.min(allowed.saturating_sub(SPARE_DESCRIPTORS + PERF_MAPS_MAX + ROOTS_MAX).max(16)),
            perf_maps: HashMap::new(),
            roots: HashMap::new(),
            host_root: open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok(),
            evicted: 0,
        }
    }

    /// What is behind a mapping of a file: the open file, or only its name when it cannot be had.
    pub fn resolve(&mut self, pid: Pid, range: &MappedRange) -> MappingKind {
        if let Some(id) = self.by_inode.get(&range.file) {
            return MappingKind::Object(*id);
        }
        match self.open(pid, range) {
            Ok(opened) => MappingKind::Object(self.keep(opened, range.file)),
            Err(_) => MappingKind::Unopened(range.file),
        }
    }

    fn open(&mut self, pid: Pid, range: &MappedRange) -> Result<Opened, Refused> {
        let namespace = self.namespace(pid);
        let root = namespace.and_then(|namespace| self.roots.get(&namespace)).or(self.host_root.as_ref());
        open_mapping(pid, range, root.map(|root| root.as_fd()))
    }

    /// The mount namespace of a process, its root kept for when the process is gone.
    fn namespace(&mut self, pid: Pid) -> Option<u64> {
        let namespace = rustix::fs::stat(format!("/proc/{}/ns/mnt", pid.0)).ok()?.st_ino;
        if !self.roots.contains_key(&namespace) && self.roots.len() < ROOTS_MAX {
            let root = open(format!("/proc/{}/root", pid.0), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
            self.roots.insert(namespace, root);
        }
        Some(namespace)
    }

    fn keep(&mut self, opened: Opened, inode: InodeId) -> ObjectId {
        while self.files.len() >= self.files_max {
            let Some((oldest, its_inode)) = self.opened.pop_front() else { break };
            self.files.remove(&oldest);
            self.by_inode.remove(&its_inode);
            self.evicted += 1;
        }
        let id = opened.id;
        self.by_inode.insert(inode, id);
        if self.files.insert(id, opened.file).is_none() {
            self.opened.push_back((id, inode));
        }
        id
    }

    /// An open file; None if it had to be let go.
    pub fn file(&self, id: ObjectId) -> Option<BorrowedFd<'_>> {
        self.files.get(&id).map(|file| file.as_fd())
    }

    /// Whether an open file still has the size and time of change of its identity: a file that is rewritten in place keeps its inode.
    pub fn is_unchanged(&self, id: ObjectId) -> bool {
        self.file(id).is_some_and(|file| object_id(file) == Ok(id))
    }

    /// Files that were let go to make room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Opens the perf map of a process and keeps it, if there is one that may be trusted to be that process's.
    pub fn keep_perf_map(&mut self, process: ProcessKey) {
        if matches!(self.perf_maps.get(&process), Some(Some(_))) || self.perf_maps.len() >= PERF_MAPS_MAX {
            return;
        }
        let opened = perf_map::open_perf_map(Pid(process.tgid)).ok();
        self.perf_maps.insert(process, opened.map(|opened| (opened.id, opened.file)));
    }

    /// The perf map of a process.
    pub fn perf_map(&self, process: ProcessKey) -> Option<(ObjectId, BorrowedFd<'_>)> {
        self.perf_maps.get(&process)?.as_ref().map(|(id, file)| (*id, file.as_fd()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Ranges with code of this process.
    pub(in super::super) fn own_ranges() -> Vec<MappedRange> {
        let text = std::fs::read_to_string("/proc/self/maps").expect("ours");
        let line = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let hex = |text: &str| u64::from_str_radix(text, 16).ok();
            let (start, end) = fields[0].split_once('-')?;
            let (major, minor) = fields[3].split_once(':')?;
            let file = InodeId { major: hex(major)? as u32, minor: hex(minor)? as u32, inode: fields[4].parse().ok()? };
            let path = fields.get(5).map(|path| path.as_bytes().to_vec()).unwrap_or_default();
            fields[1].contains('x').then_some(MappedRange { start: hex(start)?, end: hex(end)?, file_offset: hex(fields[2])?, file, path })
        };
        text.lines().filter_map(line).collect()
    }

    #[test]
    fn a_file_is_opened_once() {
        let mut store = ObjectStore::new();
        let range = own_ranges().into_iter().find(|range| range.file.inode != 0).expect("a file with code");
        let kind = store.resolve(Pid(std::process::id()), &range);
        let MappingKind::Object(id) = kind.clone() else { panic!("our own file: {kind:?}") };
        // The process is not even looked at any more.
        assert_eq!(store.resolve(Pid(u32::MAX), &range), kind);
        assert!(store.file(id).is_some() && store.is_unchanged(id));
    }

    #[test]
    fn the_oldest_file_makes_room() {
        let mut store = ObjectStore::new();
        store.files_max = 2;
        let ids: Vec<MappingKind> = ["/etc/passwd", "/etc/group", "/etc/hostname"]
            .iter()
            .map(|path| {
                let stat = rustix::fs::stat(*path).expect("there");
                let file = InodeId { major: rustix::fs::major(stat.st_dev), minor: rustix::fs::minor(stat.st_dev), inode: stat.st_ino };
                store.resolve(Pid(u32::MAX), &MappedRange { start: 0, end: 1, file_offset: 0, file, path: path.as_bytes().to_vec() })
            })
            .collect();
        let open = |kind: &MappingKind| matches!(kind, MappingKind::Object(id) if store.file(*id).is_some());
        assert_eq!(ids.iter().map(open).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(store.evicted(), 1);
    }
}
