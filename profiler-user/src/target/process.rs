//! Processes: whether one is there, and which ones it has started.

use super::TargetError;
use crate::model::process::Pid;
use std::collections::HashMap;
use std::path::Path;

/// The inode of the machine's own pid namespace (`PROC_PID_INIT_INO` of include/linux/proc_ns.h).
const INITIAL_NAMESPACE: &str = "pid:[4026531836]";

/// Checks that ids mean here what they mean to the kernel: in a pid namespace of its own `/proc` shows other ids than samples carry, and no process could
/// be told from another.
pub(super) fn check_namespace() -> Result<(), TargetError> {
    // Where the link cannot be read there is no /proc, and no process will be found either.
    match std::fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace != Path::new(INITIAL_NAMESPACE)) {
        true => Err(TargetError::PidNamespace),
        false => Ok(()),
    }
}

/// Checks that an id is a living process's.
pub(super) fn check(pid: u32) -> Result<Pid, TargetError> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(|_| TargetError::NoProcess { pid })?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match field("Tgid:").and_then(|tgid| tgid.parse::<u32>().ok()) {
        Some(tgid) if tgid != pid => return Err(TargetError::Thread { tid: pid, pid: tgid }),
        _ => {}
    }
    // A leader that has left its threads behind is a zombie as well, and its process runs on.
    if field("State:").is_some_and(|state| state.starts_with(['Z', 'X'])) && !has_other_threads(pid) {
        return Err(TargetError::Zombie { pid });
    }
    Ok(Pid(pid))
}

fn has_other_threads(pid: u32) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.flatten().count() > 1)
}

/// The processes that descend from one, by the parents that `/proc` shows now.
pub(super) fn descendants(root: u32) -> Vec<Pid> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![root]);
    while let Some(pid) = next.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(Pid(child));
            next.push(child);
        }
    }
    found
}

/// The parent of a process: the second field behind the name, which may itself hold blanks and brackets.
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let behind = stat.iter().rposition(|byte| *byte == b')')? + 1;
    std::str::from_utf8(&stat[behind..]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_thread_and_from_nothing() {
        let pid = std::process::id();
        assert_eq!(check(pid).expect("we live"), Pid(pid));
        assert!(matches!(check(u32::MAX), Err(TargetError::NoProcess { .. })));
        let (send, receive) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            send.send(rustix::thread::gettid().as_raw_nonzero().get() as u32).expect("received");
            let _ = wait.recv();
        });
        let tid = receive.recv().expect("sent");
        assert!(matches!(check(tid), Err(TargetError::Thread { pid: of, .. }) if of == pid));
        drop(done);
        thread.join().expect("ends");
    }

    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("starts");
        assert!(descendants(std::process::id()).contains(&Pid(child.id())));
        child.kill().expect("ours");
        let pid = child.id();
        while !std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z ")) {
            std::thread::yield_now();
        }
        assert!(matches!(check(pid), Err(TargetError::Zombie { pid: of }) if of == pid));
        child.wait().expect("ours");
    }
}
