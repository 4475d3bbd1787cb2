//! The hierarchies of control groups: which there are, where they are mounted, and how the kernel side finds a task's place in each.

use super::TargetError;
use profiler_common::target::{HIERARCHY_CONTROLLER, HIERARCHY_NAMED, HIERARCHY_UNIFIED};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const MOUNTS: &str = "/proc/self/mountinfo";
const GROUPS: &str = "/proc/self/cgroup";
/// The inode of the machine's own cgroup namespace (`PROC_CGROUP_INIT_INO` of include/linux/proc_ns.h).
const INITIAL_NAMESPACE: &str = "cgroup:[4026531835]";
/// The inode of a hierarchy's root: kernfs numbers from 1 (fs/kernfs/dir.c).
const ROOT_INODE: u64 = 1;

/// All that are mounted, in the order in which they are preferred: the unified one, then those without a controller (systemd's), then the others.
#[derive(Debug)]
pub(super) struct Hierarchies {
    pub(super) all: Vec<Hierarchy>,
    /// We see the machine's own namespace of groups.
    is_initial: bool,
}

/// A hierarchy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hierarchy {
    /// One of the `HIERARCHY_*`.
    pub(super) kind: u32,
    /// Which one of that kind.
    pub(super) index: u32,
    /// Where it can be seen; the one that shows most of it first.
    pub(super) mounts: Vec<Mount>,
    /// Its device number: every file of it has this one.
    device: u64,
}

/// A place where a part of a hierarchy can be seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mount {
    /// The part: a path below the hierarchy's root.
    pub(super) root: PathBuf,
    /// The place.
    pub(super) point: PathBuf,
}

impl Hierarchies {
    /// Reads the ones that this process sees.
    pub(super) fn read(controller_index: &dyn Fn(&str) -> Option<u32>) -> Result<Self, TargetError> {
        let read = |path| std::fs::read(path).map_err(|source| TargetError::Proc { path, source });
        let all = parse(&read(MOUNTS)?, &String::from_utf8_lossy(&read(GROUPS)?), controller_index);
        if all.is_empty() {
            return Err(TargetError::NoHierarchies);
        }
        // Without namespaces there is no link, and one namespace.
        let is_initial = std::fs::read_link("/proc/self/ns/cgroup").map_or(true, |namespace| namespace == Path::new(INITIAL_NAMESPACE));
        Ok(Self { all, is_initial })
    }

    /// The hierarchy that a folder with this device number is in.
    pub(super) fn of_device(&self, device: u64) -> Option<&Hierarchy> {
        self.all.iter().find(|hierarchy| hierarchy.device == device)
    }

    /// Levels between a hierarchy's real root and what a mount shows; `None` if a namespace hides it.
    pub(super) fn depth_of(&self, mount: &Mount) -> Option<usize> {
        let is_whole = mount.root == Path::new("/");
        let is_known = if is_whole { mount.point.metadata().is_ok_and(|point| point.ino() == ROOT_INODE) } else { self.is_initial };
        is_known.then(|| mount.root.components().count() - 1)
    }
}

impl Hierarchy {
    /// Whether a folder belongs to it.
    pub(super) fn has(&self, folder: &Path) -> bool {
        folder.metadata().is_ok_and(|folder| folder.is_dir() && folder.dev() == self.device)
    }
}

/// From proc_pid_mountinfo(5) and proc_pid_cgroup(5).
fn parse(mounts: &[u8], groups: &str, controller_index: &dyn Fn(&str) -> Option<u32>) -> Vec<Hierarchy> {
    let mut all: Vec<Hierarchy> = Vec::new();
    for line in mounts.split(|byte| *byte == b'\n') {
        let Some((device, mount, options)) = parse_mount(line) else { continue };
        if let Some(known) = all.iter_mut().find(|known| known.device == device) {
            known.mounts.push(mount);
            continue;
        }
        let found = match options {
            None => Some((HIERARCHY_UNIFIED, 0)),
            Some(options) => v1_kind(&options, groups, controller_index),
        };
        if let Some((kind, index)) = found {
            all.push(Hierarchy { kind, index, mounts: vec![mount], device });
        }
    }
    for hierarchy in &mut all {
        hierarchy.mounts.sort_by_key(|mount| mount.root.components().count());
    }
    let rank = |kind| [HIERARCHY_UNIFIED, HIERARCHY_NAMED, HIERARCHY_CONTROLLER].iter().position(|known| *known == kind);
    all.sort_by_key(|hierarchy| (rank(hierarchy.kind), hierarchy.index));
    all
}

