//! Processes that are named by their id: that they are there, that they are processes, and who descends from them.

use super::{Inherit, TargetError};
use crate::model::process::Pid;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The inode of the machine's own pid namespace (`PROC_PID_INIT_INO` of include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// What `/proc/PID/status` says.
#[derive(Debug, PartialEq, Eq)]
struct Status {
    comm: String,
    tgid: u32,
    state: u8,
}

/// The named processes and, if children are targets, everybody who descends from them now; sorted, each once.
pub(super) fn resolve(pids: &[u32], inherit: Inherit) -> Result<Vec<Pid>, TargetError> {
    // Where the link cannot be read, there is no /proc, and no process will be found either.
    if std::fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace != Path::new(INITIAL_PID_NAMESPACE)) {
        return Err(TargetError::PidNamespace);
    }
    for pid in pids {
        check(*pid)?;
    }
    let mut all: Vec<u32> = match inherit {
        Inherit::Children => with_descendants(pids, &children_of_all()),
        Inherit::Alone => pids.to_vec(),
    };
    all.sort_unstable();
    all.dedup();
    Ok(all.into_iter().map(Pid).collect())
}

/// Whether it is a process that can run.
fn check(pid: u32) -> Result<(), TargetError> {
    // /proc/TID is there for threads, too, though it is not listed.
    let bytes = std::fs::read(format!("/proc/{pid}/status")).map_err(|_| TargetError::NoProcess { pid })?;
    let Status { comm, tgid, state } = parse_status(&String::from_utf8_lossy(&bytes)).ok_or(TargetError::NoProcess { pid })?;
    match state {
        _ if tgid != pid => Err(TargetError::Thread { tid: pid, pid: tgid, comm }),
        // A leader that has left its threads behind is a zombie as well, and its process runs on.
        b'Z' if has_other_threads(pid) => Ok(()),
        b'Z' | b'X' => Err(TargetError::Zombie { pid, comm }),
        _ => Ok(()),
    }
}

fn has_other_threads(pid: u32) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.flatten().count() > 1)
}

/// `Name`, `Tgid` and `State` of proc_pid_status(5). Names are escaped there: no line of it is a stranger's.
fn parse_status(text: &str) -> Option<Status> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    Some(Status { comm: field("Name")?.to_owned(), tgid: field("Tgid")?.parse().ok()?, state: *field("State")?.as_bytes().first()? })
}

/// Every process's children.
fn children_of_all() -> HashMap<u32, Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return children };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(parent) = parse_parent(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

/// The parent's id: the second field behind the name, which stands in parentheses and may hold some itself (proc_pid_stat(5)).
fn parse_parent(stat: &[u8]) -> Option<u32> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Processes and all that descend from them.
fn with_descendants(pids: &[u32], children: &HashMap<u32, Vec<u32>>) -> Vec<u32> {
    let mut seen: HashSet<u32> = pids.iter().copied().collect();
    let mut pending: Vec<u32> = pids.to_vec();
    while let Some(pid) = pending.pop() {
        // What was read while processes came and went may hold a circle.
        pending.extend(children.get(&pid).into_iter().flatten().copied().filter(|child| seen.insert(*child)));
    }
    seen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_with_parentheses_does_not_hide_the_parent() {
        assert_eq!(parse_parent(b"12 (a) S 99 (b)) R 7 12 12 0 -1"), Some(7));
        assert_eq!(parse_parent(b"12 (a"), None);
        assert_eq!(parse_parent(b"12 (a) R"), None);
    }

    #[test]
    fn status_is_read() {
        let text = "Name:\tsp ace\\nTgid:\nUmask:\t0022\nState:\tZ (zombie)\nTgid:\t41\nNgid:\t0\nPid:\t42\n";
        assert_eq!(parse_status(text), Some(Status { comm: "sp ace\\nTgid:".to_owned(), tgid: 41, state: b'Z' }));
        assert_eq!(parse_status("Name:\tx\n"), None);
    }

    #[test]
    fn descendants_are_found_and_circles_end() {
        let children = HashMap::from([(1, vec![2, 3]), (2, vec![4]), (4, vec![1]), (9, vec![10])]);
        let mut found = with_descendants(&[1], &children);
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3, 4]);
    }

    #[test]
    fn a_process_that_is_not_there_is_refused() {
        let text = resolve(&[0x3fff_ffff], Inherit::Alone).expect_err("beyond pid_max").to_string();
        assert_eq!(text, "no such process: 1073741823");
        assert!(matches!(resolve(&[0], Inherit::Alone), Err(TargetError::NoProcess { pid: 0 })));
    }

    #[test]
    fn a_thread_is_refused_with_the_name_of_its_process() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_pid().cast_unsigned()).expect("the test waits");
            let _ = ended.recv();
        });
        let tid = told.recv().expect("the thread tells");
        let own = std::process::id();
        assert!(matches!(resolve(&[tid], Inherit::Alone), Err(TargetError::Thread { pid, .. }) if pid == own));
        drop(end);
        thread.join().expect("it ends");
    }

    #[test]
    fn a_zombie_is_refused_and_a_child_is_followed() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep is everywhere");
        let own = std::process::id();
        let followed = resolve(&[own], Inherit::Children).expect("we are there");
        assert!(followed.contains(&Pid(own)) && followed.contains(&Pid(child.id())));
        assert_eq!(resolve(&[own, own], Inherit::Alone).expect("we are there"), [Pid(own)]);
        child.kill().expect("it runs");
        let zombie = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).is_ok_and(|stat| stat.contains(") Z "));
        while !zombie() {
            std::thread::yield_now();
        }
        assert!(matches!(resolve(&[child.id()], Inherit::Children), Err(TargetError::Zombie { .. })));
        child.wait().expect("it is ours");
    }
}
