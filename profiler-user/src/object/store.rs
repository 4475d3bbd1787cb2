//! The open files behind mappings, by inode. A held descriptor keeps its inode from being freed, and so the inode's number from being given to another
//! file: as long as an entry is here, its key means this file.

use super::look::{OpenError, OpenedFile, look_inside, look_through, root_of, stat_quietly};
use super::perf_map;
use super::roots::Roots;
use crate::model::mapping::{InodeId, MappedRange, MappingKind, ObjectId};
use crate::model::process::{Pid, ProcessKey};
use crate::sys::file_version::generation;
use rustix::fs::{MemfdFlags, ResolveFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// A file as mappings name it: with the generation, where the kernel has told that.
type FileKey = (InodeId, Option<u32>);

/// Most files that are held.
const HELD_MAX: u64 = 16_384;
/// Descriptors that are left to the rest of the program.
const SPARE_DESCRIPTORS: u64 = 512;
/// Most perf maps that are held.
const PERF_MAPS_MAX: usize = 1_024;
/// Most failures that are remembered.
const FAILED_MAX: usize = 8_192;
/// How long after a failure the same process's file is not tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How often a perf map is looked for. The wait doubles each time, so the last look is minutes after the first.
const PERF_MAP_TRIES: u32 = 12;

/// A held file.
#[derive(Debug)]
struct Held {
    file: OpenedFile,
    used: u64,
}

/// For whose mappings an open file stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Vouched {
    /// Device and inode are those of the mapping: whoever maps them maps this file.
    ForAll,
    /// Only the inode is: the process that it was opened for maps it.
    ForOne,
}

/// The open files.
#[derive(Debug)]
pub struct ObjectStore {
    ids: HashMap<FileKey, ObjectId>,
    /// Files that only their own process vouches for: its mapping's device is not the file's.
    own_ids: HashMap<(Pid, FileKey), ObjectId>,
    held: HashMap<ObjectId, Held>,
    held_max: usize,
    /// Counts uses: what was used longest ago is closed first.
    clock: u64,
    /// The last failure by file: which process's mapping it was, and when.
    failed: HashMap<InodeId, (Pid, Instant)>,
    refused: HashSet<InodeId>,
    perf_maps: HashMap<ProcessKey, OpenedFile>,
    perf_map_tries: HashMap<ProcessKey, (u32, Instant)>,
    roots: Roots,
    /// Device of files in memory (`memfd_create`): no mount table has it.
    memory: Option<(u32, u32)>,
}

impl Default for ObjectStore {
    fn default() -> Self {
        Self::new()
    }
}

impl ObjectStore {
    /// An empty store. Raises the limit on open files to what is allowed.
    pub fn new() -> Self {
        let limit = getrlimit(Resource::Nofile);
        // If it cannot be raised, the store is smaller.
        let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_ok();
        let descriptors = if raised { limit.maximum } else { limit.current }.unwrap_or(u64::MAX);
        let held_max =
            descriptors.saturating_sub(SPARE_DESCRIPTORS + PERF_MAPS_MAX as u64).clamp(descriptors / 2, HELD_MAX.max(descriptors / 2));
        Self::holding(held_max.clamp(16, HELD_MAX) as usize)
    }

    /// An empty store that holds so many files.
    pub(super) fn holding(held_max: usize) -> Self {
        let memory = rustix::fs::memfd_create(c"device", MemfdFlags::CLOEXEC).and_then(|file| stat_quietly(file.as_fd()));
        Self {
            ids: HashMap::new(),
            own_ids: HashMap::new(),
            held: HashMap::new(),
            held_max,
            clock: 0,
            failed: HashMap::new(),
            refused: HashSet::new(),
            perf_maps: HashMap::new(),
            perf_map_tries: HashMap::new(),
            roots: Roots::default(),
            memory: memory.ok().map(|stat| (stat.stx_dev_major, stat.stx_dev_minor)),
        }
    }

    /// What is behind a mapping of a file: opens it unless it is open already.
    pub fn resolve(&mut self, pid: Pid, range: &MappedRange) -> MappingKind {
        self.clock += 1;
        let key = (range.file, range.generation);
        if let Some(id) = self.ids.get(&key).or_else(|| self.own_ids.get(&(pid, key)))
            && let Some(held) = self.held.get_mut(id)
        {
            held.used = self.clock;
            return MappingKind::Object(*id);
        }
        let unopened = MappingKind::Unopened(range.file);
        if self.failed.get(&range.file).is_some_and(|(whose, when)| *whose == pid && when.elapsed() < RETRY) {
            return unopened;
        }
        match self.open(pid, range) {
            Ok((file, vouched)) => {
                let id = file.id;
                self.failed.remove(&range.file);
                self.refused.remove(&range.file);
                self.hold(file);
                match vouched {
                    Vouched::ForAll => self.ids.insert(key, id),
                    Vouched::ForOne => self.own_ids.insert((pid, key), id),
                };
                MappingKind::Object(id)
            }
            Err(error) => {
                self.note_failure(pid, range.file, &error);
                unopened
            }
        }
    }

