//! A control group by its path, or by the unit that it belongs to.

use super::TargetError;
use super::hierarchy::{Hierarchies, Hierarchy};
use crate::model::process::Pid;
use profiler_common::target::TargetCgroup;
use std::collections::{BTreeSet, VecDeque};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// Folders that are looked at in one hierarchy at most.
const FOLDERS_MAX: usize = 100_000;

/// A group that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Group {
    /// What the programs are told of it.
    pub(super) filter: TargetCgroup,
    /// Its folder.
    pub(super) folder: PathBuf,
}

/// The processes of a group and of all below it.
pub(super) fn members(folder: &Path) -> Vec<Pid> {
    let inside = |folder: &Path| std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let all = std::iter::once(folder.to_owned()).chain(folders(folder));
    all.flat_map(|folder| inside(&folder).lines().filter_map(|line| line.parse().ok().map(Pid)).collect::<Vec<_>>()).collect()
}

/// The group of a path: a folder of a mounted hierarchy, or a path below the root of one, as `/proc/PID/cgroup` has it.
pub(super) fn find(path: &Path, hierarchies: &Hierarchies) -> Result<Group, TargetError> {
    let real = std::fs::canonicalize(path).ok();
    if let Some(folder) = &real {
        // The innermost mount that holds it: hierarchies are mounted inside each other's folders on hybrid hosts.
        let mounted = hierarchies.0.iter().filter(|one| folder.starts_with(&one.mount) && one.has(folder));
        if let Some(hierarchy) = mounted.max_by_key(|one| one.mount.as_os_str().len()) {
            return describe(folder, hierarchy);
        }
    }
    let candidates = hierarchies.0.iter().filter_map(|one| Some((below_root(path, one)?, one)));
    best(candidates.collect()).unwrap_or_else(|| Err(TargetError::NoCgroup { path: path.to_owned(), example: hierarchies.example() }))
}

/// The folder that shows a group, given its path below the hierarchy's root. A path with `..` is none: it could lead out.
fn below_root(path: &Path, hierarchy: &Hierarchy) -> Option<PathBuf> {
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::CurDir | Component::Normal(_)));
    let below = Path::new("/").join(path);
    let folder = hierarchy.mount.join(below.strip_prefix(&hierarchy.root).ok()?);
    (is_plain && hierarchy.has(&folder)).then_some(folder)
}

/// The group of a systemd unit.
pub(super) fn find_unit(name: &str, hierarchies: &Hierarchies) -> Result<Group, TargetError> {
    const SUFFIXES: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];
    let unit = if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) { name.to_owned() } else { format!("{name}.service") };
    let mut candidates = Vec::new();
    for hierarchy in &hierarchies.0 {
        let found = folders(&hierarchy.mount).into_iter().filter(|folder| folder.file_name().is_some_and(|last| *last == *unit));
        candidates.extend(found.map(|folder| (folder, hierarchy)));
    }
    if let Some(candidates) = equally_good(&candidates) {
        return Err(TargetError::AmbiguousUnit { name: unit, candidates });
    }
    best(candidates).unwrap_or(Err(TargetError::NoUnit { name: unit }))
}

/// Whom a group belongs to, whether it is empty, and how deep it lies: what makes one of several groups of a name the one that is meant.
fn rank(folder: &Path, hierarchy: &Hierarchy) -> (bool, bool, usize) {
    let is_foreign = folder.metadata().map_or(true, |metadata| metadata.uid() != 0);
    (is_foreign, !has_processes(folder), folder.strip_prefix(&hierarchy.mount).map_or(0, |below| below.components().count()))
}

/// The paths of several groups that are not the same one in several hierarchies, and of which none is better than the others (two users may each have
/// a unit of one name).
fn equally_good(candidates: &[(PathBuf, &Hierarchy)]) -> Option<String> {
    let ranks: Vec<_> = candidates.iter().map(|(folder, hierarchy)| (rank(folder, hierarchy), folder, hierarchy)).collect();
    let best = ranks.iter().map(|(rank, ..)| *rank).min()?;
    let among_best = ranks.iter().filter(|(rank, ..)| *rank == best);
    let paths: BTreeSet<&Path> = among_best.filter_map(|(_, folder, one)| folder.strip_prefix(&one.mount).ok()).collect();
    (paths.len() > 1).then(|| paths.iter().map(|path| format!("/{}", path.display())).collect::<Vec<_>>().join(", "))
}

/// Of groups that are all meant, the one to filter on. Whoever owns a part of a hierarchy names groups as he likes, so root's go first; then those with
/// processes, the unified hierarchy, and what is nearer to the root.
pub(super) fn best(mut candidates: Vec<(PathBuf, &Hierarchy)>) -> Option<Result<Group, TargetError>> {
    let is_foreign = |folder: &Path| folder.metadata().map_or(true, |metadata| metadata.uid() != 0);
    candidates.sort_by_cached_key(|(folder, hierarchy)| {
        (is_foreign(folder), !has_processes(folder), hierarchy.kind, folder.components().count())
    });
    candidates.first().map(|(folder, hierarchy)| describe(folder, hierarchy))
}

fn describe(folder: &Path, hierarchy: &Hierarchy) -> Result<Group, TargetError> {
    let missing = || TargetError::NoCgroup { path: folder.to_owned(), example: hierarchy.mount.display().to_string() };
    let metadata = std::fs::metadata(folder).map_err(|_| missing())?;
    if !hierarchy.shows_its_depth() {
        return Err(TargetError::CgroupNamespace { path: folder.to_owned() });
    }
    let level = hierarchy.level(folder).ok_or_else(missing)?;
    // The inode number of a group's folder is the id of its kernfs node (fs/kernfs/inode.c, 5.5 and later on 64 bits).
    let filter = TargetCgroup { id: metadata.ino(), hierarchy: hierarchy.kind, index: hierarchy.index, level, reserved: 0 };
    Ok(Group { filter, folder: folder.to_owned() })
}

/// Whether a group, or one below it, has processes.
fn has_processes(folder: &Path) -> bool {
    let inside = |folder: &Path| std::fs::read(folder.join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty());
    inside(folder) || folders(folder).iter().any(|below| inside(below))
}

/// All folders below one, without following links; the upper ones first, so that what somebody piles up in his own part hides nothing above it.
pub(super) fn folders(top: &Path) -> Vec<PathBuf> {
    let (mut found, mut next) = (Vec::new(), VecDeque::from([top.to_owned()]));
    while let Some(folder) = next.pop_front() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && found.len() < FOLDERS_MAX {
                found.push(entry.path());
                next.push_back(entry.path());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
