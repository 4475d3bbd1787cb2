//! Separate debug files: looked for where the system's packages put them. A found one is only a candidate: whoever asks compares its build id.

use super::look::{OpenError, OpenedFile, look_inside, object_id, stat_quietly};
use crate::model::mapping::ObjectId;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// Links on the way to a file, at most; the kernel's own bound.
const LINKS_MAX: u32 = 40;
/// Build ids that are looked for, bytes: SHA-1 has 20, none has less than 2 or more than 64.
const BUILD_ID_BYTES: std::ops::RangeInclusive<usize> = 2..=64;

/// Whether the folders on the way must be root's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Folders {
    /// Each is root's, and no one else may write to it.
    RootOnly,
    /// The user of the profiler has named the place.
    Trusted,
}

/// Where debug files are looked for.
#[derive(Clone, Debug)]
pub struct DebugFiles {
    places: Vec<(PathBuf, Folders)>,
}

impl DebugFiles {
    /// The folders that the user has named, then `/usr/lib/debug`.
    pub fn new(named: &[PathBuf]) -> Self {
        let mut places: Vec<_> = named.iter().map(|place| (absolute(place), Folders::Trusted)).collect();
        places.push((PathBuf::from("/usr/lib/debug"), Folders::RootOnly));
        Self { places }
    }

    /// Files that may belong to a build id: `PLACE/.build-id/xx/rest.debug`.
    pub fn by_build_id(&self, build_id: &[u8]) -> Vec<OpenedFile> {
        if !BUILD_ID_BYTES.contains(&build_id.len()) {
            return Vec::new();
        }
        let hex: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = Path::new(".build-id").join(&hex[..2]).join(format!("{}.debug", &hex[2..]));
        self.places.iter().filter_map(|(place, folders)| open(&place.join(&path), *folders).ok()).collect()
    }

    /// Files that a debug link in an object may mean: `DIR/.debug/NAME`, `DIR/NAME` and, in each place, `PLACE/DIR/NAME` and `PLACE/NAME`. Both the name
    /// and the object's path are a stranger's text: the name must be one, every folder root's, and the object itself must lie at its path here. In the root of
    /// another mount namespace the same path is another folder.
    pub fn by_link(&self, (object_path, object): (&Path, ObjectId), name: &[u8]) -> Vec<OpenedFile> {
        let name = Path::new(OsStr::from_bytes(name));
        let mut parts = name.components();
        let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name.as_os_str());
        let Some(folder) = object_path.parent().filter(|folder| is_name && folder.is_absolute()) else { return Vec::new() };
        let mut paths = Vec::new();
        if lies_at(object_path, object) {
            paths.extend([folder.join(".debug").join(name), folder.join(name)].map(|path| (path, Folders::RootOnly)));
        }
        for (place, folders) in &self.places {
            paths.push((place.join(folder.strip_prefix("/").unwrap_or(folder)).join(name), *folders));
            paths.push((place.join(name), *folders));
        }
        paths.into_iter().filter_map(|(path, folders)| open(&path, folders).ok()).collect()
    }

    /// Files that a link to shared debug information (`.gnu_debugaltlink`) may mean: by its build id, by its name, or at its path if that lies in one of the places. The path is a
    /// stranger's text.
    pub fn by_alt_link(&self, path: &[u8], build_id: &[u8]) -> Vec<OpenedFile> {
        let mut found = self.by_build_id(build_id);
        let path = Path::new(OsStr::from_bytes(path));
        for (place, folders) in &self.places {
            found.extend(shared_paths(path).iter().filter_map(|shared| open(&place.join(shared), *folders).ok()));
        }
        let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let place = self.places.iter().find(|(place, _)| is_plain && path.starts_with(place));
        found.extend(place.and_then(|(_, folders)| open(path, *folders).ok()));
        found
    }
}

/// Where in a folder of debug files shared ones are: directly in `.dwz`, or in the folder of an architecture there, as Debian has them
/// (`.dwz/x86_64-linux-gnu/NAME.debug`; the links to them are relative).
fn shared_paths(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name() else { return Vec::new() };
    let folder = path.parent().and_then(Path::file_name).filter(|folder| *folder != ".dwz");
    let plain = Path::new(".dwz").join(name);
    folder.map(|folder| Path::new(".dwz").join(folder).join(name)).into_iter().chain([plain]).collect()
}

/// Whether an object is what lies at a path in our own root.
fn lies_at(path: &Path, object: ObjectId) -> bool {
    let seen = root().ok().and_then(|root| look_inside(root.as_fd(), path.as_os_str().as_bytes(), ResolveFlags::empty()).ok());
    seen.is_some_and(|seen| object_id(&seen.stat) == object)
}

