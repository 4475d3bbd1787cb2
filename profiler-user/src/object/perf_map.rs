//! `/tmp/perf-PID.map`: names of code that a JIT compiler made, written by the process itself, in a folder where anybody may write.
//!
//! So it must be a regular file with one name, reached without any link, inside the process's own root, and owned by the process's user or by root.

use super::open::{Opened, Refused, reopen};
use crate::model::process::Pid;
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, open, openat2};

/// Opens the perf map of a process.
///
/// # Errors
/// There is none, or it is not one to be trusted.
pub(super) fn open_perf_map(pid: Pid) -> Result<Opened, Refused> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.0)).map_err(|_| Refused::Gone)?;
    let (inner_pid, owner) = parse_status(&status).ok_or(Refused::Gone)?;
    let root = open(format!("/proc/{}/root", pid.0), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let path = format!("/tmp/perf-{inner_pid}.map");
    let place = openat2(root, path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), resolve)?;
    let stat = fstat(&place)?;
    // A second name would make any file of the same user readable through this one, and a name for it a secret's content.
    if (stat.st_uid != owner && stat.st_uid != 0) || stat.st_nlink != 1 {
        return Err(Refused::Mismatch);
    }
    reopen(&place, &stat)
}

/// The pid that the process has in its own namespace, and its effective user.
fn parse_status(status: &str) -> Option<(u32, u32)> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let inner_pid = field("NSpid:")?.split_ascii_whitespace().next_back()?.parse().ok()?;
    let owner = field("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((inner_pid, owner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Sleeper(std::process::Child);

    impl Sleeper {
        fn start() -> (Self, PathBuf) {
            let child = std::process::Command::new("sleep").arg("60").spawn().expect("starts");
            let path = PathBuf::from(format!("/tmp/perf-{}.map", child.id()));
            let _ = std::fs::remove_file(&path);
            (Self(child), path)
        }

        fn open(&self) -> Result<Opened, Refused> {
            open_perf_map(Pid(self.0.id()))
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn the_innermost_pid_names_the_map() {
        assert_eq!(parse_status("Name:\tx\nUid:\t5\t1000\t5\t5\nNSpid:\t900\t7\n"), Some((7, 1000)));
        assert_eq!(parse_status("Name:\tx\n"), None);
    }

    #[test]
    fn a_plain_map_is_opened_and_planted_ones_are_not() {
        let (sleeper, path) = Sleeper::start();
        assert_eq!(sleeper.open().err(), Some(Refused::Gone));
        std::fs::write(&path, "1000 10 f\n").expect("written");
        assert!(sleeper.open().is_ok());
        let second = path.with_extension("second");
        std::fs::hard_link(&path, &second).expect("linked");
        assert_eq!(sleeper.open().err(), Some(Refused::Mismatch));
        std::fs::remove_file(&second).expect("removed");
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/etc/shadow", &path).expect("linked");
        assert!(sleeper.open().is_err());
        std::fs::remove_file(&path).expect("removed");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("made");
        assert_eq!(sleeper.open().err(), Some(Refused::NotRegular));
        std::fs::remove_file(&path).expect("removed");
    }
}
