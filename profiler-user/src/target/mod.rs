//! What the user asked for, turned into what the kernel filters on.
//!
//! Names are looked up once, before the clock starts: whatever is not there, or not one thing, is said then. Several targets are joined by *or*.

mod container;
mod group;
mod hierarchy;
mod process;
mod search;

pub use container::{container_id, is_unit};

use crate::config::Target;
use crate::model::process::Pid;
use profiler_common::limits::{COMM_BYTES, TARGET_CGROUPS_MAX, TARGET_COMMS_MAX, TARGET_PROCESSES_MAX};
use profiler_common::target::{TARGET_ALL, TARGET_CGROUPS, TARGET_COMMS, TARGET_PROCESSES, TargetCgroup, TargetComm, TargetProcess};
use std::io;
use std::path::PathBuf;

/// What the kernel side filters on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The kinds of target in force: bits of [`profiler_common::target`].
    pub bits: u32,
    /// Processes, by the id of their group leader; each once.
    pub processes: Vec<(Pid, TargetProcess)>,
    /// Control groups; at most [`TARGET_CGROUPS_MAX`].
    pub cgroups: Vec<TargetCgroup>,
    /// Patterns of names; at most [`TARGET_COMMS_MAX`].
    pub comms: Vec<TargetComm>,
}

/// Whether the children of a target process are targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inherit {
    /// They are.
    Children,
    /// They are not.
    Alone,
}

impl From<bool> for Inherit {
    fn from(inherit: bool) -> Self {
        if inherit { Self::Children } else { Self::Alone }
    }
}

/// Why a target is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Nothing was asked for.
    #[error("there is no target: name a process, a control group or a command, or record everything")]
    Nothing,
    /// There is no process of this id.
    #[error("no such process: {pid}")]
    NoProcess {
        /// As it was asked for.
        pid: u32,
    },
    /// It has ended already.
    #[error("process {pid} ({comm}) has ended and only waits for its parent to notice: nothing of it will run")]
    Zombie {
        /// As it was asked for.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// It is a thread, not a process.
    #[error("{tid} is a thread of process {pid} ({comm}): use -p {pid}, and --per-thread to tell its threads apart")]
    Thread {
        /// As it was asked for.
        tid: u32,
        /// Whose thread it is.
        pid: u32,
        /// The thread's name.
        comm: String,
    },
    /// The ids that we see are not those that the kernel counts by.
    #[error(
        "processes cannot be named from inside a pid namespace: run the profiler in the machine's own (docker run --pid=host, hostPID: true)"
    )]
    PidNamespace,
    /// More processes than the kernel side holds.
    #[error("{count} processes are more than the {TARGET_PROCESSES_MAX} that can be followed: record their control group, or everything")]
    TooManyProcesses {
        /// With their descendants.
        count: usize,
    },
    /// The list of control group hierarchies cannot be read.
    #[error("reading {path}: {source}; /proc must be mounted")]
    Proc {
        /// What was read.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// No hierarchy of control groups is mounted.
    #[error("no control groups are mounted here: mount them (mount -t cgroup2 none /sys/fs/cgroup), or name processes instead")]
    NoHierarchies,
    /// There is no such control group.
    #[error("no control group {}: neither a folder of a mounted hierarchy nor a path below the root of one ({searched})", path.display())]
    NoCgroup {
        /// As it was asked for.
        path: PathBuf,
        /// The mount points that were searched.
        searched: String,
    },
    /// Something else.
    #[error("{} is there, but is not the folder of a control group", path.display())]
    NotCgroup {
        /// As it was asked for.
        path: PathBuf,
    },
    /// A control group could not be looked at.
    #[error("looking at the control group {}: {source}", path.display())]
    Group {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its depth in the whole hierarchy is hidden.
    #[error("{} is in a cgroup namespace, where its place in the whole hierarchy is hidden: run the profiler in the machine's own (docker run --cgroupns=host)", path.display())]
    CgroupNamespace {
        /// Which.
        path: PathBuf,
    },
    /// It is too far from its root.
    #[error("the control group {} is {level} levels deep: the filter looks at {} at most", path.display(), profiler_common::limits::CGROUP_DEPTH_MAX - 1)]
    TooDeep {
        /// Which.
        path: PathBuf,
        /// Levels below the root.
        level: u32,
    },
    /// It is no id.
    #[error(
        "{text:?} is not the id of a container: give hexadecimal digits, the whole id or its beginning (docker ps, crictl ps, podman ps show it)"
    )]
    NotContainerId {
        /// As it was asked for.
        text: String,
    },
    /// There is no such container or unit.
    #[error("no {what} {name} is running here: no control group has its name{}", cut_note(*.cut))]
    NotFound {
        /// `container` or `unit`.
        what: &'static str,
        /// As it was asked for.
        name: String,
        /// The search ended before it had seen every group.
        cut: bool,
    },
    /// There are several.
    #[error("{what} {name} is ambiguous: {}; give more of it, or one of them with --cgroup", candidates.join(", "))]
    Ambiguous {
        /// `container` or `unit`.
        what: &'static str,
        /// As it was asked for.
        name: String,
        /// What it may mean.
        candidates: Vec<String>,
    },
    /// More control groups than the kernel side holds.
    #[error("{count} control groups are more than the {TARGET_CGROUPS_MAX} that can be named: name one that holds them")]
    TooManyCgroups {
        /// How many.
        count: usize,
    },
    /// It matches nothing that can be.
    #[error("{pattern:?} is not the name of a process: {why}")]
    Comm {
        /// As it was asked for.
        pattern: String,
        /// Why not.
        why: &'static str,
    },
    /// More patterns than the kernel side holds.
    #[error("{count} patterns of names are more than the {TARGET_COMMS_MAX} that can be given: use * and ?")]
    TooManyComms {
        /// How many.
        count: usize,
    },
}

