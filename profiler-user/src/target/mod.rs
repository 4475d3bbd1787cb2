//! What the user asked for -> what the kernel filters on.

mod cgroup;
mod container;
mod error;
mod hierarchy;
mod process;

pub use error::TargetError;

use crate::config::Target;
use crate::model::process::Pid;
use profiler_common::limits::{COMM_BYTES, TARGET_CGROUPS_MAX, TARGET_COMMS_MAX, TARGET_PROCESSES_MAX};
use profiler_common::target::{TARGET_ALL, TARGET_CGROUPS, TARGET_COMMS, TARGET_PROCESSES, TargetCgroup, TargetComm, TargetProcess};
use std::path::{Path, PathBuf};

/// Whether the children of target processes are targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inherit {
    /// Those that run already, and those to come.
    Children,
    /// Only the processes that were named.
    Alone,
}

impl From<bool> for Inherit {
    fn from(inherit: bool) -> Self {
        if inherit { Self::Children } else { Self::Alone }
    }
}

/// What the programs are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The kinds in force: bits of [`profiler_common::target`].
    pub bits: u32,
    /// Processes.
    pub processes: Vec<(Pid, TargetProcess)>,
    /// Control groups.
    pub cgroups: Vec<TargetCgroup>,
    /// Their folders.
    pub folders: Vec<PathBuf>,
    /// Patterns of names.
    pub comms: Vec<TargetComm>,
}

impl Filter {
    fn push_group(&mut self, group: cgroup::Group) {
        self.cgroups.push(group.filter);
        self.folders.push(group.folder);
    }
}

/// The processes that are in a control group now, or in one below it.
pub fn members(folder: &Path) -> Vec<Pid> {
    cgroup::members(folder)
}

/// Resolves what was asked for against what is there now. `controller_index` tells the kernel's number of a v1 controller. A command adds nothing
/// here: its process does not exist yet.
///
/// # Errors
/// Something that was asked for is not there.
pub fn resolve(targets: &[Target], inherit: Inherit, controller_index: &dyn Fn(&str) -> Option<u32>) -> Result<Filter, TargetError> {
    process::check_namespace()?;
    let mut filter = Filter::default();
    let groups = || hierarchy::Hierarchies::read(controller_index);
    for target in targets {
        match target {
            Target::All => filter.bits |= TARGET_ALL,
            Target::Pid(pid) => {
                filter.bits |= TARGET_PROCESSES;
                let mut pids = vec![process::check(*pid)?];
                if inherit == Inherit::Children {
                    pids.extend(process::descendants(*pid));
                }
                // Which process has the pid is pinned by the first sample; its start time to the nanosecond is nowhere in /proc.
                filter.processes.extend(pids.into_iter().map(|pid| (pid, TargetProcess { start_boot_ns: 0 })));
            }
            Target::Cgroup(path) => filter.push_group(cgroup::find(path, &groups()?)?),
            Target::Container(id) => filter.push_group(container::find(id, &groups()?)?),
            Target::Unit(name) => filter.push_group(cgroup::find_unit(name, &groups()?)?),
            Target::Comm(pattern) => filter.comms.push(comm(pattern)?),
            Target::Command(_) => {}
        }
    }
    filter.processes.sort_by_key(|(pid, _)| *pid);
    filter.processes.dedup_by_key(|(pid, _)| *pid);
    if filter.processes.len() > TARGET_PROCESSES_MAX as usize {
        return Err(TargetError::TooMany { what: "processes", max: TARGET_PROCESSES_MAX as usize });
    }
    if filter.cgroups.len() > TARGET_CGROUPS_MAX {
        return Err(TargetError::TooMany { what: "control groups", max: TARGET_CGROUPS_MAX });
    }
    if filter.comms.len() > TARGET_COMMS_MAX {
        return Err(TargetError::TooMany { what: "name patterns", max: TARGET_COMMS_MAX });
    }
    filter.bits |= if filter.cgroups.is_empty() { 0 } else { TARGET_CGROUPS };
    filter.bits |= if filter.comms.is_empty() { 0 } else { TARGET_COMMS };
    Ok(filter)
}

fn comm(pattern: &str) -> Result<TargetComm, TargetError> {
    let bytes = pattern.as_bytes();
    if bytes.is_empty() || bytes.len() >= COMM_BYTES || bytes.contains(&0) {
        return Err(TargetError::BadComm { pattern: pattern.to_owned() });
    }
    let mut padded = TargetComm::default();
    padded.pattern[..bytes.len()].copy_from_slice(bytes);
    Ok(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_joined() {
        let targets = [Target::Pid(std::process::id()), Target::Comm("nginx*".to_owned())];
        let filter = resolve(&targets, Inherit::Alone, &|_| None).expect("both are there");
        assert_eq!(filter.bits, TARGET_PROCESSES | TARGET_COMMS);
        assert_eq!(filter.processes[0].0, Pid(std::process::id()));
        assert_eq!(&filter.comms[0].pattern[..7], b"nginx*\0");
    }

    #[test]
    fn names_longer_than_the_kernels_are_refused() {
        assert!(matches!(comm("sixteen-bytes-xx"), Err(TargetError::BadComm { .. })));
        assert!(comm("fifteen-bytes-x").is_ok());
        assert!(comm("").is_err());
    }
}
