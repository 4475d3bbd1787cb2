//! How container engines name control groups after containers: one rule for finding a container and for labelling its processes.

/// The container id in the name of a control group's folder, if it has one.
///
/// Known forms: 64 hexadecimal digits alone (Docker and Kubernetes with cgroupfs), after `docker-`, `cri-containerd-`, `crio-`, `libpod-` (optionally
/// `conmon` aside) and before `.scope` (with systemd), and the 32 digits, dash, number of Amazon ECS.
pub fn container_id(folder: &str) -> Option<&str> {
    let name = folder.strip_suffix(".scope").unwrap_or(folder);
    if is_ecs(name) {
        return Some(name);
    }
    let id = name.rsplit(['-', ':']).next()?;
    let is_monitor = name.contains("conmon");
    (!is_monitor && id.len() == 64 && id.bytes().all(is_hex)).then_some(id)
}

fn is_ecs(name: &str) -> bool {
    name.split_once('-').is_some_and(|(task, number)| {
        task.len() == 32 && task.bytes().all(is_hex) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::container_id;

    const ID: &str = "3f2a9c0e4b5d6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8";

    #[test]
    fn engines_are_understood() {
        for form in [
            "{}",
            "docker-{}.scope",
            "cri-containerd-{}.scope",
            "crio-{}.scope",
            "libpod-{}.scope",
            "kubepods-besteffort-pod1.slice:cri-containerd:{}",
        ] {
            assert_eq!(container_id(&form.replace("{}", ID)), Some(ID), "{form}");
        }
        assert_eq!(container_id("0123456789abcdef0123456789abcdef-1234567890"), Some("0123456789abcdef0123456789abcdef-1234567890"));
    }

    #[test]
    fn other_folders_are_no_containers() {
        for name in [
            "system.slice",
            "libpod-conmon-3f.scope",
            &ID[1..],
            "crio-conmon-3f2a9c0e4b5d6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8.scope",
            "user@1000.service",
            "",
        ] {
            assert_eq!(container_id(name), None, "{name}");
        }
    }
}
