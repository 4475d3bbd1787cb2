//! Perf maps: `/tmp/perf-PID.map`, in which a JIT compiler names its code. Anyone may write to `/tmp`, so a map counts only if the process whose code
//! it names, or root, has written it.

use super::look::{OpenError, OpenedFile, look_inside, root_of};
use crate::model::process::{Pid, ProcessKey};
use rustix::fs::ResolveFlags;

/// What `/proc/PID/status` says of the process that a perf map belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Owner {
    /// Its pid in its own, innermost pid namespace: that is what it knows and writes into the name.
    inner_pid: u32,
    /// Uid that it makes files with, as we see it. Not the real one: whoever starts a setuid program must not name its code.
    file_uid: u32,
}

/// Nanoseconds of a tick in `/proc/PID/stat`: USER_HZ is 100 wherever Linux runs on x86-64 and arm64.
const TICK_NS: u64 = 10_000_000;

/// Opens the perf map of a process, if there is one that may be believed.
pub(super) fn open(process: ProcessKey, memory: Option<(u32, u32)>) -> Result<OpenedFile, OpenError> {
    let pid = Pid(process.tgid);
    let root = root_of(Some(pid))?;
    let owner =
        std::fs::read_to_string(format!("/proc/{}/status", pid.0)).ok().and_then(|status| owner(&status)).ok_or(OpenError::Other)?;
    let path = format!("tmp/perf-{}.map", owner.inner_pid);
    let seen = look_inside(std::os::fd::AsFd::as_fd(&root), path.as_bytes(), ResolveFlags::NO_SYMLINKS)?;
    // A hard link may lead to a file that its owner never meant to be a perf map.
    if seen.stat.stx_nlink != 1 || !(seen.stat.stx_uid == owner.file_uid || seen.stat.stx_uid == 0) {
        return Err(OpenError::Refused("the perf map is not its process's own"));
    }
    let opened = seen.open(pid, memory)?;
    // All of this was of the pid. If the process has ended meanwhile, that may be another's by now.
    if process.start_boot_ns != 0 && started_at_tick(pid) != Some(process.start_boot_ns / TICK_NS) {
        return Err(OpenError::Other);
    }
    Ok(opened)
}

fn owner(status: &str) -> Option<Owner> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let inner_pid = field("NSpid:")?.split_ascii_whitespace().next_back()?.parse().ok()?;
    // Real, effective, saved, file system.
    let file_uid = field("Uid:")?.split_ascii_whitespace().nth(3)?.parse().ok()?;
    Some(Owner { inner_pid, file_uid })
}

/// When the process started, in ticks since boot: field 22 of `/proc/PID/stat`, counted behind the name, which may hold anything.
fn started_at_tick(pid: Pid) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{}/stat", pid.0)).ok()?;
    let behind = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(&stat[behind + 1..]).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_pid_and_the_uid_of_files_count() {
        let status = "Name:\tx\nUid:\t1000\t0\t0\t7\nNSpid:\t4711\t12\t3\n";
        assert_eq!(owner(status), Some(Owner { inner_pid: 3, file_uid: 7 }));
        assert_eq!(owner("Uid:\t1\t2\n"), None);
    }

    #[test]
    fn our_own_start_is_known() {
        let uptime = std::fs::read_to_string("/proc/uptime").expect("uptime");
        let seconds: f64 = uptime.split(' ').next().expect("a number").parse().expect("a number");
        let ticks = started_at_tick(Pid(std::process::id())).expect("our start");
        assert!(ticks <= (seconds * 100.0) as u64 && ticks > 0);
    }
}
