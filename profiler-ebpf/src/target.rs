//! Whether a tick is in what the user asked for. A process that nobody asked for costs no more than this.

use crate::maps::{OWN_PROCESSES, TARGET_MARKS, TARGET_PROCESSES};
use crate::settings::{offset, setting, target_cgroup, target_comm};
use crate::task::{Current, read_kernel};
use profiler_common::glob::glob_matches;
use profiler_common::limits::{CGROUP_DEPTH_MAX, OWN_PROCESSES_MAX, TARGET_CGROUPS_MAX, TARGET_COMMS_MAX};
use profiler_common::target::{self, HIERARCHY_CONTROLLER, HIERARCHY_UNIFIED, TargetCgroup, target_mark};

/// Whether this process is the profiler, or one of its readers.
#[inline(always)]
pub fn is_own(tgid: u32) -> bool {
    let Some(own) = OWN_PROCESSES.get_ptr(0) else { return false };
    let mut found = false;
    for at in 0..OWN_PROCESSES_MAX {
        // SAFETY: the index is within the array; user space writes single words.
        found |= unsafe { (*own)[at] } == tgid;
    }
    found
}

/// Whether the user asked for what this task does.
#[inline(always)]
pub fn is_wanted(task: Current, tgid: u32) -> bool {
    let kinds = setting!(target);
    if kinds & target::TARGET_ALL != 0 {
        return true;
    }
    (kinds & target::TARGET_PROCESSES != 0 && is_target_process(task, tgid))
        || (kinds & target::TARGET_COMMS != 0 && matches_comm(task))
        || (kinds & target::TARGET_CGROUPS != 0 && is_in_cgroup(task))
}

/// Whether the process is followed, and still the one that was meant: its pid may have been given to another since.
#[inline(always)]
fn is_target_process(task: Current, tgid: u32) -> bool {
    if !is_marked(tgid) {
        return false;
    }
    let Some(entry) = TARGET_PROCESSES.get_ptr_mut(tgid) else { return false };
    let start = task.leader_start_boot_ns();
    // SAFETY: the pointer is to a live map value; the word is read and written whole, and every writer writes the same value.
    unsafe {
        if (*entry).start_boot_ns == 0 {
            // Named by its pid alone: from now on it is this process and no later one.
            (*entry).start_boot_ns = start;
        }
        (*entry).start_boot_ns == start
    }
}

#[inline(always)]
fn is_marked(tgid: u32) -> bool {
    // SAFETY: a live map value, written whole.
    TARGET_MARKS.get_ptr(target_mark(tgid)).is_some_and(|mark| unsafe { core::ptr::read_volatile(mark) } != 0)
}

/// Marks a process that is taken into the target.
#[inline(always)]
pub fn mark(tgid: u32) {
    if let Some(mark) = TARGET_MARKS.get_ptr_mut(target_mark(tgid)) {
        // SAFETY: a live map value, in which only this is ever written.
        unsafe { core::ptr::write_volatile(mark, 1) };
    }
}

#[inline(always)]
fn matches_comm(task: Current) -> bool {
    let comm = task.leader_comm();
    for at in 0..TARGET_COMMS_MAX {
        if at >= setting!(comms) as usize {
            break;
        }
        if glob_matches(&target_comm(at).pattern, &comm) {
            return true;
        }
    }
    false
}

#[inline(always)]
fn is_in_cgroup(task: Current) -> bool {
    let set: u64 = task.control_groups();
    for at in 0..TARGET_CGROUPS_MAX {
        if at >= setting!(cgroups) as usize {
            break;
        }
        let wanted = target_cgroup(at);
        let group = group_of(set, &wanted);
        if group != 0 && is_below(group, &wanted) {
            return true;
        }
    }
    false
}

/// The `struct cgroup` of a `css_set` in the hierarchy of the wanted group.
#[inline(always)]
fn group_of(set: u64, wanted: &TargetCgroup) -> u64 {
    if wanted.hierarchy == HIERARCHY_UNIFIED {
        return read_kernel(set + offset!(css_set_dfl_cgrp));
    }
    if wanted.hierarchy == HIERARCHY_CONTROLLER {
        let state: u64 = read_kernel(set + offset!(css_set_subsys) + 8 * u64::from(wanted.index));
        return read_kernel(state + offset!(css_cgroup));
    }
    // A hierarchy without a controller: `cgrp_links` lists a `cgrp_cset_link` for each hierarchy (kernel/cgroup/cgroup-internal.h).
    let head = set + offset!(css_set_cgrp_links);
    let mut node: u64 = read_kernel(head);
    for _ in 0..CGROUP_DEPTH_MAX {
        if node == head || node == 0 {
            break;
        }
        let link = node - offset!(link_cgrp_link);
        let group: u64 = read_kernel(link + offset!(link_cgrp));
        let root: u64 = read_kernel(group + offset!(cgroup_root));
        let id: u32 = read_kernel(root + offset!(root_hierarchy_id));
        if id == wanted.index {
            return group;
        }
        node = read_kernel(node);
    }
    0
}

/// Whether a group is the wanted one or below it: its ancestor of that level, which every group keeps in an array, is the wanted one.
#[inline(always)]
fn is_below(group: u64, wanted: &TargetCgroup) -> bool {
    let level: u32 = read_kernel(group + offset!(cgroup_level));
    if level < wanted.level {
        return false;
    }
    let ancestor: u64 = read_kernel(group + offset!(cgroup_ancestors) + 8 * u64::from(wanted.level));
    let node: u64 = read_kernel(ancestor + offset!(cgroup_kn));
    read_kernel::<u64>(node + offset!(kernfs_id)) == wanted.id
}
