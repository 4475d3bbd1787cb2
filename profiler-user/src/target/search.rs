//! Finds the control group of a container or of a systemd unit by the name of its folder, in a bounded walk over the hierarchies.
//!
//! Whoever owns a part of a hierarchy can name groups as he likes. So of several groups with one name those of root count first, and then those that are
//! not inside of another unit or container.

use super::TargetError;
use super::container::{container_id, is_unit};
use super::group::{folders_in, preferred};
use super::hierarchy::{Hierarchies, Hierarchy};
use profiler_common::limits::CGROUP_DEPTH_MAX;
use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Groups of one hierarchy that are looked at. The walk is broad first: what somebody piles up deep in his own part hides nothing above.
const LOOK_MAX: usize = 65_536;
/// Candidates that an error names.
const SHOWN_MAX: usize = 8;
/// Digits of a container's id that an error shows: what `docker ps` does.
const SHOWN_DIGITS: usize = 12;

/// A group whose name fits.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Found {
    folder: PathBuf,
    /// The container's id, or the unit's name.
    name: String,
    rank: Rank,
}

/// Whom to believe first; the lower, the rather.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rank {
    is_foreign: bool,
    /// Units that are no slices, and containers, that it is in.
    inside: usize,
}

/// The groups of a container, by its id or the beginning of it; a scheme before it (`docker://`, as Kubernetes writes it) is ignored.
pub(super) fn container(text: &str, hierarchies: &Hierarchies) -> Result<Vec<PathBuf>, TargetError> {
    let wanted = text.rsplit("://").next().unwrap_or(text).to_ascii_lowercase();
    let is_id = !wanted.is_empty() && wanted.len() <= 64 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if !is_id {
        return Err(TargetError::NotContainerId { text: text.to_owned() });
    }
    let (found, cut) = look(hierarchies, &|name| container_id(name).filter(|id| id.starts_with(&wanted)));
    let mut ids: Vec<&str> = found.iter().flatten().map(|found| found.name.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    match ids.as_slice() {
        [] => Err(TargetError::NotFound { what: "container", name: text.to_owned(), cut }),
        [_] => one("container", text, found),
        several => {
            let shown = several.iter().take(SHOWN_MAX).map(|id| id.get(..SHOWN_DIGITS.max(wanted.len() + 1)).unwrap_or(id).to_owned());
            Err(TargetError::Ambiguous { what: "container", name: text.to_owned(), candidates: shown.collect() })
        }
    }
}

/// The groups of a systemd unit; without an ending it is a service.
pub(super) fn unit(text: &str, hierarchies: &Hierarchies) -> Result<Vec<PathBuf>, TargetError> {
    let wanted = if is_unit(text) { text.to_owned() } else { format!("{text}.service") };
    let (found, cut) = look(hierarchies, &|name| (name == wanted).then_some(name));
    if found.iter().all(Vec::is_empty) {
        return Err(TargetError::NotFound { what: "unit", name: wanted, cut });
    }
    one("unit", &wanted, found)
}

/// Of each hierarchy the one group that is to be believed, and of those the one that has processes.
fn one(what: &'static str, name: &str, found: Vec<Vec<Found>>) -> Result<Vec<PathBuf>, TargetError> {
    let best = found.iter().flatten().map(|found| found.rank).min();
    let mut folders = Vec::new();
    for mut of_hierarchy in found {
        of_hierarchy.retain(|found| Some(found.rank) == best);
        match of_hierarchy.as_slice() {
            [] => {}
            [only] => folders.push(only.folder.clone()),
            several => {
                let candidates = several.iter().take(SHOWN_MAX).map(|found| found.folder.display().to_string()).collect();
                return Err(TargetError::Ambiguous { what, name: name.to_owned(), candidates });
            }
        }
    }
    Ok(preferred(folders))
}

/// The groups of each hierarchy whose name fits, and whether a walk was cut short.
fn look(hierarchies: &Hierarchies, fits: &dyn Fn(&str) -> Option<&str>) -> (Vec<Vec<Found>>, bool) {
    let mut cut = false;
    let all = hierarchies.all.iter().map(|hierarchy| look_in(hierarchy, fits, &mut cut)).collect();
    (all, cut)
}

fn look_in(hierarchy: &Hierarchy, fits: &dyn Fn(&str) -> Option<&str>, cut: &mut bool) -> Vec<Found> {
    let Some(mount) = hierarchy.mounts.first() else { return Vec::new() };
    let mut pending = VecDeque::from([(mount.point.clone(), 0usize, 0u32)]);
    let mut looked = 0;
    let mut found = Vec::new();
    while let Some((parent, inside, level)) = pending.pop_front() {
        for folder in folders_in(&parent) {
            looked += 1;
            if looked > LOOK_MAX {
                *cut = true;
                return found;
            }
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(name) = fits(&name) {
                let rank = Rank { is_foreign: is_foreign(&folder), inside };
                found.push(Found { folder: folder.clone(), name: name.to_owned(), rank });
            }
            if level + 1 < CGROUP_DEPTH_MAX {
                let is_closed = container_id(&name).is_some() || (is_unit(&name) && !name.ends_with(".slice"));
                pending.push_back((folder, inside + usize::from(is_closed), level + 1));
            }
        }
    }
    found
}

/// Whether somebody else than root owns it.
fn is_foreign(folder: &Path) -> bool {
    folder.metadata().map_or(true, |metadata| metadata.uid() != 0)
}
