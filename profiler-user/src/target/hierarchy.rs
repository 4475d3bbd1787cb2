//! The mounted hierarchies of control groups, v1 and v2, and how the programs find a task's group in each.

use super::TargetError;
use profiler_common::target::{HIERARCHY_CONTROLLER, HIERARCHY_NAMED, HIERARCHY_UNIFIED};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

const MOUNTS: &str = "/proc/self/mountinfo";
const GROUPS: &str = "/proc/self/cgroup";
/// The inode of the machine's own cgroup namespace (`PROC_CGROUP_INIT_INO` of include/linux/proc_ns.h).
const INITIAL_NAMESPACE: &str = "cgroup:[4026531835]";
/// The inode of a hierarchy's root: kernfs numbers from 1 (fs/kernfs/dir.c).
const ROOT_INODE: u64 = 1;

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// Which of its folders is mounted there: `/`, unless this is a container or a bind mount.
    pub(super) root: PathBuf,
    /// `HIERARCHY_*`.
    pub(super) kind: u32,
    /// Number of the controller, or of the hierarchy.
    pub(super) index: u32,
    /// Its device number, which every folder of it has.
    pub(super) device: u64,
}

/// All mounted hierarchies, the unified one first.
#[derive(Clone, Debug, Default)]
pub(super) struct Hierarchies(pub(super) Vec<Hierarchy>);

impl Hierarchies {
    /// Reads what is mounted.
    pub(super) fn read(controller_index: &dyn Fn(&str) -> Option<u32>) -> Result<Self, TargetError> {
        let read = |path| std::fs::read(path).map_err(|source| TargetError::Hierarchies { path, source });
        Ok(Self::parse(&read(MOUNTS)?, &String::from_utf8_lossy(&read(GROUPS)?), controller_index))
    }

    fn parse(mounts: &[u8], groups: &str, controller_index: &dyn Fn(&str) -> Option<u32>) -> Self {
        let lines = mounts.split(|byte| *byte == b'\n');
        let mut found: Vec<Hierarchy> = lines.filter_map(|line| parse_mount(line, groups, controller_index)).collect();
        found.sort_by_key(|hierarchy| hierarchy.kind);
        Self(found)
    }

    /// Where groups can be found, as an example for a person.
    pub(super) fn example(&self) -> String {
        self.0.first().map_or_else(|| "none is mounted".to_owned(), |hierarchy| hierarchy.mount.display().to_string())
    }
}

/// A line of mountinfo (proc_pid_mountinfo(5)): ..., root, mount point, options, optional fields, `-`, type, source, options of the file system.
fn parse_mount(line: &[u8], groups: &str, controller_index: &dyn Fn(&str) -> Option<u32>) -> Option<Hierarchy> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let (root, mount) = (unescape(fields.get(3)?), unescape(fields.get(4)?));
    let options = std::str::from_utf8(fields.get(dash + 3)?).ok()?;
    let (major, minor) = std::str::from_utf8(fields.get(2)?).ok()?.split_once(':')?;
    let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
    let (kind, index) = match *fields.get(dash + 1)? {
        b"cgroup2" => (HIERARCHY_UNIFIED, 0),
        b"cgroup" => v1(options, groups, controller_index)?,
        _ => return None,
    };
    Some(Hierarchy { mount, root, kind, index, device })
}

/// A v1 hierarchy stands for its first controller that the kernel's types have a number for; else its own number does, which `/proc/self/cgroup` tells.
fn v1(options: &str, groups: &str, controller_index: &dyn Fn(&str) -> Option<u32>) -> Option<(u32, u32)> {
    let options: Vec<&str> = options.split(',').collect();
    let (id, controllers) = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (id, controllers) = (fields.next()?, fields.next()?);
        let is_this = !controllers.is_empty() && controllers.split(',').all(|controller| options.contains(&controller));
        is_this.then_some((id, controllers))
    })?;
    let by_controller = controllers.split(',').filter(|controller| !controller.starts_with("name=")).find_map(controller_index);
    Some(match by_controller {
        Some(index) => (HIERARCHY_CONTROLLER, index),
        None => (HIERARCHY_NAMED, id.parse().ok()?),
    })
}

