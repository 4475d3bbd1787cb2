//! From `/proc/PID/cgroup` to labels. Names of groups are bytes from a stranger: they come out as printable text of bounded length.

use crate::model::label::Label;
use crate::model::text::{lossy, printable};
use crate::target::{container_id, is_unit};

/// Bytes of a label's value.
const VALUE_MAX: usize = 512;

/// The labels that a process's groups give it (the format: proc_pid_cgroup(5)).
///
/// The unified hierarchy is believed first, then the one of systemd, then the others. `container_id` and `unit` come from the innermost group that is
/// named so; `cgroup` is the path in the unified hierarchy, or the longest of the others where that one is not used.
pub(super) fn labels(text: &[u8]) -> Vec<Label> {
    let mut paths: Vec<(u32, String)> = text.split(|byte| *byte == b'\n').filter_map(path_of).collect();
    paths.sort_by_key(|(rank, _)| *rank);
    let find = |of: &dyn Fn(&str) -> Option<&str>| {
        let names = paths.iter().flat_map(|(_, path)| path.rsplit('/'));
        names.into_iter().find_map(|name| of(name).map(str::to_owned))
    };
    let container = find(&container_id);
    let unit = find(&unit_of);
    let unified = paths.iter().find(|(rank, path)| *rank == 0 && path != "/");
    let longest = paths.iter().filter(|(_, path)| path != "/").max_by_key(|(rank, path)| (path.len(), std::cmp::Reverse(*rank)));
    let path = unified.or(longest).map(|(_, path)| path.clone());
    let found = [("container_id", container), ("unit", unit), ("cgroup", path)];
    found.into_iter().filter_map(|(key, value)| Some(Label::text(key, safe(&value?)))).collect()
}

/// The path of a line, with how much it is believed: 0 is most.
fn path_of(line: &[u8]) -> Option<(u32, String)> {
    let line = lossy(line);
    // A path may hold colons.
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    // What the kernel adds when the group was removed under its last process.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let rank = match controllers {
        "" => 0,
        "name=systemd" => 1,
        _ => 2,
    };
    path.starts_with('/').then(|| (rank, path.to_owned()))
}

/// A unit that runs something; not a slice, which only holds others, and not the scope of a container, which its id names.
fn unit_of(name: &str) -> Option<&str> {
    (is_unit(name) && !name.ends_with(".slice") && container_id(name).is_none() && !name.contains("conmon-")).then_some(name)
}