fn cut_note(cut: bool) -> &'static str {
    if cut { " among the first groups; there are too many to look at all of them: give its path with --cgroup" } else { "" }
}

/// Looks the targets up. A command contributes nothing: it has no process yet.
///
/// `controller_index` gives a controller's `cgroup_subsys_id` in the running kernel.
///
/// # Errors
/// A target is not there, is not one thing, or there are more than the kernel side holds.
pub fn resolve(targets: &[Target], inherit: Inherit, controller_index: &dyn Fn(&str) -> Option<u32>) -> Result<Filter, TargetError> {
    if targets.is_empty() {
        return Err(TargetError::Nothing);
    }
    let mut filter = Filter::default();
    let pids: Vec<u32> = targets.iter().filter_map(|target| if let Target::Pid(pid) = target { Some(*pid) } else { None }).collect();
    let mut hierarchies = None;
    for target in targets {
        match target {
            Target::All => filter.bits |= TARGET_ALL,
            Target::Comm(pattern) => filter.comms.push(comm(pattern)?),
            Target::Pid(_) | Target::Command(_) => {}
            Target::Cgroup(_) | Target::Container(_) | Target::Unit(_) => {
                let all = match &mut hierarchies {
                    Some(all) => all,
                    none => none.insert(hierarchy::Hierarchies::read(controller_index)?),
                };
                filter.cgroups.extend(groups(target, all)?);
            }
        }
    }
    if !pids.is_empty() {
        let any = TargetProcess { start_boot_ns: 0 };
        filter.processes = process::resolve(&pids, inherit)?.into_iter().map(|pid| (pid, any)).collect();
    }
    filter.finish()
}

impl Filter {
    /// Removes what stands twice, checks the bounds, and sets the bits.
    fn finish(mut self) -> Result<Self, TargetError> {
        self.cgroups.sort_by_key(|group| (group.hierarchy, group.index, group.level, group.id));
        self.cgroups.dedup();
        self.comms.dedup();
        match (self.processes.len(), self.cgroups.len(), self.comms.len()) {
            (count, ..) if count > TARGET_PROCESSES_MAX as usize => return Err(TargetError::TooManyProcesses { count }),
            (_, count, _) if count > TARGET_CGROUPS_MAX => return Err(TargetError::TooManyCgroups { count }),
            (.., count) if count > TARGET_COMMS_MAX => return Err(TargetError::TooManyComms { count }),
            _ => {}
        }
        let kinds = [
            (!self.processes.is_empty(), TARGET_PROCESSES),
            (!self.cgroups.is_empty(), TARGET_CGROUPS),
            (!self.comms.is_empty(), TARGET_COMMS),
        ];
        self.bits |= kinds.iter().filter(|(used, _)| *used).fold(0, |bits, (_, bit)| bits | bit);
        Ok(self)
    }
}

fn groups(target: &Target, hierarchies: &hierarchy::Hierarchies) -> Result<Vec<TargetCgroup>, TargetError> {
    let folders = match target {
        Target::Cgroup(path) => group::by_path(path, hierarchies)?,
        Target::Container(id) => search::container(id, hierarchies)?,
        Target::Unit(name) => search::unit(name, hierarchies)?,
        _ => Vec::new(),
    };
    folders.iter().map(|folder| group::as_target(folder, hierarchies)).collect()
}

/// A pattern as the kernel side matches it.
fn comm(pattern: &str) -> Result<TargetComm, TargetError> {
    let fail = |why| Err(TargetError::Comm { pattern: pattern.to_owned(), why });
    let bytes = pattern.as_bytes();
    match bytes.len() {
        0 => return fail("it is empty"),
        length if length >= COMM_BYTES => return fail("the kernel keeps the first 15 bytes of a name; give those, or fewer and a *"),
        _ if bytes.contains(&0) => return fail("it has a NUL byte in it"),
        _ => {}
    }
    let mut padded = [0; COMM_BYTES];
    padded[..bytes.len()].copy_from_slice(bytes);
    Ok(TargetComm { pattern: padded })
}