/// Device, place, and for v1 the options of a mount of control groups.
fn parse_mount(line: &[u8]) -> Option<(u64, Mount, Option<String>)> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let (major, minor) = std::str::from_utf8(fields.get(2)?).ok()?.split_once(':')?;
    let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
    // A variable number of optional fields ends with a lone dash.
    let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let options = match *fields.get(dash + 1)? {
        b"cgroup2" => None,
        b"cgroup" => Some(String::from_utf8_lossy(fields.get(dash + 3)?).into_owned()),
        _ => return None,
    };
    Some((device, Mount { root: unescape(fields.get(3)?), point: unescape(fields.get(4)?) }, options))
}

/// How the kernel side finds a v1 hierarchy: by a controller that this kernel's types know, else by its number.
fn v1_kind(options: &str, groups: &str, controller_index: &dyn Fn(&str) -> Option<u32>) -> Option<(u32, u32)> {
    let options: Vec<&str> = options.split(',').collect();
    let (number, controllers) = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers) = (fields.next()?, fields.next()?);
        (!controllers.is_empty() && controllers.split(',').all(|controller| options.contains(&controller))).then_some((number, controllers))
    })?;
    let by_controller = controllers.split(',').filter(|controller| !controller.starts_with("name=")).find_map(controller_index);
    match by_controller {
        Some(index) => Some((HIERARCHY_CONTROLLER, index)),
        None => Some((HIERARCHY_NAMED, number.parse().ok()?)),
    }
}

/// Blanks, tabs, newlines and backslashes stand as three octal digits behind a backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|digit| matches!(digit, b'0'..=b'7')));
        let value =
            digits.and_then(|digits| u8::try_from(digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'))).ok());
        out.push(value.unwrap_or(*first));
        rest = if value.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(controller: &str) -> Option<u32> {
        ["cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer"]
            .iter()
            .position(|known| *known == controller)
            .map(|at| at as u32)
    }

    fn mount(root: &str, point: &str) -> Mount {
        Mount { root: root.into(), point: point.into() }
    }

    #[test]
    fn a_hybrid_machine_has_all_three_kinds() {
        let mounts = b"31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct\n\
            33 31 0:30 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls\n\
            34 31 0:31 / /sys/fs/cgroup/systemd rw shared:11 master:2 - cgroup cgroup rw,xattr,name=systemd\n\
            35 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let groups = "12:net_cls:/\n5:cpu,cpuacct:/\n1:name=systemd:/user.slice\n0::/user.slice\n";
        let all = parse(mounts, groups, &index);
        let kinds: Vec<(u32, u32)> = all.iter().map(|hierarchy| (hierarchy.kind, hierarchy.index)).collect();
        // net_cls is a controller that the types do not know: it is found by its number, as one without a controller.
        assert_eq!(kinds, [(HIERARCHY_UNIFIED, 0), (HIERARCHY_NAMED, 1), (HIERARCHY_NAMED, 12), (HIERARCHY_CONTROLLER, 1)]);
        assert_eq!(all[0].mounts, [mount("/", "/sys/fs/cgroup/unified")]);
    }

    #[test]
    fn the_mount_that_shows_most_is_first_and_odd_names_are_unescaped() {
        let mounts = b"40 1 0:26 /docker/abc /mnt/a\\040b\\134c rw - cgroup2 cgroup2 rw\n41 1 0:26 / /sys/fs/cgroup rw - cgroup2 none rw\n";
        let all = parse(mounts, "0::/\n", &index);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].mounts, [mount("/", "/sys/fs/cgroup"), mount("/docker/abc", "/mnt/a b\\c")]);
    }

    #[test]
    fn what_is_no_escape_stays() {
        for (field, expected) in [("a\\", "a\\"), ("\\04", "\\04"), ("\\048", "\\048"), ("\\777", "\\777"), ("\\011x", "\tx")] {
            assert_eq!(unescape(field.as_bytes()), Path::new(expected), "{field}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_a_panic(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_mount(&line);
        }
    }
}
