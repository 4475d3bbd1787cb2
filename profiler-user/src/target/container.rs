//! What the name of a control group says: a container, by its runtime's way of writing its id, or a systemd unit.

/// Digits of a container's id.
const ID_DIGITS: usize = 64;
/// Digits of a task's id in Amazon's ECS; a dash and a number follow.
const ECS_TASK_DIGITS: usize = 32;
/// Kinds of unit that have a control group of their own (systemd.unit(5)).
const UNIT_SUFFIXES: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];

/// The container that a group's folder is named after: `<64 hex>`, or that behind a runtime's prefix (`docker-`, `cri-containerd-`, `crio-`, `libpod-`,
/// `kubepods-...:cri-containerd:`) and before `.scope`; in ECS `<32 hex>-<number>`. Not the group of a container's monitor (`conmon`).
pub fn container_id(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    if is_ecs_id(name) {
        return Some(name);
    }
    let (prefix, id) = name.split_at_checked(name.len().checked_sub(ID_DIGITS)?)?;
    let is_prefix = prefix.is_empty() || prefix.ends_with(['-', ':']);
    (is_prefix && !prefix.contains("conmon") && is_hex(id)).then_some(id)
}

/// Whether a group's folder is named after a systemd unit, of whatever kind.
pub fn is_unit(name: &str) -> bool {
    UNIT_SUFFIXES.iter().any(|suffix| name.strip_suffix(suffix).is_some_and(|stem| !stem.is_empty()))
}

/// Hexadecimal digits as runtimes write them: lower case.
fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_ecs_id(name: &str) -> bool {
    let Some((task, number)) = name.split_once('-') else { return false };
    task.len() == ECS_TASK_DIGITS && is_hex(task) && matches!(number.len(), 1..=10) && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{container_id, is_unit};
    use proptest::prelude::*;

    const ID: &str = "3f4d0f6a8c1be7d2950a6b4c8e2f1d3a7b9c0e5f6a1d2c3b4e5f60718293a4b5";

    #[test]
    fn ids_are_found_as_every_runtime_writes_them() {
        for (prefix, suffix) in [
            ("", ""),
            ("docker-", ".scope"),
            ("cri-containerd-", ".scope"),
            ("crio-", ".scope"),
            ("crio-", ""),
            ("libpod-", ".scope"),
            ("libpod-payload-", ""),
            ("nerdctl-", ".scope"),
            ("kubepods-besteffort-pod8f1d.slice:cri-containerd:", ""),
        ] {
            assert_eq!(container_id(&format!("{prefix}{ID}{suffix}")), Some(ID), "{prefix}{suffix}");
        }
        let task = "0123456789abcdef0123456789abcdef-1234567890";
        assert_eq!(container_id(task), Some(task));
    }

    #[test]
    fn what_is_no_container_has_no_id() {
        let upper = ID.to_uppercase();
        let (monitor, other_monitor) = (format!("libpod-conmon-{ID}.scope"), format!("crio-conmon-{ID}.scope"));
        let (longer, shorter, unit) = (format!("a{ID}"), &ID[1..], format!("docker-{ID}.service"));
        for name in [
            "",
            "nginx.service",
            &upper,
            &monitor,
            &other_monitor,
            &longer,
            shorter,
            &unit,
            "pod0123456789abcdef0123456789abcdef",
            "0123456789abcdef0123456789abcdef-",
            "0123456789abcdef0123456789abcdef-12x",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(container_id(name), None, "{name}");
        }
    }

    #[test]
    fn units_are_told_by_their_ending() {
        assert!(is_unit("nginx.service") && is_unit("session-3.scope") && is_unit("user.slice"));
        assert!(!is_unit("nginx") && !is_unit(".service") && !is_unit("docker") && !is_unit("a.timer"));
    }

    proptest! {
        #[test]
        fn no_name_is_a_panic(name in "\\PC{0,80}", id in "[0-9a-f]{60,70}") {
            let _ = container_id(&name);
            let both = format!("{name}{id}");
            if let Some(found) = container_id(&both) {
                prop_assert!(both.ends_with(found));
            }
        }
    }
}
