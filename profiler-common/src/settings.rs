//! What the loader tells the programs before they are loaded: constants of the run, and offsets into the kernel's structures.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Constants of one run; a read-only global of the programs, so the verifier knows them and drops the branches that cannot be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// Mean distance between sampled blocks, bytes; 1: every block.
    pub sample_bytes: u64,
    /// Mixed into every stack hash, so that no process can prepare collisions.
    pub seed: u64,
    /// A time off the CPU of so many ns is always taken, a shorter one with the odds of its length.
    pub sleep_ns: u64,
    /// The same of a wait for another thread.
    pub block_ns: u64,
    /// When the recording began, on `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// A block that is freed within so many ns is a temporary one; 0: none is.
    pub temporary_ns: u64,
    /// Times off the CPU that are shorter are left out, ns.
    pub shortest_ns: u64,
    /// Longer ones, too.
    pub longest_ns: u64,
    /// 1: take the kernel part of stacks.
    pub kernel_stacks: u32,
    /// 1: take the user part of stacks.
    pub user_stacks: u32,
    /// A tick in the other mode is filtered: [`MODE_ANY`], [`MODE_USER`] or [`MODE_KERNEL`].
    pub mode: u32,
    /// The kinds of target in force: bits of [`crate::target`].
    pub target: u32,
    /// How many entries of the target's array of control groups are used.
    pub cgroups: u32,
    /// How many entries of the target's array of patterns are used.
    pub comms: u32,
    /// 1: children of a target process are targets too.
    pub inherit: u32,
    /// A drain is woken once this many bytes are waiting in the ring.
    pub wake_bytes: u32,
    /// 1: each sample weighs its period (hardware cycles); 0: a sample weighs 1.
    pub weigh_period: u32,
    /// How many of `own_tgids` are used.
    pub own_count: u32,
    /// How user stacks are walked: [`WALK_TABLES`] or [`WALK_FRAME_POINTERS`].
    pub walk: u32,
    /// Bits of an address of user space, where what lies above them is to be taken from return addresses (arm64); else 0.
    pub address_bits: u32,
    /// 1: after a sample in user mode its thread gets a SIGSTOP, so that a debugger sees what the walk saw. For tests.
    pub stop_at_sample: u32,
    /// 1: calls that are met on an instruction that is executed step by step are counted.
    pub count_stepped: u32,
    /// What the programs of the scheduler count: bits of [`crate::wait`].
    pub waits: u32,
    /// One release of a lock in so many is taken.
    pub mutex_fraction: u32,
    /// 1: waits of each thread are counted alone.
    pub per_thread: u32,
    /// 1: of each sleep it is kept who ended it.
    pub wakers: u32,
    /// Keys that the kernel counts blocks under, over all processes.
    pub tally_keys: u32,
    /// A process that is stopped when it becomes another program, and when that has its libraries, until it is let go on; 0: none.
    pub held: u32,
    /// Time off the CPU is counted in these states: bits of the `STATE_*` of [`crate::wait`].
    pub states: u32,
    /// 1: threads that are there when the recording begins are listed.
    pub existing: u32,
}

/// By the tables of the files, finished in user space where one is missing.
pub const WALK_TABLES: u32 = 0;
/// By frame pointers alone.
pub const WALK_FRAME_POINTERS: u32 = 1;

/// Samples of both modes are taken.
pub const MODE_ANY: u32 = 0;
/// Only samples that interrupted user code.
pub const MODE_USER: u32 = 1;
/// Only samples that interrupted the kernel.
pub const MODE_KERNEL: u32 = 2;

/// Byte offsets of members of the running kernel's structures, from its BTF. What CO-RE would relocate; Rust has none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KernelOffsets {
    /// `task_struct::group_leader`
    pub task_group_leader: u32,
    /// `task_struct::start_boottime` (`real_start_time` before 5.5)
    pub task_start_boottime: u32,
    /// `task_struct::self_exec_id`
    pub task_self_exec_id: u32,
    /// `task_struct::tgid`
    pub task_tgid: u32,
    /// `task_struct::pid`
    pub task_pid: u32,
    /// `task_struct::flags`
    pub task_flags: u32,
    /// `task_struct::comm`
    pub task_comm: u32,
    /// `task_struct::cgroups`
    pub task_cgroups: u32,
    /// `task_struct::mm`
    pub task_mm: u32,
    /// `task_struct::in_execve`, in bits; 0 where a kernel has none
    pub task_in_execve_bit: u32,
    /// `task_struct::utask`; 0 where a kernel has no uprobes
    pub task_utask: u32,
    /// `uprobe_task::return_instances`
    pub utask_return_instances: u32,
    /// `return_instance::stack`
    pub return_instance_stack: u32,
    /// `return_instance::orig_ret_vaddr`
    pub return_instance_address: u32,
    /// `return_instance::next`
    pub return_instance_next: u32,
    /// `css_set::dfl_cgrp`
    pub css_set_dfl_cgrp: u32,
    /// `css_set::subsys`
    pub css_set_subsys: u32,
    /// `css_set::cgrp_links`
    pub css_set_cgrp_links: u32,
    /// `cgroup_subsys_state::cgroup`
    pub css_cgroup: u32,
    /// `cgrp_cset_link::cgrp`
    pub link_cgrp: u32,
    /// `cgrp_cset_link::cgrp_link`
    pub link_cgrp_link: u32,
    /// `cgroup::level`
    pub cgroup_level: u32,
    /// `cgroup::ancestors`
    pub cgroup_ancestors: u32,
    /// `cgroup::kn`
    pub cgroup_kn: u32,
    /// `cgroup::root`
    pub cgroup_root: u32,
    /// `cgroup_root::hierarchy_id`
    pub root_hierarchy_id: u32,
    /// `kernfs_node::id`
    pub kernfs_id: u32,
    /// `task_struct::__state`
    pub task_state: u32,
    /// `task_struct::on_cpu`
    pub task_on_cpu: u32,
    /// `task_struct::nvcsw`
    pub task_voluntary: u32,
    /// `task_struct::nivcsw`
    pub task_involuntary: u32,
    /// `task_struct::sched_info.last_arrival`; 0 where a kernel does not keep it
    pub task_last_arrival: u32,
    /// `mm_struct::total_vm`
    pub mm_total_vm: u32,
    /// `mm_struct::mm_users`
    pub mm_users: u32,
}
