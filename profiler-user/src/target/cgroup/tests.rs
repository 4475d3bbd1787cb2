//! Groups of the hierarchies that are mounted here, made and removed by the tests.

use super::{find, find_unit};
use crate::target::TargetError;
use crate::target::container;
use crate::target::hierarchy::Hierarchies;
use profiler_common::target::{HIERARCHY_CONTROLLER, HIERARCHY_UNIFIED};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Stands for what the kernel's types tell.
fn index(controller: &str) -> Option<u32> {
    ["cpuset", "cpu", "cpuacct", "io", "memory", "devices", "freezer"].iter().position(|known| *known == controller).map(|at| at as u32)
}

/// A group that is removed in the end, with its parents that it made.
struct Group {
    made: Vec<PathBuf>,
    sleeper: Option<Child>,
}

impl Group {
    fn make(mount: &Path, path: &str) -> Self {
        let mut made = Vec::new();
        let mut folder = mount.to_owned();
        for part in path.split('/') {
            folder.push(part);
            if std::fs::create_dir(&folder).is_ok() {
                made.push(folder.clone());
            }
        }
        assert!(made.last() == Some(&folder), "{} is there from another time", folder.display());
        Self { made, sleeper: None }
    }

    fn folder(&self) -> &Path {
        self.made.last().expect("one was made")
    }

    fn with_a_process(mut self) -> Self {
        let sleeper = Command::new("sleep").arg("60").spawn().expect("sleep is everywhere");
        std::fs::write(self.folder().join("cgroup.procs"), sleeper.id().to_string()).expect("root may move its child");
        self.sleeper = Some(sleeper);
        self
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(mut sleeper) = self.sleeper.take() {
            let _ = sleeper.kill();
            let _ = sleeper.wait();
        }
        for folder in self.made.iter().rev() {
            // The kernel lets go of a process that has ended a moment after it was waited for.
            let gone = (0..100).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                std::fs::remove_dir(folder).is_ok()
            });
            if !gone {
                eprintln!("{} could not be removed", folder.display());
            }
        }
    }
}

/// The hierarchies, if groups can be made in one of this kind.
fn hierarchies(kind: u32) -> Option<(Hierarchies, PathBuf)> {
    let all = Hierarchies::read(&index).expect("/proc is mounted");
    let mount = all.0.iter().find(|one| one.kind == kind && one.root == Path::new("/")).map(|one| one.mount.clone());
    let is_root = rustix::process::geteuid().is_root();
    match mount.filter(|_| is_root) {
        Some(mount) => Some((all, mount)),
        None => {
            assert!(is_root || std::env::var("CI").as_deref() != Ok("true"), "CI must run this as root");
            eprintln!("SKIP: needs root and a hierarchy of control groups of kind {kind}");
            None
        }
    }
}

fn expected(group: &Group, kind: u32, level: u32) -> (u64, u32, u32) {
    (group.folder().metadata().expect("it is there").ino(), kind, level)
}

fn seen(found: &super::Group) -> (u64, u32, u32) {
    (found.filter.id, found.filter.hierarchy, found.filter.level)
}

#[test]
fn a_group_is_found_by_its_folder_and_by_its_path_in_either_kind_of_hierarchy() {
    for kind in [HIERARCHY_UNIFIED, HIERARCHY_CONTROLLER] {
        let Some((all, mount)) = hierarchies(kind) else { continue };
        let name = format!("profiler-path-{kind}-{}/deeper", std::process::id());
        let group = Group::make(&mount, &name).with_a_process();
        for path in [group.folder(), Path::new(&name), &Path::new("/").join(&name), &mount.join("./").join(&name)] {
            let found = find(path, &all).expect("it is there");
            assert_eq!(seen(&found), expected(&group, kind, 2), "{}", path.display());
        }
        assert_eq!(find(&mount, &all).expect("the root is a group").filter.level, 0);
    }
}

#[test]
fn what_is_no_group_is_refused() {
    let all = Hierarchies::read(&index).expect("/proc is mounted");
    for path in ["/proc/self", "no/such/group", "../../../proc", "/no/such/group", "/etc/passwd"] {
        let found = find(Path::new(path), &all);
        assert!(matches!(found, Err(TargetError::NoCgroup { .. })), "{path}: {found:?}");
    }
}

#[test]
fn of_two_hierarchies_the_one_with_processes_is_taken() {
    let (Some((all, v1)), Some((_, v2))) = (hierarchies(HIERARCHY_CONTROLLER), hierarchies(HIERARCHY_UNIFIED)) else { return };
    let name = format!("profiler-both-{}.service", std::process::id());
    let (used, _empty) = (Group::make(&v1, &name).with_a_process(), Group::make(&v2, &name));
    assert_eq!(seen(&find(Path::new(&name), &all).expect("it is there")), expected(&used, HIERARCHY_CONTROLLER, 1));
    let stem = name.strip_suffix(".service").expect("it has one");
    assert_eq!(seen(&find_unit(stem, &all).expect("it is there")), expected(&used, HIERARCHY_CONTROLLER, 1));
    assert!(matches!(find_unit("no-such-unit-here", &all), Err(TargetError::NoUnit { name }) if name == "no-such-unit-here.service"));
}

#[test]
fn a_container_is_found_by_the_beginning_of_its_id_unless_two_begin_so() {
    let Some((all, mount)) = hierarchies(HIERARCHY_CONTROLLER) else { return };
    let pid = std::process::id();
    let id = |last: &str| format!("{:0<63}{last}", format!("5eed{pid:x}"));
    let one = Group::make(&mount, &format!("profiler-engine-{pid}/docker-{}.scope", id("1"))).with_a_process();
    let prefix = &id("1")[..20];
    assert_eq!(seen(&container::find(prefix, &all).expect("it is there")), expected(&one, HIERARCHY_CONTROLLER, 2));
    let two = Group::make(&mount, &id("2"));
    assert!(matches!(container::find(prefix, &all), Err(TargetError::AmbiguousContainer { .. })));
    assert_eq!(seen(&container::find(&id("2"), &all).expect("it is there")), expected(&two, HIERARCHY_CONTROLLER, 1));
    assert!(matches!(container::find("5eedffffffffffff", &all), Err(TargetError::NoContainer { .. })));
}

#[test]
fn a_stranger_s_group_does_not_stand_for_root_s() {
    let Some((all, mount)) = hierarchies(HIERARCHY_CONTROLLER) else { return };
    let name = format!("profiler-foreign-{}.service", std::process::id());
    let foreign = Group::make(&mount, &name).with_a_process();
    std::os::unix::fs::chown(foreign.folder(), Some(65534), None).expect("root may");
    let outer = format!("profiler-outer-{}/{name}", std::process::id());
    let own = Group::make(&mount, &outer);
    assert_eq!(seen(&find_unit(&name, &all).expect("it is there")), expected(&own, HIERARCHY_CONTROLLER, 2));
}

#[test]
fn of_two_users_units_of_one_name_none_is_guessed() {
    let Some((all, mount)) = hierarchies(HIERARCHY_CONTROLLER) else { return };
    let pid = std::process::id();
    let group = |user: u32| Group::make(&mount, &format!("profiler-user-{user}-{pid}/profiler-twin-{pid}.service")).with_a_process();
    let (one, _other) = (group(1), group(2));
    let found = find_unit(&format!("profiler-twin-{pid}"), &all);
    assert!(matches!(&found, Err(TargetError::AmbiguousUnit { candidates, .. }) if candidates.contains("profiler-user-1-")), "{found:?}");
    drop(one);
    assert!(find_unit(&format!("profiler-twin-{pid}"), &all).is_ok());
}
