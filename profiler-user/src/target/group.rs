//! A control group by its path, and as the kernel side knows it.

use super::TargetError;
use super::hierarchy::Hierarchies;
use profiler_common::limits::CGROUP_DEPTH_MAX;
use profiler_common::target::TargetCgroup;
use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// Groups that are looked at to see whether a group has processes somewhere below it.
const LOOK_BELOW_MAX: usize = 2_000;

/// The folders that a path means: an existing folder of a hierarchy, or the same path below the root of whichever hierarchy has processes in it.
pub(super) fn by_path(path: &Path, hierarchies: &Hierarchies) -> Result<Vec<PathBuf>, TargetError> {
    let existing = if path.is_absolute() { path.canonicalize().ok() } else { None };
    if let Some(folder) = existing.as_ref().filter(|folder| hierarchies.all.iter().any(|hierarchy| hierarchy.has(folder))) {
        return Ok(vec![folder.clone()]);
    }
    let below = below_roots(path, hierarchies);
    match (below.is_empty(), existing) {
        (false, _) => Ok(preferred(below)),
        (true, Some(_)) => Err(TargetError::NotCgroup { path: path.to_owned() }),
        (true, None) => {
            let points = hierarchies.all.iter().flat_map(|hierarchy| &hierarchy.mounts).map(|mount| mount.point.display().to_string());
            Err(TargetError::NoCgroup { path: path.to_owned(), searched: points.collect::<Vec<_>>().join(", ") })
        }
    }
}

/// The path below each hierarchy's root, where there is such a folder. A path with `..` is none: it would lead out.
fn below_roots(path: &Path, hierarchies: &Hierarchies) -> Vec<PathBuf> {
    if path.components().any(|part| !matches!(part, Component::RootDir | Component::CurDir | Component::Normal(_))) {
        return Vec::new();
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    let found = hierarchies.all.iter().filter_map(|hierarchy| {
        let folders = hierarchy.mounts.iter().filter_map(|mount| {
            let shown = mount.root.strip_prefix("/").unwrap_or(&mount.root);
            relative.strip_prefix(shown).ok().map(|rest| mount.point.join(rest))
        });
        folders.into_iter().find(|folder| hierarchy.has(folder))
    });
    found.collect()
}

/// Of one group in several hierarchies the first that has processes; if none has any yet, all: the kernel side takes whichever gets them.
pub(super) fn preferred(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    match folders.iter().position(|folder| has_processes(folder)) {
        Some(at) => vec![folders.swap_remove(at)],
        None => folders,
    }
}

/// Whether a process is in the group or below it. The unified hierarchy says so itself (`cgroup.events`), v1 does not.
fn has_processes(folder: &Path) -> bool {
    if let Ok(events) = std::fs::read_to_string(folder.join("cgroup.events")) {
        return events.lines().any(|line| line == "populated 1");
    }
    let mut pending = VecDeque::from([folder.to_owned()]);
    for _ in 0..LOOK_BELOW_MAX {
        let Some(folder) = pending.pop_front() else { return false };
        if std::fs::read(folder.join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty()) {
            return true;
        }
        pending.extend(folders_in(&folder));
    }
    false
}

/// The groups right below a group.
pub(super) fn folders_in(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// A group as the kernel side knows it. `folder` has no symbolic links in it.
pub(super) fn as_target(folder: &Path, hierarchies: &Hierarchies) -> Result<TargetCgroup, TargetError> {
    let metadata = folder.metadata().map_err(|source| TargetError::Group { path: folder.to_owned(), source })?;
    let not_group = || TargetError::NotCgroup { path: folder.to_owned() };
    let hierarchy = hierarchies.of_device(metadata.dev()).ok_or_else(not_group)?;
    let mounts = hierarchy.mounts.iter().filter(|mount| folder.starts_with(&mount.point));
    // Mounts may lie in one another: the innermost is the one that is seen.
    let mount = mounts.max_by_key(|mount| mount.point.components().count()).ok_or_else(not_group)?;
    let hidden = || TargetError::CgroupNamespace { path: folder.to_owned() };
    let depth = hierarchies.depth_of(mount).ok_or_else(hidden)? + folder.components().count() - mount.point.components().count();
    let level = u32::try_from(depth).unwrap_or(u32::MAX);
    if level >= CGROUP_DEPTH_MAX {
        return Err(TargetError::TooDeep { path: folder.to_owned(), level });
    }
    Ok(TargetCgroup { id: metadata.ino(), hierarchy: hierarchy.kind, index: hierarchy.index, level, reserved: 0 })
}
