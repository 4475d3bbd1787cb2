//! The promises of `file.rs`, on a real file system.

use super::{Standing, check_several, expand_all, owner, replace, standing, write};
use crate::model::encoded::{About, Encoded};
use crate::model::kind::Kind;
use crate::model::process::Pid;
use crate::sink::SinkError;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A folder of its own, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("profiler-sink-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn about(pid: u32, comm: &str) -> About {
    About { kind: Kind::Cpu, process: Some((Pid(pid), comm.into())), start: SystemTime::UNIX_EPOCH, duration: Duration::ZERO }
}

fn encoded(bytes: &[u8]) -> Encoded {
    Encoded { bytes: bytes.to_vec(), media_type: "text/plain", about: about(1, "x") }
}

fn check(pattern: &Path) -> Result<(), SinkError> {
    super::check(pattern, &About { process: None, ..about(1, "x") })
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
}

#[test]
fn the_file_is_whole_private_and_alone() {
    let folder = Folder::new("whole");
    fs::write(folder.at("cpu.prof"), b"old").unwrap();
    write(&encoded(b"new"), &folder.at("cpu.prof")).unwrap();
    assert_eq!(fs::read(folder.at("cpu.prof")).unwrap(), b"new");
    assert_eq!(fs::metadata(folder.at("cpu.prof")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(folder.names(), ["cpu.prof"]);
}

#[test]
fn a_failure_leaves_the_old_file_and_no_temporary_one() {
    let folder = Folder::new("failure");
    fs::create_dir(folder.at("taken")).unwrap();
    // The rename onto a folder fails last, after everything else was done.
    let failed = replace(b"new", &folder.at("taken"), None);
    assert!(matches!(failed, Err(SinkError::Io { doing: "naming the new file", .. })), "{failed:?}");
    assert_eq!(folder.names(), ["taken"]);
    assert!(folder.at("taken").is_dir());
}

#[test]
fn a_full_file_system_leaves_the_old_file() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has to give it");
        eprintln!("SKIP a_full_file_system_leaves_the_old_file: mounting needs root");
        return;
    }
    let folder = Folder::new("full");
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&folder.0).status();
    if !mounted.is_ok_and(|status| status.success()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has to give it");
        eprintln!("SKIP a_full_file_system_leaves_the_old_file: no tmpfs could be mounted");
        return;
    }
    fs::write(folder.at("cpu.prof"), b"old").unwrap();
    let failed = write(&encoded(&[1; 200_000]), &folder.at("cpu.prof"));
    let (old, names) = (fs::read(folder.at("cpu.prof")), folder.names());
    assert!(std::process::Command::new("umount").arg(&folder.0).status().unwrap().success());
    let message = failed.unwrap_err().to_string();
    assert!(message.contains("free some space"), "{message}");
    assert_eq!(old.unwrap(), b"old");
    assert_eq!(names, ["cpu.prof"]);
}

#[test]
fn a_planted_link_is_replaced_and_its_target_untouched() {
    let folder = Folder::new("link");
    fs::write(folder.at("precious"), b"precious").unwrap();
    symlink(folder.at("precious"), folder.at("cpu.prof")).unwrap();
    write(&encoded(b"new"), &folder.at("cpu.prof")).unwrap();
    assert_eq!(fs::read(folder.at("precious")).unwrap(), b"precious");
    assert!(fs::symlink_metadata(folder.at("cpu.prof")).unwrap().is_file());
}

#[test]
fn who_called_sudo_owns_the_file() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has to give it");
        eprintln!("SKIP who_called_sudo_owns_the_file: chown needs root");
        return;
    }
    let folder = Folder::new("sudo");
    replace(b"x", &folder.at("f"), owner(Some(OsStr::new("1234")), Some(OsStr::new("4321")))).unwrap();
    let metadata = fs::metadata(folder.at("f")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (1234, 4321));
}

#[test]
fn half_an_owner_is_none() {
    assert!(owner(Some(OsStr::new("1")), None).is_none());
    assert!(owner(Some(OsStr::new("-1")), Some(OsStr::new("1"))).is_none());
    assert!(owner(Some(OsStr::new("4294967295")), Some(OsStr::new("1"))).is_none());
    assert!(owner(Some(OsStr::new("1")), Some(OsStr::new("1"))).is_some());
}

#[test]
fn a_fifo_is_written_into() {
    let folder = Folder::new("fifo");
    let path = folder.at("pipe");
    fifo(&path);
    check(&path).unwrap();
    let reader = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut read = Vec::new();
            fs::File::open(path).unwrap().read_to_end(&mut read).unwrap();
            read
        }
    });
    write(&encoded(b"through"), &path).unwrap();
    assert_eq!(reader.join().unwrap(), b"through");
    assert_eq!(folder.names(), ["pipe"]);
}

