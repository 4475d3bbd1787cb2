//! Control groups for tests, in a v1 hierarchy and in the unified one, wherever they are mounted (the unified one is mounted if it is nowhere).

use crate::run::Folder;
use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::path::{Path, PathBuf};

/// Processes given back to the root when a group is removed must have left it; so many tries.
const EMPTY_TRIES: usize = 400;

/// A group, removed with the value.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    root: PathBuf,
    // Declared last: a mount goes after what is in it.
    _mounted: Option<Mounted>,
}

/// The unified hierarchy, mounted by us.
#[derive(Debug)]
struct Mounted(Folder);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

impl Group {
    /// A group with this name, which may have several parts, in some v1 hierarchy; `None` when none is mounted.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn v1(name: &str) -> Result<Option<Self>> {
        // Hierarchies without rules of their own for new groups come first.
        let wanted = ["cpuacct", "freezer", "cpu", "perf_event", "pids"];
        let mounts = mounts("cgroup")?;
        let root =
            wanted.iter().find_map(|controller| mounts.iter().find(|(_, options)| options.split(',').any(|option| option == *controller)));
        root.map(|(path, _)| Self::create(path.clone(), name, None)).transpose()
    }

    /// A group with this name in the unified hierarchy.
    ///
    /// # Errors
    /// It cannot be made, or the hierarchy cannot be mounted.
    pub fn v2(name: &str) -> Result<Self> {
        if let Some((path, _)) = mounts("cgroup2")?.into_iter().next() {
            return Self::create(path, name, None);
        }
        let folder = Folder::create()?;
        mount("none", folder.path(), "cgroup2", MountFlags::empty(), None).context("mounting the unified hierarchy")?;
        let root = folder.path().to_path_buf();
        Self::create(root, name, Some(Mounted(folder)))
    }

    fn create(root: PathBuf, name: &str, mounted: Option<Mounted>) -> Result<Self> {
        let path = root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("making the group {}", path.display()))?;
        Ok(Self { path, root, _mounted: mounted })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path below the root of its hierarchy.
    pub fn name(&self) -> &Path {
        self.path.strip_prefix(&self.root).unwrap_or(&self.path)
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add(&self, pid: u32) -> Result<()> {
        self.add_to(".", pid)
    }

    /// Moves a process into a group below it, which is made first.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add_to(&self, below: &str, pid: u32) -> Result<()> {
        let folder = self.path.join(below);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("cgroup.procs"), pid.to_string()).with_context(|| format!("moving {pid} into {}", folder.display()))
    }

    /// Removes it now; its processes must be gone.
    ///
    /// # Errors
    /// It is not empty.
    pub fn remove(self) -> Result<()> {
        remove_below(&self.path).with_context(|| format!("removing {}", self.path.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut path = self.path.clone();
        let _ = remove_below(&path);
        // The parts of its name that were made for it; one that others use stays, because it is not empty.
        while path.pop() && path != self.root && fs::remove_dir(&path).is_ok() {}
    }
}

/// Removes a group and those below it. The kernel lets go of a group some moments after its last process has ended.
fn remove_below(path: &Path) -> std::io::Result<()> {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            remove_below(&entry.path())?;
        }
    }
    for _ in 0..EMPTY_TRIES {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => std::thread::sleep(std::time::Duration::from_millis(5)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
    fs::remove_dir(path)
}

/// Where file systems of a type are mounted, with their options.
fn mounts(kind: &str) -> Result<Vec<(PathBuf, String)>> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    let rows = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    Ok(rows.filter(|row| row.len() > 3 && row[2] == kind).map(|row| (row[1].into(), row[3].to_owned())).collect())
}