/// `\040` and the like to their bytes.
fn unescape(field: &[u8]) -> PathBuf {
    let (mut bytes, mut at) = (Vec::with_capacity(field.len()), 0);
    while at < field.len() {
        let octal =
            field.get(at + 1..at + 4).filter(|digits| field[at] == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match octal {
            Some(digits) => {
                bytes.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                at += 4;
            }
            None => {
                bytes.push(field[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

impl Hierarchy {
    /// How deep below the root of the hierarchy a folder of it is: `cgroup::level`.
    pub(super) fn level(&self, folder: &Path) -> Option<u32> {
        let below = folder.strip_prefix(&self.mount).ok()?;
        let depth = |path: &Path| path.components().filter(|component| matches!(component, Component::Normal(_))).count() as u32;
        Some(depth(&self.root) + depth(below))
    }

    /// Whether what is mounted begins at the hierarchy's real root, or we know how far below it: in a cgroup namespace we do not.
    pub(super) fn shows_its_depth(&self) -> bool {
        if self.root == Path::new("/") {
            return self.mount.metadata().is_ok_and(|root| root.ino() == ROOT_INODE);
        }
        // Without namespaces there is no link, and one namespace.
        std::fs::read_link("/proc/self/ns/cgroup").map_or(true, |namespace| namespace == Path::new(INITIAL_NAMESPACE))
    }

    /// Whether a folder is one of this hierarchy, and not of a file system that is mounted over it.
    pub(super) fn has(&self, folder: &Path) -> bool {
        folder.metadata().is_ok_and(|folder| folder.is_dir() && folder.dev() == self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
        31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
        32 25 0:28 /docker/x /sys/fs/cgroup/uni\\040fied rw shared:9 - cgroup2 cgroup2 rw\n\
        33 25 0:29 / /proc rw - proc proc rw\n";

    #[test]
    fn every_hierarchy_is_found_with_its_number() {
        let index = |name: &str| (name == "cpu").then_some(4);
        let found = Hierarchies::parse(HYBRID, "9:name=systemd:/\n1:cpu,cpuacct:/\n0::/\n", &index).0;
        let summary: Vec<_> = found.iter().map(|one| (one.kind, one.index, one.mount.to_str().expect("text"))).collect();
        assert_eq!(
            summary,
            [
                (HIERARCHY_UNIFIED, 0, "/sys/fs/cgroup/uni fied"),
                (HIERARCHY_CONTROLLER, 4, "/sys/fs/cgroup/cpu,cpuacct"),
                (HIERARCHY_NAMED, 9, "/sys/fs/cgroup/systemd")
            ]
        );
        assert_eq!(found[0].level(Path::new("/sys/fs/cgroup/uni fied/a/b")), Some(4));
        assert_eq!(found[1].level(Path::new("/sys/fs/cgroup/cpu,cpuacct")), Some(0));
        assert_eq!(found[1].level(Path::new("/elsewhere")), None);
    }

    #[test]
    fn a_hierarchy_whose_controllers_the_types_do_not_know_is_found_by_its_own_number() {
        let found = Hierarchies::parse(HYBRID, "9:name=systemd:/\n6:cpu,cpuacct:/\n0::/\n", &|_| None).0;
        assert!(found.iter().any(|one| (one.kind, one.index) == (HIERARCHY_NAMED, 6)), "{found:?}");
    }

    #[test]
    fn what_is_no_escape_stays() {
        for (field, expected) in [("a\\", "a\\"), ("\\04", "\\04"), ("\\048", "\\048"), ("\\011x", "\tx")] {
            assert_eq!(unescape(field.as_bytes()), Path::new(expected), "{field}");
        }
    }
}
