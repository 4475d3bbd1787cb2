//! Separate debug files: by build id, or by the name that a file's `.gnu_debuglink` claims. Only from folders of root's, or that the user named.

use super::open::{Opened, Refused, reopen};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, open, openat2};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Where distributions install them.
const SYSTEM: &str = "/usr/lib/debug";
/// Anyone but the owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The folders in which debug files are looked for.
#[derive(Debug)]
pub struct DebugFolders {
    folders: Vec<OwnedFd>,
}

impl DebugFolders {
    /// The system's, and those that the user named (which are trusted as they are).
    pub fn new(named: &[PathBuf]) -> Self {
        let folder = |path: &Path| open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok();
        let system = folder(Path::new(SYSTEM))
            .filter(|folder| fstat(folder).is_ok_and(|stat| stat.st_uid == 0 && stat.st_mode & WRITABLE_BY_OTHERS == 0));
        Self { folders: named.iter().filter_map(|path| folder(path)).chain(system).collect() }
    }

    /// The file of a build id. What is found still only claims to be it: its own build id must be compared.
    pub fn by_build_id(&self, build_id: &[u8]) -> Option<Opened> {
        let hex: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let (first, rest) = hex.split_at_checked(2)?;
        self.find(&format!(".build-id/{first}/{rest}.debug"))
    }

    /// The file that a debuglink names, for an object of that path.
    pub fn by_link(&self, object: &Path, name: &[u8]) -> Option<Opened> {
        let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.contains('/') && *name != "..")?;
        let folder = object.parent()?.strip_prefix("/").ok()?;
        self.find(&format!("{}/{name}", folder.to_str()?))
    }

    /// The file with debug information that several share (dwz), by the path that the debug file claims, which ends in `.dwz/NAME`.
    pub fn alternative(&self, path: &[u8]) -> Option<Opened> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let mut behind = path.components().skip_while(|component| component.as_os_str() != ".dwz");
        let relative: PathBuf = behind.by_ref().collect();
        if relative.as_os_str().is_empty() { None } else { self.find(relative.to_str()?) }
    }

    fn find(&self, relative: &str) -> Option<Opened> {
        self.folders.iter().find_map(|folder| open_in(folder, relative).ok())
    }
}

/// Opens a regular file below a folder; no link leads out of it.
fn open_in(folder: &OwnedFd, relative: &str) -> Result<Opened, Refused> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let place = openat2(folder.as_fd(), relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let stat = fstat(&place)?;
    reopen(&place, &stat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_and_links_that_lead_out_are_not() {
        let folder = std::env::temp_dir().join(format!("debug-{}", std::process::id()));
        let of_id = folder.join(".build-id/ab");
        std::fs::create_dir_all(&of_id).expect("made");
        std::fs::write(of_id.join("cdef.debug"), "x").expect("written");
        std::os::unix::fs::symlink("/etc/passwd", of_id.join("0000.debug")).expect("linked");
        let folders = DebugFolders::new(std::slice::from_ref(&folder));
        assert!(folders.by_build_id(&[0xab, 0xcd, 0xef]).is_some());
        assert!(folders.by_build_id(&[0xab, 0x00, 0x00]).is_none());
        assert!(folders.by_build_id(&[]).is_none());
        assert!(folders.by_link(Path::new("/usr/bin/x"), b"../../etc/passwd").is_none());
        let _ = std::fs::remove_dir_all(folder);
    }
}