    /// By the kernel's own link to what is mapped there, or else by path. The path is only a hint: what is there must be the mapped file.
    fn open(&mut self, pid: Pid, range: &MappedRange) -> Result<(OpenedFile, Vouched), OpenError> {
        self.roots.keep(pid, || root_of(Some(pid)).ok());
        let link = format!("/proc/{}/map_files/{:x}-{:x}", pid.0, range.start, range.end);
        match look_through(&link) {
            Ok(seen) if seen.is_file(range.file) => return seen.open(pid, self.memory).map(|file| (file, Vouched::ForAll)),
            Ok(seen) if seen.may_be_file(pid, range.file) => return seen.open(pid, self.memory).map(|file| (file, Vouched::ForOne)),
            // The range is another one by now, or the process gone, or the right to follow the link missing.
            Ok(_) | Err(_) => {}
        }
        let path = range.path.strip_suffix(b" (deleted)").unwrap_or(&range.path);
        let below = |root: BorrowedFd<'_>| {
            let seen = look_inside(root, path, ResolveFlags::empty())?;
            if !seen.is_file(range.file) {
                return Err(OpenError::Other);
            }
            let file = seen.open(pid, self.memory)?;
            let is_another = range.generation.zip(generation(file.descriptor.as_fd())).is_some_and(|(mapped, found)| mapped != found);
            if is_another { Err(OpenError::Other) } else { Ok((file, Vouched::ForAll)) }
        };
        match root_of(Some(pid)).and_then(|root| below(root.as_fd())) {
            Err(error @ (OpenError::Gone(_) | OpenError::Other)) => {
                // The process is gone. Whose root it had is not known any more; device and inode say which of these is right.
                let kept = self.roots.iter().find_map(|root| below(root.as_fd()).ok());
                kept.map_or_else(|| root_of(None).and_then(|root| below(root.as_fd())).map_err(|_| error), Ok)
            }
            answer => answer,
        }
    }

    fn note_failure(&mut self, pid: Pid, file: InodeId, error: &OpenError) {
        if self.failed.len() >= FAILED_MAX {
            self.failed.clear();
        }
        self.failed.insert(file, (pid, Instant::now()));
        if self.refused.len() >= FAILED_MAX {
            self.refused.clear();
        }
        if matches!(error, OpenError::Refused(_)) {
            self.refused.insert(file);
        }
    }

    fn hold(&mut self, file: OpenedFile) {
        if self.held.len() >= self.held_max {
            self.close_oldest();
        }
        self.held.insert(file.id, Held { file, used: self.clock });
    }

    /// Closes the eighth of the files that was used longest ago.
    fn close_oldest(&mut self) {
        let mut uses: Vec<u64> = self.held.values().map(|held| held.used).collect();
        let at = (uses.len() / 8).min(uses.len().saturating_sub(1));
        let (_, limit, _) = uses.select_nth_unstable(at);
        let limit = *limit;
        self.held.retain(|_, held| held.used > limit);
        let held = &self.held;
        self.ids.retain(|_, id| held.contains_key(id));
        self.own_ids.retain(|_, id| held.contains_key(id));
    }

    /// Whether the file of a mapping was there, but none that may be opened.
    pub fn was_refused(&self, file: InodeId) -> bool {
        self.refused.contains(&file)
    }

    /// A held file.
    pub fn file(&self, id: ObjectId) -> Option<BorrowedFd<'_>> {
        self.held.get(&id).map(|held| held.file.descriptor.as_fd())
    }

    /// The uid of a held file's owner.
    pub fn owner(&self, id: ObjectId) -> Option<u32> {
        self.held.get(&id).map(|held| held.file.owner)
    }

    /// Opens and holds the perf map of a process, if there is one. Quick when it is held already, or was looked for a moment ago.
    pub fn keep_perf_map(&mut self, process: ProcessKey) {
        if self.perf_maps.contains_key(&process) || self.perf_maps.len() >= PERF_MAPS_MAX {
            return;
        }
        let tries = match self.perf_map_tries.get(&process) {
            Some((tries, last)) if *tries >= PERF_MAP_TRIES || last.elapsed() < Duration::from_millis(100 << tries) => return,
            Some((tries, _)) => *tries,
            None => 0,
        };
        if let Ok(file) = perf_map::open(process, self.memory) {
            self.perf_map_tries.remove(&process);
            self.perf_maps.insert(process, file);
            return;
        }
        if self.perf_map_tries.len() >= FAILED_MAX {
            self.perf_map_tries.clear();
        }
        self.perf_map_tries.insert(process, (tries + 1, Instant::now()));
    }

    /// The held perf map of a process.
    pub fn perf_map(&self, process: ProcessKey) -> Option<(ObjectId, BorrowedFd<'_>)> {
        self.perf_maps.get(&process).map(|file| (file.id, file.descriptor.as_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of our own that is mapped nowhere: it is found by its path.
    fn range_of(path: &std::path::Path) -> MappedRange {
        use std::os::unix::ffi::OsStrExt as _;
        let stat = rustix::fs::stat(path).expect("the file");
        let file = InodeId { major: rustix::fs::major(stat.st_dev), minor: rustix::fs::minor(stat.st_dev), inode: stat.st_ino };
        MappedRange { start: 0x1000, end: 0x2000, file_offset: 0, file, generation: None, path: path.as_os_str().as_bytes().to_vec() }
    }

    #[test]
    fn files_beyond_the_bound_close_the_ones_used_longest_ago() {
        let folder = std::env::temp_dir().join(format!("object-bound-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (mut store, pid) = (ObjectStore::holding(8), Pid(std::process::id()));
        let mut kinds = Vec::new();
        for at in 0..20 {
            let path = folder.join(at.to_string());
            std::fs::write(&path, "x").expect("a file");
            kinds.push(store.resolve(pid, &range_of(&path)));
            // The first is used all the time, and stays.
            assert_eq!(store.resolve(pid, &range_of(&folder.join("0"))), kinds[0]);
        }
        std::fs::remove_dir_all(&folder).expect("removed");
        assert!(store.held.len() <= 8 && store.ids.len() <= 8);
        assert!(kinds.iter().all(|kind| matches!(kind, MappingKind::Object(_))));
        let open = |kind: &MappingKind| matches!(kind, MappingKind::Object(id) if store.file(*id).is_some());
        assert!(open(&kinds[0]) && open(&kinds[19]) && !open(&kinds[1]));
    }
}
