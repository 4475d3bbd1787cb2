//! Opening the file behind a mapping, and being sure that it is the one.
//!
//! First by `/proc/PID/map_files/START-END`: the kernel itself resolves it, whatever has become of the path. When the process is already gone, by its
//! path inside the root that it had, accepted only if device and inode are those of the mapping. Nothing is opened for reading before it is known to be
//! a regular file: opening a FIFO would wait, opening a device may do anything.

use crate::model::mapping::{MappedRange, ObjectId};
use crate::model::process::Pid;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, major, minor, open, openat2};
use rustix::io::Errno;
use std::os::fd::AsRawFd as _;

/// A file that is open, and which one it is.
#[derive(Debug)]
pub struct Opened {
    /// Its identity.
    pub id: ObjectId,
    /// The open file.
    pub file: OwnedFd,
}

/// Why a file was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refused {
    /// It is not there any more.
    Gone,
    /// It is no regular file.
    NotRegular,
    /// Something else has its name now.
    Mismatch,
    /// We may not open it.
    NoRights,
    /// No more files can be open.
    TooMany,
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        match error {
            Errno::ACCESS | Errno::PERM => Self::NoRights,
            Errno::MFILE | Errno::NFILE => Self::TooMany,
            _ => Self::Gone,
        }
    }
}

/// Opens the file behind a mapping. `root` is the root folder that the process had, for when it is gone.
///
/// # Errors
/// See [`Refused`].
pub(super) fn open_mapping(pid: Pid, range: &MappedRange, root: Option<BorrowedFd<'_>>) -> Result<Opened, Refused> {
    let link = format!("/proc/{}/map_files/{:x}-{:x}", pid.0, range.start, range.end);
    match open_checked(&link, |stat| stat.st_ino == range.file.inode) {
        Err(Refused::Gone | Refused::NoRights | Refused::Mismatch) => {}
        done => return done,
    }
    match root {
        Some(root) => open_below(root, range),
        None => Err(Refused::Gone),
    }
}

/// By a magic link of /proc: the kernel knows where it leads, so the inode number alone is compared (on overlayfs and btrfs the device of a mapping is
/// not the one that `stat` tells).
fn open_checked(link: &str, is_right: impl Fn(&Stat) -> bool) -> Result<Opened, Refused> {
    let place = open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&place)?;
    if !is_right(&stat) {
        return Err(Refused::Mismatch);
    }
    reopen(&place, &stat)
}

/// By its path inside a root.
fn open_below(root: BorrowedFd<'_>, range: &MappedRange) -> Result<Opened, Refused> {
    let path = range.path.strip_suffix(b" (deleted)").unwrap_or(&range.path);
    if !path.starts_with(b"/") {
        return Err(Refused::Gone);
    }
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let place = openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let stat = fstat(&place)?;
    let same = stat.st_ino == range.file.inode && major(stat.st_dev) == range.file.major && minor(stat.st_dev) == range.file.minor;
    if !same {
        return Err(Refused::Mismatch);
    }
    reopen(&place, &stat)
}

/// Opens for reading what is so far only a place.
pub(super) fn reopen(place: &OwnedFd, stat: &Stat) -> Result<Opened, Refused> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refused::NotRegular);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open(format!("/proc/self/fd/{}", place.as_raw_fd()), flags, Mode::empty())?;
    let id = object_id(file.as_fd()).map_err(Refused::from)?;
    Ok(Opened { id, file })
}

/// The identity of an open file.
///
/// # Errors
/// `fstat` failed.
pub fn object_id(file: BorrowedFd<'_>) -> Result<ObjectId, Errno> {
    let stat = fstat(file)?;
    Ok(ObjectId {
        device: stat.st_dev,
        inode: stat.st_ino,
        modified_ns: stat.st_mtime.wrapping_mul(1_000_000_000).wrapping_add(stat.st_mtime_nsec as i64),
        size: stat.st_size as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mapping::InodeId;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    fn range_of(path: &Path) -> MappedRange {
        let metadata = std::fs::symlink_metadata(path).expect("there");
        let file = InodeId { major: major(metadata.dev()), minor: minor(metadata.dev()), inode: metadata.ino() };
        MappedRange { start: 1, end: 2, file_offset: 0, file, path: path.as_os_str().as_encoded_bytes().to_vec() }
    }

    fn root() -> OwnedFd {
        open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("a root")
    }

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("open-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn a_file_is_found_by_its_path_when_the_process_is_gone() {
        let opened = open_mapping(Pid(u32::MAX), &range_of(Path::new("/etc/passwd")), Some(root().as_fd())).expect("regular");
        assert_eq!(opened.id.inode, std::fs::metadata("/etc/passwd").expect("there").ino());
    }

    #[test]
    fn what_took_a_files_name_is_refused() {
        let folder = folder("replaced");
        let path = folder.join("program");
        std::fs::write(&path, "old").expect("written");
        let range = range_of(&path);
        std::fs::write(folder.join("new"), "new").expect("written");
        std::fs::rename(folder.join("new"), &path).expect("renamed");
        assert_eq!(open_mapping(Pid(u32::MAX), &range, Some(root().as_fd())).err(), Some(Refused::Mismatch));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(open_mapping(Pid(u32::MAX), &range, Some(root().as_fd())).err(), Some(Refused::Gone));
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn neither_a_fifo_nor_a_device_is_opened() {
        let folder = folder("fifo");
        let path = folder.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("made");
        // Would wait for a writer for ever if it were opened for reading.
        assert_eq!(open_mapping(Pid(u32::MAX), &range_of(&path), Some(root().as_fd())).err(), Some(Refused::NotRegular));
        assert_eq!(open_mapping(Pid(u32::MAX), &range_of(Path::new("/dev/null")), Some(root().as_fd())).err(), Some(Refused::NotRegular));
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn our_own_program_is_found_by_its_mapping() {
        let ranges = crate::object::store::tests::own_ranges();
        let range = ranges.iter().find(|range| range.file.inode != 0).expect("a file with code");
        assert!(open_mapping(Pid(std::process::id()), range, None).is_ok());
    }
}
