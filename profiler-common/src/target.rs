//! What the user asked for, as the kernel filters on it. The kinds of one run are joined by *or*: `-p 1 --cgroup x` records both.

use crate::limits::{COMM_BYTES, TARGET_MARKS_LEN};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Everything that runs.
pub const TARGET_ALL: u32 = 1;
/// The processes of the map of target processes.
pub const TARGET_PROCESSES: u32 = 2;
/// The tasks of the control groups in the array, with everything below them.
pub const TARGET_CGROUPS: u32 = 4;
/// The processes whose name matches a pattern.
pub const TARGET_COMMS: u32 = 8;

/// A followed process: the value of the map whose key is the tgid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TargetProcess {
    /// Start of the group leader on the boot clock, nanoseconds: a reused pid does not match. 0: any.
    pub start_boot_ns: u64,
}

/// Which of the marks of target processes is that of a process.
#[must_use]
pub const fn target_mark(tgid: u32) -> u32 {
    tgid & (TARGET_MARKS_LEN - 1)
}

/// The unified hierarchy.
pub const HIERARCHY_UNIFIED: u32 = 0;
/// A v1 hierarchy that a controller stands for: `TargetCgroup::index` is its `cgroup_subsys_id`.
pub const HIERARCHY_CONTROLLER: u32 = 1;
/// A v1 hierarchy without a controller (`name=systemd`): `TargetCgroup::index` is its `hierarchy_id`.
pub const HIERARCHY_NAMED: u32 = 2;

/// A control group: the subtree below one kernfs node of one hierarchy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TargetCgroup {
    /// `kernfs_node::id` of the group's directory: its inode number.
    pub id: u64,
    /// One of the `HIERARCHY_*`.
    pub hierarchy: u32,
    /// Which one of that kind.
    pub index: u32,
    /// `cgroup::level` of the group: 0 is the root of its hierarchy.
    pub level: u32,
    /// Zero.
    pub reserved: u32,
}

/// A pattern of `--comm`, padded with NUL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TargetComm {
    /// `*`, `?` and literal bytes; at most 15 of them.
    pub pattern: [u8; COMM_BYTES],
}