/// Opens a regular file, folder by folder and link by link, each checked before it is followed.
fn open(path: &Path, folders: Folders) -> Result<OpenedFile, OpenError> {
    let mut way: VecDeque<PathBuf> = parts(path);
    let mut at = vec![root()?];
    let mut links = 0;
    while let Some(part) = way.pop_front() {
        if part == Path::new("/") {
            at.truncate(1);
            continue;
        }
        if part == Path::new("..") {
            at.truncate(at.len().saturating_sub(1).max(1));
            continue;
        }
        let folder = at.last().ok_or(OpenError::Other)?;
        let next = rustix::fs::openat(folder, &part, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let stat = stat_quietly(next.as_fd())?;
        match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => {
                if folders == Folders::RootOnly && (stat.stx_uid != 0 || stat.stx_mode & 0o022 != 0) {
                    return Err(OpenError::Refused("a folder on the way is not root's alone"));
                }
                at.push(next);
            }
            FileType::Symlink if links < LINKS_MAX => {
                links += 1;
                let target = rustix::fs::readlinkat(&next, c"", Vec::new())?;
                for part in parts(Path::new(OsStr::from_bytes(target.to_bytes()))).into_iter().rev() {
                    way.push_front(part);
                }
            }
            FileType::RegularFile if way.is_empty() => return open_regular(folder, &part),
            _ => return Err(OpenError::Refused("it is no regular file")),
        }
    }
    Err(OpenError::Refused("it is no regular file"))
}

/// The last step: in a folder where only root, or whom the user trusts, can exchange what was just looked at.
fn open_regular(folder: &OwnedFd, name: &Path) -> Result<OpenedFile, OpenError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let descriptor = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let stat = stat_quietly(descriptor.as_fd())?;
    if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
        return Err(OpenError::Refused("it is no regular file"));
    }
    Ok(OpenedFile { id: object_id(&stat), owner: stat.stx_uid, descriptor })
}

fn root() -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A relative folder that the user named counts from the working folder.
fn absolute(place: &Path) -> PathBuf {
    std::path::absolute(place).unwrap_or_else(|_| place.to_path_buf())
}

/// The steps of a path; `/` begins anew.
fn parts(path: &Path) -> VecDeque<PathBuf> {
    let steps = path.components().filter(|component| *component != Component::CurDir);
    steps.map(|component| PathBuf::from(component.as_os_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &[OpenedFile]) -> Vec<u64> {
        found.iter().map(|file| file.id.inode).collect()
    }

    #[test]
    fn a_named_folder_is_searched_by_build_id_and_by_link() {
        use std::os::unix::fs::MetadataExt as _;
        let place = std::env::temp_dir().join(format!("debug-files-{}", std::process::id()));
        std::fs::create_dir_all(place.join(".build-id/ab")).expect("a folder");
        std::fs::write(place.join("real"), "x").expect("a file");
        std::os::unix::fs::symlink("../../real", place.join(".build-id/ab/cdef.debug")).expect("a link");
        let inode = std::fs::metadata(place.join("real")).expect("the file").ino();
        let files = DebugFiles::new(std::slice::from_ref(&place));
        assert_eq!(names(&files.by_build_id(&[0xab, 0xcd, 0xef])), [inode]);
        let object = ObjectId { device: 1, inode: 2, modified_ns: 3, size: 4 };
        let linked = |path: &str, name: &[u8]| names(&files.by_link((Path::new(path), object), name));
        assert_eq!(linked("/nowhere/x", b"real"), [inode]);
        assert!(linked("/nowhere/x", b"../real").is_empty());
        assert!(linked("/nowhere/x", b"/real").is_empty());
        assert!(linked("/nowhere/x", b"..").is_empty());
        // What only says that it lies there leads to nothing beside it.
        assert!(linked("/etc/ld.so.cache", b"passwd").is_empty());
        let alt = |path: &[u8]| names(&files.by_alt_link(path, &[0x11; 20]));
        assert!(alt(b"/etc/passwd").is_empty());
        assert!(alt(b"/usr/lib/debug/../../../etc/passwd").is_empty());
        assert_eq!(alt(place.join("real").as_os_str().as_bytes()), [inode]);
        assert!(files.by_build_id(&[0xab]).is_empty());
        // The same place would not do for anyone but its user: the folder of temporary files is everybody's.
        assert!(matches!(open(&place.join("real"), Folders::RootOnly), Err(OpenError::Refused(_))));
        std::fs::remove_dir_all(&place).expect("removed");
    }

    #[test]
    fn shared_debug_information_may_lie_in_the_folder_of_an_architecture() {
        let of = |path: &str| shared_paths(Path::new(path)).into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(of("../../.dwz/x86_64-linux-gnu/xz.debug"), [".dwz/x86_64-linux-gnu/xz.debug", ".dwz/xz.debug"]);
        assert_eq!(of("/usr/lib/debug/.dwz/xz.debug"), [".dwz/xz.debug"]);
        assert!(of("/..").is_empty());
    }

    #[test]
    fn links_in_a_circle_end() {
        let place = std::env::temp_dir().join(format!("debug-circle-{}", std::process::id()));
        std::fs::create_dir_all(&place).expect("a folder");
        std::os::unix::fs::symlink("loop", place.join("loop")).expect("a link");
        assert!(open(&place.join("loop"), Folders::Trusted).is_err());
        std::fs::remove_dir_all(&place).expect("removed");
    }
}