/// The end of a long name tells more than its beginning.
fn safe(text: &str) -> String {
    let text = printable(text);
    if text.len() <= VALUE_MAX {
        return text.into_owned();
    }
    let mut from = text.len() - (VALUE_MAX - '\u{2026}'.len_utf8());
    while !text.is_char_boundary(from) {
        from += 1;
    }
    format!("\u{2026}{}", &text[from..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::label::LabelValue;
    use proptest::prelude::*;

    const ID: &str = "3f4d0f6a8c1be7d2950a6b4c8e2f1d3a7b9c0e5f6a1d2c3b4e5f60718293a4b5";

    fn seen(text: &str) -> Vec<(String, String)> {
        let text_of = |value: &LabelValue| if let LabelValue::Text(text) = value { text.to_string() } else { panic!("only text") };
        labels(text.as_bytes()).iter().map(|label| (label.key.to_string(), text_of(&label.value))).collect()
    }

    fn expect(text: &str, expected: &[(&str, &str)]) {
        let text = text.replace("ID", ID);
        let expected: Vec<_> = expected.iter().map(|(key, value)| ((*key).to_owned(), value.replace("ID", ID))).collect();
        assert_eq!(seen(&text), expected, "{text}");
    }

    #[test]
    fn a_service_of_a_machine_with_the_unified_hierarchy() {
        expect("0::/system.slice/nginx.service\n", &[("unit", "nginx.service"), ("cgroup", "/system.slice/nginx.service")]);
        expect(
            "0::/system.slice/system-getty.slice/getty@tty1.service\n",
            &[("unit", "getty@tty1.service"), ("cgroup", "/system.slice/system-getty.slice/getty@tty1.service")],
        );
        expect("0::/init.scope\n", &[("unit", "init.scope"), ("cgroup", "/init.scope")]);
    }

    #[test]
    fn a_user_s_service_is_the_innermost() {
        let path = "/user.slice/user-1000.slice/user@1000.service/app.slice/pipewire.service";
        expect(&format!("0::{path}\n"), &[("unit", "pipewire.service"), ("cgroup", path)]);
        let path = "/user.slice/user-1000.slice/session-3.scope";
        expect(&format!("0::{path}\n"), &[("unit", "session-3.scope"), ("cgroup", path)]);
    }

    #[test]
    fn containers_of_every_runtime() {
        for path in [
            "/docker/ID",
            "/system.slice/docker-ID.scope",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1a2b.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1a2b.slice/crio-ID.scope",
            "/kubepods.slice/kubepods-besteffort.slice/crio-ID.scope/container",
            "/kubepods/besteffort/pod0f7d9f5e-1234-5678-9abc-def012345678/ID",
            "/machine.slice/libpod-ID.scope/container",
            "/default/ID",
        ] {
            expect(&format!("0::{path}\n"), &[("container_id", "ID"), ("cgroup", path)]);
        }
        let task = "/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-1234567890";
        expect(&format!("4:memory:{task}\n0::/\n"), &[("container_id", "0123456789abcdef0123456789abcdef-1234567890"), ("cgroup", task)]);
    }

    #[test]
    fn a_rootless_container_is_in_its_user_s_service() {
        let path = "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container";
        expect(&format!("0::{path}\n"), &[("container_id", "ID"), ("unit", "user@1000.service"), ("cgroup", path)]);
    }

    #[test]
    fn a_monitor_is_in_no_container() {
        expect("0::/machine.slice/libpod-conmon-ID.scope\n", &[("cgroup", "/machine.slice/libpod-conmon-ID.scope")]);
    }

    #[test]
    fn of_the_old_hierarchies_the_longest_path_counts() {
        let text = "11:pids:/docker/ID\n5:cpu,cpuacct:/docker/ID/child\n2:cpuset:/\n1:name=systemd:/docker/ID\n";
        expect(text, &[("container_id", "ID"), ("cgroup", "/docker/ID/child")]);
        // An unused unified hierarchy beside them says nothing.
        let text = "9:name=systemd:/system.slice/cron.service\n4:memory:/system.slice\n0::/\n";
        expect(text, &[("unit", "cron.service"), ("cgroup", "/system.slice/cron.service")]);
        let text = "1:name=systemd:/a/much/longer/path\n0::/system.slice/cron.service\n";
        expect(text, &[("unit", "cron.service"), ("cgroup", "/system.slice/cron.service")]);
    }

    #[test]
    fn who_is_nowhere_has_no_labels() {
        for text in ["", "0::/\n", "9:name=systemd:/\n8:pids:/\n0::/\n", "garbage", "0::no slash"] {
            expect(text, &[]);
        }
    }

    #[test]
    fn colons_and_removed_groups_are_understood() {
        let path = "/kubepods-besteffort-pod1a2b.slice:cri-containerd:ID";
        expect(&format!("0::{path} (deleted)\n"), &[("container_id", "ID"), ("cgroup", path)]);
    }

    #[test]
    fn a_stranger_s_name_is_made_harmless() {
        let text = format!("0::/\u{1b}[31mred/{}/end\n", "x".repeat(5000));
        let found = seen(&text);
        assert!(found[0].1.len() <= VALUE_MAX && found[0].1.ends_with("/end") && found[0].1.starts_with('\u{2026}'));
        assert_eq!(seen("0::/\u{1b}[2J.service\n")[0], ("unit".to_owned(), "\\u{1b}[2J.service".to_owned()));
    }

    proptest! {
        #[test]
        fn any_bytes_give_printable_text_of_bounded_length(bytes in proptest::collection::vec(any::<u8>(), 0..300), repeat in 1usize..20) {
            let text = [b"0::/".as_slice(), &bytes.repeat(repeat)].concat();
            for label in labels(&text) {
                let LabelValue::Text(value) = label.value else { panic!("only text") };
                prop_assert!(!value.is_empty() && value.len() <= VALUE_MAX && !value.chars().any(char::is_control));
            }
        }
    }
}
