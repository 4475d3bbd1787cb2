//! A file. Whoever looks sees the old file whole or the new one whole: the bytes go to a temporary file beside it, which takes its name when
//! they are on the disk. What already is a FIFO or a device is written to directly.

use super::pattern::{expand, expand_beforehand, folder_and_name, is_fixed};
use super::{SinkError, stdout};
use crate::model::encoded::{About, Encoded};
use rustix::fd::OwnedFd;
use rustix::fs::{self, Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Component, Path, PathBuf};

/// How often another name for the temporary file is tried.
const NAMES_TRIED: u32 = 16;

/// What already stands where the profile is to go.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing, a file or a symbolic link: it will be replaced.
    Replaced,
    /// Something to write into: a FIFO, a device, a descriptor under `/dev` or `/proc`.
    WrittenInto,
}

/// Looks, before anything was recorded, whether a profile could be written afterwards, of which only the kind is known: the folder exists and files can be made in it, and
/// the name, if it is known by now, is not that of a folder. `-` is standard output and always fine.
///
/// # Errors
/// Why it could not.
pub fn check(pattern: &Path, about: &About) -> Result<(), SinkError> {
    if pattern == Path::new("-") {
        return Ok(());
    }
    let is_directory = |path: &Path| fs::stat(path).is_ok_and(|stat| file_type(&stat) == FileType::Directory);
    if is_directory(pattern) {
        return Err(SinkError::IsDirectory(pattern.into()));
    }
    let (folder, _) = folder_and_name(pattern)?;
    if let Some(path) = expand_beforehand(pattern, about)? {
        if is_directory(&path) {
            return Err(SinkError::IsDirectory(path));
        }
        if standing(&path)? == Standing::WrittenInto {
            return fs::accessat(CWD, &path, Access::WRITE_OK, AtFlags::EACCESS).map_err(SinkError::io("writing to", path));
        }
    }
    try_folder(folder)
}

/// Makes a file in the folder, which is gone again at once: rights alone do not tell, since some folders (`/proc`) take no file from anybody.
fn try_folder(path: &Path) -> Result<(), SinkError> {
    let folder = open_folder(path)?;
    let nameless = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    let made = match fs::openat(&folder, ".", nameless, Mode::RUSR | Mode::WUSR) {
        // The file system knows no files without a name.
        Err(Errno::NOTSUP | Errno::ISDIR | Errno::INVAL) => Temporary::create(&folder).map(drop),
        made => made.map(drop),
    };
    match made {
        // The folder is there, it has just been opened.
        Err(Errno::NOENT) => Err(SinkError::TakesNoFiles(path.into())),
        made => made.map_err(SinkError::io("creating a file in the folder", path)),
    }
}

/// Whether writing there may wait for somebody: the reader of a pipe or a FIFO, a device.
pub fn may_wait(path: &Path) -> bool {
    path == Path::new("-") || matches!(standing(path), Ok(Standing::WrittenInto))
}

/// Looks, before anything was recorded, whether several profiles can have names of their own.
///
/// # Errors
/// The name is the same for each, or standard output.
pub fn check_several(pattern: &Path) -> Result<(), SinkError> {
    if pattern == Path::new("-") || is_fixed(pattern)? { Err(SinkError::OneName(pattern.into())) } else { Ok(()) }
}

/// The names for all profiles of a recording; `{kind}`, `{pid}` and `{comm}` are filled in. Where two would be equal (a process that execs keeps its
/// pid), the later ones are numbered: nothing that was recorded is given up for a name.
///
/// # Errors
/// The pattern is none.
pub fn expand_all(pattern: &Path, abouts: &[About]) -> Result<Vec<PathBuf>, SinkError> {
    let mut seen = HashSet::new();
    let mut paths = Vec::with_capacity(abouts.len());
    for about in abouts {
        let plain = expand(pattern, about)?;
        let mut path = plain.clone();
        let mut number = 2;
        while !seen.insert(path.clone()) {
            path = numbered(&plain, number);
            number += 1;
        }
        paths.push(path);
    }
    Ok(paths)
}

