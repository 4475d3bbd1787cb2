//! What names one image of one process for as long as the machine runs.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A process image: the thread group, when its leader started, and how often it has called exec.
///
/// A pid alone names whoever has it now. `start_boot_ns` is `task_struct::group_leader->start_boottime` (ns on the boot clock), which an exec keeps;
/// `exec_generation` is `task_struct::self_exec_id`, which every exec raises (fs/exec.c, `begin_new_exec`) and a fork copies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessKey {
    /// Start of the group leader on the boot clock, nanoseconds.
    pub start_boot_ns: u64,
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// Raised by each exec of the process; the low half of the kernel's counter.
    pub exec_generation: u32,
}

const _: () = assert!(size_of::<ProcessKey>() == 16);
