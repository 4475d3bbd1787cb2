//! The running kernel's types: offsets of members and values of enumerators, from the one blob that the kernel gives out.
//!
//! One pass over the types that were asked for by name; nothing else is kept. The format: Documentation/bpf/btf.rst of the kernel.

use super::error::BpfError;
use profiler_common::settings::KernelOffsets;
use std::collections::HashMap;

const PATH: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;

// Kinds of type (include/uapi/linux/btf.h).
pub(super) const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
pub(super) const KIND_STRUCT: u32 = 4;
pub(super) const KIND_UNION: u32 = 5;
pub(super) const KIND_ENUM: u32 = 6;
pub(super) const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
pub(super) const KIND_ENUM64: u32 = 19;

/// The kernel's types, as bytes.
pub struct KernelTypes {
    pub(super) bytes: Vec<u8>,
    pub(super) types: std::ops::Range<usize>,
    strings: std::ops::Range<usize>,
}

/// A structure or an enumeration that was found: its members follow the header in the blob.
#[derive(Clone, Copy)]
struct Found {
    at: usize,
    members: usize,
    /// Offsets of members share their word with the size of a bit field.
    has_bit_fields: bool,
}

impl KernelTypes {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// There are none, or they may not be read.
    pub fn load() -> Result<Self, BpfError> {
        let bytes = std::fs::read(PATH).map_err(|source| BpfError::Btf { path: PATH, source })?;
        Self::parse(bytes).ok_or_else(|| BpfError::BtfMember { what: "readable header".to_owned() })
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        if u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let header = word(&bytes, 4)? as usize;
        let section = |offset: usize| -> Option<std::ops::Range<usize>> {
            let start = header + word(&bytes, offset)? as usize;
            let end = start + word(&bytes, offset + 4)? as usize;
            (end <= bytes.len()).then_some(start..end)
        };
        Some(Self { types: section(8)?, strings: section(16)?, bytes })
    }