/// `cpu.prof` as `cpu-2.prof`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Writes the bytes to a file, which only its owner may read: another user's profile is in it. Under `sudo` the owner is who called it.
/// A symbolic link is replaced, not followed. `-` is standard output.
///
/// # Errors
/// What failed. A file that was there before is untouched then.
pub fn write(encoded: &Encoded, path: &Path) -> Result<(), SinkError> {
    if path == Path::new("-") {
        return stdout::write(encoded);
    }
    match standing(path)? {
        Standing::WrittenInto => write_into(&encoded.bytes, path),
        Standing::Replaced => {
            let is_root = rustix::process::geteuid().is_root();
            let owner = is_root.then(|| owner(std::env::var_os("SUDO_UID").as_deref(), std::env::var_os("SUDO_GID").as_deref())).flatten();
            replace(&encoded.bytes, path, owner)
        }
    }
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether the path lies in a folder of the system, with descriptors and devices in it. One that leaves the folder again does not.
fn is_system(path: &Path) -> bool {
    let inside = path.starts_with("/dev") || path.starts_with("/proc");
    inside && !path.starts_with("/dev/shm") && !path.components().any(|component| component == Component::ParentDir)
}

/// Descriptors (`/dev/stdout`) and devices are links in folders of the system, where nothing may be replaced; elsewhere a link is not followed.
fn standing(path: &Path) -> Result<Standing, SinkError> {
    if is_system(path) && fs::stat(path).is_ok() {
        return Ok(Standing::WrittenInto);
    }
    let stat = match fs::lstat(path) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(Standing::Replaced),
        Err(errno) => return Err(SinkError::io("looking at", path)(errno)),
    };
    match file_type(&stat) {
        FileType::RegularFile | FileType::Symlink => Ok(Standing::Replaced),
        FileType::Directory => Err(SinkError::IsDirectory(path.into())),
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
            let sudo = owner(std::env::var_os("SUDO_UID").as_deref(), std::env::var_os("SUDO_GID").as_deref());
            let ours = [0, rustix::process::geteuid().as_raw(), sudo.map_or(0, |(uid, _)| uid.as_raw())];
            match ours.contains(&stat.st_uid) {
                true => Ok(Standing::WrittenInto),
                false => Err(SinkError::ForeignOwner { path: path.into(), owner: stat.st_uid }),
            }
        }
        _ => Err(SinkError::NotWritable(path.into())),
    }
}

fn write_into(bytes: &[u8], path: &Path) -> Result<(), SinkError> {
    // Links are followed only where `standing` did. A descriptor may be a file that a shell opened with `>>`: what is in it stays.
    let follow = if is_system(path) { OFlags::APPEND } else { OFlags::NOFOLLOW };
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY | follow;
    let file = fs::open(path, flags, Mode::empty()).map_err(SinkError::io("opening", path))?;
    stdout::write_all(&file, bytes).map_err(SinkError::io("writing to", path))
}

/// Who called `sudo`: both ids, or nobody.
fn owner(uid: Option<&OsStr>, gid: Option<&OsStr>) -> Option<(Uid, Gid)> {
    // The largest number means "do not change" to chown, so it is no one's id.
    let id = |text: Option<&OsStr>| text?.to_str()?.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    Some((Uid::from_raw(id(uid)?), Gid::from_raw(id(gid)?)))
}

fn open_folder(folder: &Path) -> Result<OwnedFd, SinkError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(folder, flags, Mode::empty()).map_err(SinkError::io("opening the folder", folder))
}

/// A file under a temporary name; removed unless it took its own.
struct Temporary<'a> {
    folder: &'a OwnedFd,
    name: String,
    file: OwnedFd,
}

impl<'a> Temporary<'a> {
    fn create(folder: &'a OwnedFd) -> Result<Self, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut tried = 0;
        loop {
            let name = format!(".profiler-{:016x}.tmp", RandomState::new().build_hasher().finish());
            match fs::openat(folder, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok(Self { folder, name, file }),
                Err(Errno::EXIST) if tried < NAMES_TRIED => tried += 1,
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // After the rename there is nothing of that name; a failure here leaves a file behind, and there is nobody to tell.
        let _ = fs::unlinkat(self.folder, &self.name, AtFlags::empty());
    }
}

/// Every step works on the same open folder, so that a folder that is renamed meanwhile changes nothing.
fn replace(bytes: &[u8], path: &Path, owner: Option<(Uid, Gid)>) -> Result<(), SinkError> {
    let (folder_path, name) = (path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")), path.file_name());
    let name = name.ok_or_else(|| SinkError::NoName(path.into()))?;
    let folder = open_folder(folder_path)?;
    let temporary = Temporary::create(&folder).map_err(SinkError::io("creating a file in", folder_path))?;
    stdout::write_all(&temporary.file, bytes).map_err(SinkError::io("writing", path))?;
    if let Some((uid, gid)) = owner {
        fs::fchown(&temporary.file, Some(uid), Some(gid)).map_err(SinkError::io("giving its owner", path))?;
    }
    fs::fsync(&temporary.file).map_err(SinkError::io("writing", path))?;
    fs::renameat(&folder, &temporary.name, &folder, name).map_err(SinkError::io("naming the new file", path))?;
    // The profile is there; some file systems cannot sync a folder, which is not worth failing for.
    match fs::fsync(&folder) {
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(SinkError::io("writing the folder of", path)(errno)),
    }
}

#[cfg(test)]
mod tests;
