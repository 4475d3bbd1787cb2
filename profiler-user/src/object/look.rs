//! Looking before opening: what a path leads to, without the file, its server or its owner noticing or being able to hold us.

use crate::model::mapping::{InodeId, ObjectId};
use crate::model::process::Pid;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::io::{self, BufRead as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

/// Mounts of one process that are read at most, in lines of its `mountinfo`.
const MOUNTS_MAX: usize = 100_000;

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It, or the way to it, is gone or closed to us.
    #[error("opening the file failed: {0}; it was removed, or its process has ended")]
    Gone(#[from] Errno),
    /// What is there is another file than the one that was asked for.
    #[error("another file is there now")]
    Other,
    /// It is none that may be opened.
    #[error("{0}; files of this kind are not opened")]
    Refused(&'static str),
}

/// A regular file that was opened for reading.
#[derive(Debug)]
pub struct OpenedFile {
    /// Which.
    pub id: ObjectId,
    /// Its owner: the uid.
    pub owner: u32,
    /// Its descriptor.
    pub descriptor: OwnedFd,
}

/// A file that was looked at: a descriptor that is no open file yet.
pub(super) struct Seen {
    path: OwnedFd,
    pub(super) stat: Statx,
}

/// Where relative paths begin, and how they are followed: without ever asking the server of a file system (`RESOLVE_CACHED`: what is in use is in the
/// kernel's cache), nor leaving the root through a magic link.
const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::CACHED);

/// Looks at what a link of the kernel's own (`/proc/PID/map_files/..`) leads to.
pub(super) fn look_through(link: &str) -> Result<Seen, OpenError> {
    look(rustix::fs::openat(CWD, link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Looks at a path inside a root.
pub(super) fn look_inside(root: BorrowedFd<'_>, path: &[u8], more: ResolveFlags) -> Result<Seen, OpenError> {
    look(rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), RESOLVE | more)?)
}

/// The root of a process, or of the profiler.
pub(super) fn root_of(pid: Option<Pid>) -> Result<OwnedFd, OpenError> {
    let path = pid.map_or_else(|| "/".to_owned(), |pid| format!("/proc/{}/root", pid.0));
    Ok(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn look(path: OwnedFd) -> Result<Seen, OpenError> {
    let stat = stat_quietly(path.as_fd())?;
    Ok(Seen { path, stat })
}

/// The file's attributes as the kernel has them (`AT_STATX_DONT_SYNC`): a FUSE server is not asked.
pub(super) fn stat_quietly(file: BorrowedFd<'_>) -> Result<Statx, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    rustix::fs::statx(file, c"", flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
}

/// Which object a descriptor is.
pub(super) fn object_id(stat: &Statx) -> ObjectId {
    ObjectId {
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        modified_ns: stat.stx_mtime.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(i64::from(stat.stx_mtime.tv_nsec)),
        size: stat.stx_size,
    }
}

impl Seen {
    /// Whether it is the file of a mapping, by device and inode.
    pub(super) fn is_file(&self, file: InodeId) -> bool {
        self.stat.stx_ino == file.inode && (self.stat.stx_dev_major, self.stat.stx_dev_minor) == (file.major, file.minor)
    }

    /// Whether it may be the file of a mapping although the device is another: so it is on file systems that lie on others. Anybody can choose inode
    /// numbers on a file system of his own, so this says nothing about what another process maps under the same numbers.
    pub(super) fn may_be_file(&self, pid: Pid, file: InodeId) -> bool {
        self.stat.stx_ino == file.inode && mount_type(pid, self.stat.stx_mnt_id).is_some_and(|kind| has_other_devices(&kind))
    }

    /// Opens it for reading if that is safe: a regular file, on a file system that the kernel serves itself.
    pub(super) fn open(self, pid: Pid, memory: Option<(u32, u32)>) -> Result<OpenedFile, OpenError> {
        if FileType::from_raw_mode(self.stat.stx_mode.into()) != FileType::RegularFile {
            return Err(OpenError::Refused("it is no regular file"));
        }
        // Only file systems without a device (major 0) can be served by a user's process.
        if self.stat.stx_dev_major == 0 && Some((0, self.stat.stx_dev_minor)) != memory {
            match mount_type(pid, self.stat.stx_mnt_id) {
                Some(kind) if is_served_by_processes(&kind) => return Err(OpenError::Refused("a process serves its file system")),
                Some(_) => {}
                None => return Err(OpenError::Refused("nothing is known of its file system")),
            }
        }
        self.reopen()
    }

    /// Opens what was looked at and no other file: through its descriptor. `O_NONBLOCK`: a lease on it makes this fail, not wait.
    pub(super) fn reopen(self) -> Result<OpenedFile, OpenError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let descriptor = rustix::fs::openat(CWD, format!("/proc/self/fd/{}", self.path.as_raw_fd()), flags, Mode::empty())?;
        let stat = stat_quietly(descriptor.as_fd())?;
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile || stat.stx_ino != self.stat.stx_ino {
            return Err(OpenError::Other);
        }
        Ok(OpenedFile { id: object_id(&stat), owner: stat.stx_uid, descriptor })
    }
}

/// The type of the file system of a mount, as the mount table of the process has it, or else our own.
fn mount_type(pid: Pid, mount: u64) -> Option<Vec<u8>> {
    let table = |path: String| {
        let lines = io::BufReader::new(std::fs::File::open(path).ok()?).split(b'\n').take(MOUNTS_MAX);
        lines.map_while(Result::ok).find_map(|line| type_of_mount(&line, mount))
    };
    table(format!("/proc/{}/mountinfo", pid.0)).or_else(|| table("/proc/self/mountinfo".to_owned()))
}

/// The type in a line of `mountinfo` (`ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - TYPE SOURCE ...`) if it is the mount's. Blanks in names are
/// escaped by the kernel.
fn type_of_mount(line: &[u8], mount: u64) -> Option<Vec<u8>> {
    let mut words = line.split(|byte| *byte == b' ');
    let id: u64 = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    if id != mount {
        return None;
    }
    words.skip(5).skip_while(|word| *word != b"-").nth(1).map(<[u8]>::to_vec)
}

/// File systems whose mappings have another device than their files.
fn has_other_devices(kind: &[u8]) -> bool {
    matches!(kind, b"overlay" | b"btrfs" | b"bcachefs")
}

/// FUSE, in all its names.
fn is_served_by_processes(kind: &[u8]) -> bool {
    kind == b"fuse" || kind == b"fuseblk" || kind.starts_with(b"fuse.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_mount_stands_behind_the_dash() {
        let line = b"36 35 0:98 / /mnt\\040x rw,noatime master:1 propagate_from:2 - fuse.sshfs a@b:/ rw,errors=continue";
        assert_eq!(type_of_mount(line, 36).expect("the mount"), b"fuse.sshfs");
        assert_eq!(type_of_mount(line, 35), None);
        assert_eq!(type_of_mount(b"36 35 0:98 / - - - tmpfs", 36).expect("odd, but read"), b"tmpfs");
        assert_eq!(type_of_mount(b"36", 36), None);
        assert!(is_served_by_processes(b"fuse.sshfs") && is_served_by_processes(b"fuseblk") && !is_served_by_processes(b"fusectl"));
    }

    #[test]
    fn our_own_program_is_opened_by_its_link() {
        let seen = look_through("/proc/self/exe").expect("our program");
        let (inode, pid) = (seen.stat.stx_ino, Pid(std::process::id()));
        let opened = seen.open(pid, None).expect("a regular file");
        assert_eq!(opened.id.inode, inode);
        assert_eq!(opened.id.size, std::fs::metadata("/proc/self/exe").expect("our program").len());
    }
}