#[test]
fn a_fifo_that_another_user_planted_is_refused() {
    let folder = Folder::new("planted");
    fifo(&folder.at("pipe"));
    if std::os::unix::fs::chown(folder.at("pipe"), Some(54_321), None).is_err() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has to give it");
        eprintln!("SKIP a_fifo_that_another_user_planted_is_refused: chown needs root");
        return;
    }
    assert!(matches!(check(&folder.at("pipe")), Err(SinkError::ForeignOwner { owner: 54_321, .. })));
    assert!(matches!(write(&encoded(b"x"), &folder.at("pipe")), Err(SinkError::ForeignOwner { .. })));
}

#[test]
fn devices_and_descriptors_are_written_into_and_never_replaced() {
    for path in ["/dev/stdout", "/dev/null", "/proc/self/fd/1"] {
        assert_eq!(standing(Path::new(path)).unwrap(), Standing::WrittenInto, "{path}");
    }
    check(Path::new("/dev/null")).unwrap();
    write(&encoded(b"gone"), Path::new("/dev/null")).unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    let full = write(&encoded(b"x"), Path::new("/dev/full")).unwrap_err().to_string();
    assert!(full.starts_with("writing to /dev/full: No space left"), "{full}");
}

#[test]
fn a_path_that_leaves_the_devices_again_is_a_file() {
    let folder = Folder::new("leaves");
    fs::write(folder.at("f"), b"longer than the new one").unwrap();
    let path = Path::new("/dev/..").join(folder.at("f").strip_prefix("/").unwrap());
    write(&encoded(b"new"), &path).unwrap();
    assert_eq!(fs::read(folder.at("f")).unwrap(), b"new");
}

#[test]
fn what_a_descriptor_already_holds_stays() {
    let folder = Folder::new("descriptor");
    fs::write(folder.at("f"), b"old,").unwrap();
    let open = fs::OpenOptions::new().append(true).open(folder.at("f")).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
    write(&encoded(b"new"), Path::new(&path)).unwrap();
    assert_eq!(fs::read(folder.at("f")).unwrap(), b"old,new");
}

#[test]
fn what_would_fail_at_the_end_fails_at_the_start() {
    let folder = Folder::new("check");
    check(Path::new("-")).unwrap();
    check(Path::new("{kind}.prof")).unwrap();
    check(&folder.at("{pid}-{comm}.prof")).unwrap();
    assert!(matches!(check(&folder.0), Err(SinkError::IsDirectory(_))));
    let missing = check(&folder.at("missing/cpu.prof")).unwrap_err().to_string();
    assert!(missing.contains("create the folder first"), "{missing}");
    fs::write(folder.at("file"), b"").unwrap();
    let not_a_folder = check(&folder.at("file/cpu.prof")).unwrap_err().to_string();
    assert!(not_a_folder.contains("not a folder"), "{not_a_folder}");
    assert!(matches!(check(Path::new("{x}.prof")), Err(SinkError::UnknownPlaceholder { .. })));
    assert_eq!(folder.names(), ["file"]);
}

#[test]
fn a_folder_in_the_way_of_the_default_name_is_seen_at_the_start() {
    let folder = Folder::new("in_the_way");
    fs::create_dir(folder.at("cpu.prof")).unwrap();
    assert!(matches!(check(&folder.at("{kind}.prof")), Err(SinkError::IsDirectory(path)) if path == folder.at("cpu.prof")));
    check(&folder.at("{kind}.txt")).unwrap();
    assert_eq!(folder.names(), ["cpu.prof"]);
}

#[test]
fn a_folder_in_which_nobody_can_make_a_file_is_seen_at_the_start() {
    let refused = check(Path::new("/proc/x")).unwrap_err();
    assert!(matches!(refused, SinkError::TakesNoFiles(_)) || !rustix::process::geteuid().is_root(), "{refused}");
    assert!(check(Path::new("/proc/self/{kind}.prof")).is_err());
}

#[test]
fn two_profiles_never_share_a_name() {
    let abouts = [about(1, "a/b"), about(2, "a_b")];
    assert_eq!(expand_all(Path::new("{comm}.prof"), &abouts).unwrap(), [Path::new("a_b.prof"), Path::new("a_b-2.prof")]);
    assert_eq!(expand_all(Path::new("{pid}.prof"), &abouts).unwrap(), [Path::new("1.prof"), Path::new("2.prof")]);
    for one in ["-", "cpu.prof"] {
        assert!(matches!(check_several(Path::new(one)), Err(SinkError::OneName(_))), "{one}");
    }
    check_several(Path::new("{pid}")).unwrap();
}
