//! Labels of a process: its container, its unit, its control group. From `/proc/PID/cgroup` alone, whose form is the kernel's.

use crate::model::container::container_id;
use crate::model::label::Label;
use crate::model::process::Pid;
use std::sync::Arc;

/// Bytes of a label's value at most.
const VALUE_BYTES_MAX: usize = 4096;

/// The labels of a process; None if it is gone.
pub fn of_process(pid: Pid) -> Option<Arc<[Label]>> {
    let text = std::fs::read(format!("/proc/{}/cgroup", pid.0)).ok()?;
    Some(from_cgroup_text(&String::from_utf8_lossy(&text)).into())
}

/// The labels that the text of a `/proc/PID/cgroup` tells: lines of `id:controllers:path`.
fn from_cgroup_text(text: &str) -> Vec<Label> {
    let paths: Vec<(bool, &str)> = text.lines().filter_map(parse_line).collect();
    let mut labels = Vec::new();
    let mut add = |key: &'static str, value: &str| {
        if !value.is_empty() {
            let end = value.char_indices().map(|(at, _)| at).find(|at| *at > VALUE_BYTES_MAX).unwrap_or(value.len());
            labels.push(Label::text(key, &value[..end]));
        }
    };
    let folders = || paths.iter().flat_map(|(_, path)| path.rsplit('/'));
    if let Some(group) = main_path(&paths) {
        add("cgroup", group);
    }
    if let Some(id) = folders().find_map(container_id) {
        add("container_id", id);
    }
    let unit = |suffix: &'static str| folders().find(move |folder| folder.ends_with(suffix));
    if let Some(unit) = unit(".service").or_else(|| unit(".scope")).or_else(|| unit(".slice")) {
        add("unit", unit);
    }
    labels
}

/// Whether a line is of the unified hierarchy, and its path.
fn parse_line(line: &str) -> Option<(bool, &str)> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    // A group that was removed while the process still ran.
    Some((id == "0" && controllers.is_empty(), path.strip_suffix(" (deleted)").unwrap_or(path)))
}

/// The group that tells most: the unified hierarchy's unless that is its root, else the longest path.
fn main_path<'a>(paths: &[(bool, &'a str)]) -> Option<&'a str> {
    let unified = paths.iter().find(|(unified, path)| *unified && *path != "/");
    let longest = || paths.iter().filter(|(_, path)| *path != "/").max_by_key(|(_, path)| path.len());
    unified.or_else(longest).map(|(_, path)| *path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::label::LabelValue;

    const ID: &str = "3f2a9c0e4b5d6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8";

    fn labels(text: &str) -> Vec<(String, String)> {
        let pair = |label: Label| match label.value {
            LabelValue::Text(text) => (label.key.to_string(), text.to_string()),
            LabelValue::Number { .. } => panic!("all are text"),
        };
        from_cgroup_text(text).into_iter().map(pair).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_container_of_a_unified_host() {
        let scope = format!("docker-{ID}.scope");
        let path = format!("/system.slice/{scope}");
        assert_eq!(labels(&format!("0::{path}\n")), pairs(&[("cgroup", &path), ("container_id", ID), ("unit", &scope)]));
    }

    #[test]
    fn a_container_of_a_v1_host() {
        let path = format!("/docker/{ID}");
        let text = format!("12:freezer:{path}\n11:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::/\n");
        assert_eq!(labels(&text), pairs(&[("cgroup", &path), ("container_id", ID)]));
    }

    #[test]
    fn a_pod_of_kubernetes() {
        let path = format!("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-{ID}.scope");
        let found = labels(&format!("0::{path}"));
        assert_eq!(found[1], ("container_id".to_owned(), ID.to_owned()));
    }

    #[test]
    fn units_prefer_the_service() {
        let path = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope";
        assert_eq!(labels(&format!("0::{path}\n")), pairs(&[("cgroup", path), ("unit", "user@1000.service")]));
        assert_eq!(labels("0::/init.scope\n"), pairs(&[("cgroup", "/init.scope"), ("unit", "init.scope")]));
    }

    #[test]
    fn the_root_says_nothing() {
        assert!(labels("3:cpu:/\n0::/\n").is_empty());
        assert!(labels("garbage\n\n::\n").is_empty());
    }

    #[test]
    fn values_are_bounded() {
        let found = labels(&format!("0::/{}\n", "é".repeat(5000)));
        assert!(found[0].1.len() <= VALUE_BYTES_MAX + 2);
    }
}
