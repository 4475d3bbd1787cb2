//! The constants of the run. The loader fills them before the verifier sees the program, so what they switch off is not even verified.

use profiler_common::limits::{TARGET_CGROUPS_MAX, TARGET_COMMS_MAX};
use profiler_common::settings::{KernelOffsets, Settings};
use profiler_common::target::{TargetCgroup, TargetComm};

#[unsafe(no_mangle)]
pub static SETTINGS: Settings = Settings {
    sample_bytes: 0,
    seed: 0,
    kernel_stacks: 0,
    user_stacks: 0,
    mode: 0,
    target: 0,
    cgroups: 0,
    comms: 0,
    inherit: 0,
    wake_bytes: 0,
    weigh_period: 0,
    own_count: 0,
    walk: 0,
    address_bits: 0,
    stop_at_sample: 0,
    count_stepped: 0,
    waits: 0,
    sleep_ns: 0,
    block_ns: 0,
    start_ns: 0,
    shortest_ns: 0,
    longest_ns: 0,
    mutex_fraction: 0,
    per_thread: 0,
    wakers: 0,
    tally_keys: 0,
    temporary_ns: 0,
    held: 0,
    states: 0,
    existing: 0,
};

#[unsafe(no_mangle)]
pub static OFFSETS: KernelOffsets = KernelOffsets {
    task_group_leader: 0,
    task_start_boottime: 0,
    task_self_exec_id: 0,
    task_tgid: 0,
    task_pid: 0,
    task_flags: 0,
    task_comm: 0,
    task_cgroups: 0,
    task_mm: 0,
    task_in_execve_bit: 0,
    task_utask: 0,
    utask_return_instances: 0,
    return_instance_stack: 0,
    return_instance_address: 0,
    return_instance_next: 0,
    css_set_dfl_cgrp: 0,
    css_set_subsys: 0,
    css_set_cgrp_links: 0,
    css_cgroup: 0,
    link_cgrp: 0,
    link_cgrp_link: 0,
    cgroup_level: 0,
    cgroup_ancestors: 0,
    cgroup_kn: 0,
    cgroup_root: 0,
    root_hierarchy_id: 0,
    kernfs_id: 0,
    task_state: 0,
    task_on_cpu: 0,
    task_voluntary: 0,
    task_involuntary: 0,
    task_last_arrival: 0,
    mm_total_vm: 0,
    mm_users: 0,
};

#[unsafe(no_mangle)]
static TARGET_CGROUPS: [TargetCgroup; TARGET_CGROUPS_MAX] =
    [TargetCgroup { id: 0, hierarchy: 0, index: 0, level: 0, reserved: 0 }; TARGET_CGROUPS_MAX];

#[unsafe(no_mangle)]
static TARGET_COMMS: [TargetComm; TARGET_COMMS_MAX] = [TargetComm { pattern: [0; 16] }; TARGET_COMMS_MAX];

/// Reads one setting; volatile, because the compiler would otherwise use the zero that it sees here.
macro_rules! setting {
    ($field:ident) => {
        // SAFETY: a projection of a static that is initialized and never written while the program runs.
        unsafe { core::ptr::read_volatile(&raw const $crate::settings::SETTINGS.$field) }
    };
}
/// Reads one offset.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: as in `setting!`.
        unsafe { core::ptr::read_volatile(&raw const $crate::settings::OFFSETS.$field) as u64 }
    };
}
pub(crate) use {offset, setting};

/// A control group of the target.
#[inline(always)]
pub fn target_cgroup(at: usize) -> TargetCgroup {
    // SAFETY: the index is masked to the array's bounds; as in `setting!` otherwise.
    unsafe { core::ptr::read_volatile((&raw const TARGET_CGROUPS).cast::<TargetCgroup>().add(at % TARGET_CGROUPS_MAX)) }
}

/// A pattern of the target.
#[inline(always)]
pub fn target_comm(at: usize) -> TargetComm {
    // SAFETY: the index is masked to the array's bounds; as in `setting!` otherwise.
    unsafe { core::ptr::read_volatile((&raw const TARGET_COMMS).cast::<TargetComm>().add(at % TARGET_COMMS_MAX)) }
}
