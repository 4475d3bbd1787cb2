//! A container by its id: found by the control groups that container engines name after it.

use super::TargetError;
use super::cgroup::{Group, best, folders};
use super::hierarchy::{Hierarchies, Hierarchy};
use crate::model::container::container_id;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Ids that an error lists.
const LISTED: usize = 5;

/// The group of the one container whose id begins with `prefix`.
pub(super) fn find(prefix: &str, hierarchies: &Hierarchies) -> Result<Group, TargetError> {
    let wanted = prefix.to_ascii_lowercase();
    let (mut found, mut looked_at) = (BTreeMap::<String, Vec<(PathBuf, &Hierarchy)>>::new(), 0);
    for hierarchy in &hierarchies.0 {
        for folder in folders(&hierarchy.mount) {
            looked_at += 1;
            let id = folder.file_name().and_then(|name| name.to_str()).and_then(container_id);
            if let Some(id) = id.filter(|id| !wanted.is_empty() && id.starts_with(&wanted)) {
                found.entry(id.to_owned()).or_default().push((folder, hierarchy));
            }
        }
    }
    if found.len() > 1 {
        let candidates = found.keys().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
        return Err(TargetError::AmbiguousContainer { id: prefix.to_owned(), candidates });
    }
    let one = found.into_values().next().and_then(best);
    one.unwrap_or_else(|| Err(TargetError::NoContainer { id: prefix.to_owned(), looked_at }))
}