    /// Finds structures and enumerations by name, in one pass.
    fn find(&self, names: &[&'static str]) -> HashMap<&'static str, Found> {
        let mut found = HashMap::new();
        let mut at = self.types.start;
        while at + 12 <= self.types.end && found.len() < names.len() {
            let (Some(name), Some(info)) = (word(&self.bytes, at), word(&self.bytes, at + 4)) else { break };
            let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            if matches!(kind, KIND_STRUCT | KIND_ENUM)
                && let Some(wanted) = names.iter().find(|wanted| self.is_string(name, wanted))
            {
                found.entry(*wanted).or_insert(Found { at: at + 12, members, has_bit_fields: info >> 31 != 0 });
            }
            at += 12 + extra_bytes(kind, members);
        }
        found
    }

    /// A string, by where it begins.
    pub(super) fn string(&self, offset: u32) -> &str {
        let bytes = self.bytes.get(self.strings.start + offset as usize..self.strings.end).unwrap_or_default();
        std::str::from_utf8(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).unwrap_or_default()
    }

    fn is_string(&self, offset: u32, wanted: &str) -> bool {
        let start = self.strings.start + offset as usize;
        let end = start + wanted.len();
        self.bytes.get(start..end).is_some_and(|text| text == wanted.as_bytes()) && self.bytes.get(end) == Some(&0)
    }

    /// Byte offset of a member.
    fn member(&self, structures: &HashMap<&'static str, Found>, structure: &'static str, member: &str) -> Option<u32> {
        self.member_bit(structures, structure, member).map(|bits| bits / 8)
    }

    /// Offset of a member in bits.
    fn member_bit(&self, structures: &HashMap<&'static str, Found>, structure: &'static str, member: &str) -> Option<u32> {
        let found = structures.get(structure)?;
        (0..found.members).map(|index| found.at + index * 12).find_map(|at| {
            if !self.is_string(word(&self.bytes, at)?, member) {
                return None;
            }
            let bits = word(&self.bytes, at + 8)?;
            Some(if found.has_bit_fields { bits & 0x00ff_ffff } else { bits })
        })
    }

    /// The offsets that the programs need.
    ///
    /// # Errors
    /// This kernel has a structure that is not as expected.
    pub fn offsets(&self) -> Result<KernelOffsets, BpfError> {
        let structures = self.find(&[
            "task_struct",
            "uprobe_task",
            "return_instance",
            "css_set",
            "cgroup_subsys_state",
            "cgrp_cset_link",
            "cgroup",
            "cgroup_root",
            "kernfs_node",
            "sched_info",
            "mm_struct",
        ]);
        let of = |structure, member: &str| {
            self.member(&structures, structure, member).ok_or_else(|| BpfError::BtfMember { what: format!("{structure}::{member}") })
        };
        // A kernel without uprobes has none of them, and replaces no return addresses.
        let probes = |structure, member: &str| self.member(&structures, structure, member).unwrap_or(0);
        Ok(KernelOffsets {
            task_group_leader: of("task_struct", "group_leader")?,
            task_start_boottime: of("task_struct", "start_boottime")?,
            task_self_exec_id: of("task_struct", "self_exec_id")?,
            task_tgid: of("task_struct", "tgid")?,
            task_pid: of("task_struct", "pid")?,
            task_flags: of("task_struct", "flags")?,
            task_comm: of("task_struct", "comm")?,
            task_cgroups: of("task_struct", "cgroups")?,
            task_mm: of("task_struct", "mm")?,
            task_in_execve_bit: self.member_bit(&structures, "task_struct", "in_execve").unwrap_or(0),
            task_utask: probes("task_struct", "utask"),
            utask_return_instances: probes("uprobe_task", "return_instances"),
            return_instance_stack: probes("return_instance", "stack"),
            return_instance_address: probes("return_instance", "orig_ret_vaddr"),
            return_instance_next: probes("return_instance", "next"),
            css_set_dfl_cgrp: of("css_set", "dfl_cgrp")?,
            css_set_subsys: of("css_set", "subsys")?,
            css_set_cgrp_links: of("css_set", "cgrp_links")?,
            css_cgroup: of("cgroup_subsys_state", "cgroup")?,
            link_cgrp: of("cgrp_cset_link", "cgrp")?,
            link_cgrp_link: of("cgrp_cset_link", "cgrp_link")?,
            cgroup_level: of("cgroup", "level")?,
            cgroup_ancestors: self.ancestors(&structures)?,
            cgroup_kn: of("cgroup", "kn")?,
            cgroup_root: of("cgroup", "root")?,
            root_hierarchy_id: of("cgroup_root", "hierarchy_id")?,
            kernfs_id: of("kernfs_node", "id")?,
            task_state: of("task_struct", "__state")?,
            task_on_cpu: of("task_struct", "on_cpu")?,
            task_voluntary: of("task_struct", "nvcsw")?,
            task_involuntary: of("task_struct", "nivcsw")?,
            task_last_arrival: self.last_arrival(&structures),
            mm_total_vm: self.member_within(&structures, "mm_struct", "total_vm").unwrap_or(0),
            mm_users: self.member_within(&structures, "mm_struct", "mm_users").unwrap_or(0),
        })
    }

    /// Byte offset of a member of a structure, or of a structure without a name in it.
    fn member_within(&self, structures: &HashMap<&'static str, Found>, structure: &'static str, member: &str) -> Option<u32> {
        if let Some(offset) = self.member(structures, structure, member) {
            return Some(offset);
        }
        let outer = structures.get(structure)?;
        let unnamed = (0..outer.members).map(|index| outer.at + index * 12).filter(|at| word(&self.bytes, *at) == Some(0));
        unnamed.into_iter().find_map(|at| {
            let (number, bits) = (word(&self.bytes, at + 4)?, word(&self.bytes, at + 8)?);
            let inner = HashMap::from([("", self.numbered(number)?)]);
            Some((if outer.has_bit_fields { bits & 0x00ff_ffff } else { bits }) / 8 + self.member(&inner, "", member)?)
        })
    }

    /// The structure with this number; the first type has 1.
    fn numbered(&self, number: u32) -> Option<Found> {
        let mut at = self.types.start;
        for _ in 1..number {
            let info = word(&self.bytes, at + 4)?;
            at += 12 + extra_bytes(info >> 24 & 0x1f, (info & 0xffff) as usize);
        }
        let info = word(&self.bytes, at + 4)?;
        let is_structure = matches!(info >> 24 & 0x1f, KIND_STRUCT | KIND_UNION);
        is_structure.then_some(Found { at: at + 12, members: (info & 0xffff) as usize, has_bit_fields: info >> 31 != 0 })
    }

    /// Where a kernel keeps when a task last got a CPU; 0 if it does not (CONFIG_SCHED_INFO).
    fn last_arrival(&self, structures: &HashMap<&'static str, Found>) -> u32 {
        let outer = self.member(structures, "task_struct", "sched_info");
        let inner = self.member(structures, "sched_info", "last_arrival");
        outer.zip(inner).map_or(0, |(outer, inner)| outer + inner)
    }

    /// `cgroup::ancestors` is the last member, and in kernels from 6.17 on it stands in an unnamed union: then it is where that union is.
    fn ancestors(&self, structures: &HashMap<&'static str, Found>) -> Result<u32, BpfError> {
        if let Some(offset) = self.member(structures, "cgroup", "ancestors") {
            return Ok(offset);
        }
        let missing = || BpfError::BtfMember { what: "cgroup::ancestors".to_owned() };
        let found = structures.get("cgroup").ok_or_else(missing)?;
        let last = found.at + found.members.checked_sub(1).ok_or_else(missing)? * 12;
        let (name, bits) = (word(&self.bytes, last).ok_or_else(missing)?, word(&self.bytes, last + 8).ok_or_else(missing)?);
        if name != 0 {
            return Err(missing());
        }
        Ok((if found.has_bit_fields { bits & 0x00ff_ffff } else { bits }) / 8)
    }
}

/// The number of a cgroup controller in this kernel: the enumerator `NAME_cgrp_id` of `enum cgroup_subsys_id`.
pub fn controller_index(types: &KernelTypes, controller: &str) -> Option<u32> {
    let enumerator = format!("{}_cgrp_id", if controller == "blkio" { "io" } else { controller });
    let found = *types.find(&["cgroup_subsys_id"]).get("cgroup_subsys_id")?;
    (0..found.members)
        .map(|index| found.at + index * 8)
        .find(|at| word(&types.bytes, *at).is_some_and(|name| types.is_string(name, &enumerator)))
        .and_then(|at| word(&types.bytes, at + 4))
}

/// Bytes that follow a type's header.
pub(super) fn extra_bytes(kind: u32, members: usize) -> usize {
    match kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => members * 12,
        KIND_ENUM | KIND_FUNC_PROTO => members * 8,
        _ => 0,
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_every_member() {
        let types = KernelTypes::load().expect("this kernel has BTF");
        let offsets = types.offsets().expect("all members");
        assert!(offsets.task_tgid == offsets.task_pid + 4, "pid and tgid are neighbours: {offsets:?}");
        assert!(offsets.cgroup_ancestors > offsets.cgroup_level);
        assert!(offsets.mm_total_vm > 0 && offsets.mm_users > 0);
        assert!(controller_index(&types, "cpuset").is_some());
        assert_eq!(controller_index(&types, "no such controller"), None);
    }

    #[test]
    fn garbage_is_refused() {
        assert!(KernelTypes::parse(vec![0; 100]).is_none());
        assert!(KernelTypes::parse(vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
    }
}
