//! A control group by its path, or by the unit that it belongs to.

use super::TargetError;
use super::hierarchy::{Hierarchies, Hierarchy};
use profiler_common::target::TargetCgroup;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Folders that are looked at in one hierarchy at most.
const FOLDERS_MAX: usize = 100_000;

/// The group of a path: a folder of a mounted hierarchy, or a path below the root of one, as `/proc/PID/cgroup` has it.
pub(super) fn find(path: &Path, hierarchies: &Hierarchies) -> Result<TargetCgroup, TargetError> {
    let real = std::fs::canonicalize(path).ok();
    if let Some(folder) = &real {
        // The innermost mount that holds it: hierarchies are mounted inside each other's folders on hybrid hosts.
        let holding = hierarchies.0.iter().filter(|one| folder.starts_with(&one.mount)).max_by_key(|one| one.mount.as_os_str().len());
        if let Some(hierarchy) = holding {
            return describe(folder, hierarchy);
        }
    }
    let below = path.strip_prefix("/").unwrap_or(path);
    let candidates = hierarchies.0.iter().map(|one| (one.mount.join(below), one)).filter(|(folder, _)| folder.is_dir());
    best(candidates.collect()).unwrap_or_else(|| Err(TargetError::NoCgroup { path: path.to_owned(), example: hierarchies.example() }))
}

/// The group of a systemd unit.
pub(super) fn find_unit(name: &str, hierarchies: &Hierarchies) -> Result<TargetCgroup, TargetError> {
    const SUFFIXES: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];
    let unit = if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) { name.to_owned() } else { format!("{name}.service") };
    let mut candidates = Vec::new();
    for hierarchy in &hierarchies.0 {
        let found = folders(&hierarchy.mount).into_iter().filter(|folder| folder.file_name().is_some_and(|last| *last == *unit));
        candidates.extend(found.map(|folder| (folder, hierarchy)));
    }
    best(candidates).unwrap_or(Err(TargetError::NoUnit { name: unit }))
}

/// Of groups that are all meant, the one to filter on: one with processes before one without, the unified hierarchy before others.
pub(super) fn best(mut candidates: Vec<(PathBuf, &Hierarchy)>) -> Option<Result<TargetCgroup, TargetError>> {
    candidates.retain(|(_, hierarchy)| hierarchy.index.is_some());
    candidates.sort_by_key(|(folder, hierarchy)| (!has_processes(folder), hierarchy.kind, folder.components().count()));
    candidates.first().map(|(folder, hierarchy)| describe(folder, hierarchy))
}

fn describe(folder: &Path, hierarchy: &Hierarchy) -> Result<TargetCgroup, TargetError> {
    let missing = || TargetError::NoCgroup { path: folder.to_owned(), example: hierarchy.mount.display().to_string() };
    let index = hierarchy.index.ok_or_else(|| TargetError::NoController { path: folder.to_owned(), controller: hierarchy.name.clone() })?;
    let metadata = std::fs::metadata(folder).map_err(|_| missing())?;
    if !metadata.is_dir() {
        return Err(missing());
    }
    let level = hierarchy.level(folder).ok_or_else(missing)?;
    // The inode number of a group's folder is the id of its kernfs node (fs/kernfs/inode.c, 5.5 and later on 64 bits).
    Ok(TargetCgroup { id: metadata.ino(), hierarchy: hierarchy.kind, index, level, reserved: 0 })
}

/// Whether a group, or one below it, has processes.
fn has_processes(folder: &Path) -> bool {
    let inside = |folder: &Path| std::fs::read(folder.join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty());
    inside(folder) || folders(folder).iter().any(|below| inside(below))
}

/// All folders below one, without following links.
pub(super) fn folders(top: &Path) -> Vec<PathBuf> {
    let (mut found, mut next) = (Vec::new(), vec![top.to_owned()]);
    while let Some(folder) = next.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && found.len() < FOLDERS_MAX {
                found.push(entry.path());
                next.push(entry.path());
            }
        }
    }
    found
}
