//! What an enemy can put in the way of opening a mapping's file. Most of it needs root: for other processes' links, owners and mount namespaces.

use super::look::{OpenError, look_inside, look_through};
use super::perf_map;
use super::store::ObjectStore;
use crate::model::mapping::{InodeId, MappedRange, MappingKind, ObjectId};
use crate::model::process::{Pid, ProcessKey};
use rustix::fs::{CWD, FileType, Mode, ResolveFlags};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Says loudly that a test did not run. Where tests must run, that is a failure.
fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} needs root, and CI has to give it");
        eprintln!("SKIP: {test} needs root");
    }
    root
}

/// A folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("object-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that sleeps until the test is over.
struct Sleeper(Child);

impl Sleeper {
    /// Starts it, and waits until it has executed the program of that name.
    fn start(command: &mut Command, name: &str) -> Self {
        let sleeper = Self(command.spawn().expect("it starts"));
        let began = Instant::now();
        while sleeper.range(name).is_none() {
            assert!(began.elapsed() < Duration::from_secs(20), "{name} does not run");
            std::thread::sleep(Duration::from_millis(5));
        }
        sleeper
    }

    fn pid(&self) -> Pid {
        Pid(self.0.id())
    }

    /// The code of a file it has mapped.
    fn range(&self, name: &str) -> Option<MappedRange> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.0.id())).ok()?;
        let line = maps.lines().find(|line| line.contains(" r-xp ") && line.contains(name))?;
        let words: Vec<&str> = line.splitn(6, ' ').collect();
        let hex = |text: &str| u64::from_str_radix(text, 16).expect("hex");
        let ((start, end), (major, minor)) = (words[0].split_once('-')?, words[3].split_once(':')?);
        let (inode, path) =
            words[4..].join(" ").split_once(' ').map(|(inode, path)| (inode.parse().expect("inode"), path.trim().to_owned()))?;
        let file = InodeId { major: hex(major) as u32, minor: hex(minor) as u32, inode };
        Some(MappedRange { start: hex(start), end: hex(end), file_offset: hex(words[2]), file, generation: None, path: path.into_bytes() })
    }

    fn key(&self) -> ProcessKey {
        ProcessKey { start_boot_ns: 0, tgid: self.0.id(), exec_generation: 0 }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn copy_of_sleep(to: &Path) {
    std::fs::copy("/usr/bin/sleep", to).expect("a copy of sleep");
}

fn opened(kind: &MappingKind) -> Option<ObjectId> {
    if let MappingKind::Object(id) = kind { Some(*id) } else { None }
}

/// A range that claims to be of the file at a path; no process has it.
fn claim(path: &Path) -> MappedRange {
    let stat = rustix::fs::lstat(path).expect("the file");
    let file = InodeId { major: rustix::fs::major(stat.st_dev), minor: rustix::fs::minor(stat.st_dev), inode: stat.st_ino };
    MappedRange { start: 0x1000, end: 0x2000, file_offset: 0, file, generation: None, path: path.as_os_str().as_bytes().to_vec() }
}

#[test]
fn a_removed_and_replaced_program_is_still_the_one_that_runs() {
    if !is_root("a_removed_and_replaced_program_is_still_the_one_that_runs") {
        return;
    }
    let folder = Folder::new("deleted");
    let program = folder.0.join("victim");
    copy_of_sleep(&program);
    let sleeper = Sleeper::start(Command::new(&program).arg("100"), "/victim");
    let inode = sleeper.range("/victim").expect("mapped").file.inode;
    std::fs::remove_file(&program).expect("removed");
    std::fs::write(&program, "another").expect("replaced");
    let range = sleeper.range("/victim").expect("mapped");
    assert!(range.path.ends_with(b" (deleted)"));
    let mut store = ObjectStore::new();
    let id = opened(&store.resolve(sleeper.pid(), &range)).expect("its link leads to it");
    assert_eq!((id.inode, id.size), (inode, std::fs::metadata("/usr/bin/sleep").expect("sleep").len()));
    assert!(store.file(id).is_some());
    // Without the process only the path is left, and what is there is another file.
    let pid = sleeper.pid();
    drop(sleeper);
    assert_eq!(ObjectStore::new().resolve(pid, &range), MappingKind::Unopened(range.file));
    assert_eq!(opened(&store.resolve(pid, &range)), Some(id), "what is held, is held");
}

#[test]
fn a_file_that_has_the_number_of_another_one_is_not_taken_for_it() {
    let folder = Folder::new("generation");
    let program = folder.0.join("victim");
    copy_of_sleep(&program);
    let file = std::fs::File::open(&program).expect("it is there");
    let Some(own) = crate::sys::file_version::generation(file.as_fd()) else {
        assert!(std::env::var("CI").is_err(), "the file system says no generations");
        return eprintln!("SKIP a_file_that_has_the_number_of_another_one: its file system says no generations");
    };
    let range = |generation| MappedRange { generation: Some(generation), ..claim(&program) };
    let no_process = Pid(u32::MAX - 1);
    assert!(opened(&ObjectStore::new().resolve(no_process, &range(own))).is_some());
    assert!(opened(&ObjectStore::new().resolve(no_process, &range(own.wrapping_add(1)))).is_none());
    assert!(
        opened(&ObjectStore::new().resolve(no_process, &claim(&program))).is_some(),
        "where the kernel has not told it, the number is all there is"
    );
}

#[test]
fn a_program_of_another_mount_namespace_is_opened_through_its_process() {
    if !is_root("a_program_of_another_mount_namespace_is_opened_through_its_process") {
        return;
    }
    let folder = Folder::new("namespace");
    let script = "mount -t tmpfs none \"$0\" && cp /usr/bin/sleep \"$0/hidden\" && exec \"$0/hidden\" 100";
    let sleeper = Sleeper::start(Command::new("unshare").args(["-m", "sh", "-c", script]).arg(&folder.0), "/hidden");
    let range = sleeper.range("/hidden").expect("mapped");
    assert!(!folder.0.join("hidden").exists(), "it is there in its own namespace only");
    let by_link = opened(&ObjectStore::new().resolve(sleeper.pid(), &range));
    // A range that it does not have any more: the path inside its root is left.
    let moved = MappedRange { start: 0x1000, end: 0x2000, ..range.clone() };
    let by_path = opened(&ObjectStore::new().resolve(sleeper.pid(), &moved));
    assert_eq!(by_link.expect("by its link").inode, range.file.inode);
    assert_eq!(by_link, by_path);
    assert_eq!(ObjectStore::new().resolve(Pid(std::process::id()), &moved), MappingKind::Unopened(range.file), "not in our own root");
}

#[test]
fn what_is_no_regular_file_is_refused_without_being_opened() {
    if !is_root("what_is_no_regular_file_is_refused_without_being_opened") {
        return;
    }
    let folder = Folder::new("kinds");
    let (mut store, pid, began) = (ObjectStore::new(), Pid(std::process::id()), Instant::now());
    let (fifo, device) = (folder.0.join("fifo"), folder.0.join("device"));
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
    // The console's driver would answer an open.
    rustix::fs::mknodat(CWD, &device, FileType::CharacterDevice, Mode::RWXU, rustix::fs::makedev(5, 1)).expect("a device");
    for path in [&fifo, &device, &folder.0] {
        let range = claim(path);
        assert_eq!(store.resolve(pid, &range), MappingKind::Unopened(range.file));
        assert!(store.was_refused(range.file), "{}", path.display());
    }
    let link = folder.0.join("link");
    std::os::unix::fs::symlink(&fifo, &link).expect("a link");
    let range = MappedRange { path: link.as_os_str().as_bytes().to_vec(), ..claim(&fifo) };
    assert_eq!(ObjectStore::new().resolve(pid, &range), MappingKind::Unopened(range.file));
    assert!(began.elapsed() < Duration::from_secs(5), "nothing waits");
}

#[test]
fn links_and_dots_do_not_lead_out_of_a_root() {
    let folder = Folder::new("escape");
    std::os::unix::fs::symlink("/etc/passwd", folder.0.join("absolute")).expect("a link");
    std::os::unix::fs::symlink("../../../../../../etc/passwd", folder.0.join("dots")).expect("a link");
    std::os::unix::fs::symlink("/proc/self/root/etc/passwd", folder.0.join("magic")).expect("a link");
    std::fs::create_dir(folder.0.join("etc")).expect("a folder");
    let root = std::fs::File::open(&folder.0).expect("the folder");
    std::fs::metadata("/etc/passwd").expect("it is there, and in the kernel's cache");
    let inside = |path: &[u8]| look_inside(root.as_fd(), path, ResolveFlags::empty()).map(|seen| seen.stat.stx_ino);
    for path in [&b"/absolute"[..], b"/dots", b"/magic", b"/../../../../../etc/passwd"] {
        assert!(matches!(inside(path), Err(OpenError::Gone(_))), "{}", String::from_utf8_lossy(path));
    }
    std::fs::write(folder.0.join("etc/passwd"), "mine").expect("a file");
    use std::os::unix::fs::MetadataExt as _;
    let own = std::fs::metadata(folder.0.join("etc/passwd")).expect("the file").ino();
    for path in [&b"/absolute"[..], b"/dots", b"/../../../../../etc/passwd"] {
        assert_eq!(inside(path).expect("inside"), own);
    }
    let ours = std::fs::File::open("/proc").expect("proc");
    let magic = look_inside(ours.as_fd(), format!("{}/exe", std::process::id()).as_bytes(), ResolveFlags::empty());
    assert!(matches!(magic, Err(OpenError::Gone(_))), "a magic link is not followed");
}

#[test]
fn a_lease_makes_us_fail_and_not_wait() {
    if !is_root("a_lease_makes_us_fail_and_not_wait") {
        return;
    }
    let folder = Folder::new("lease");
    let path = folder.0.join("leased");
    std::fs::write(&path, "x").expect("a file");
    let script = "import fcntl,sys,time,signal\nsignal.signal(signal.SIGIO, signal.SIG_IGN)\nf=open(sys.argv[1],'r+b')\nfcntl.fcntl(f,fcntl.F_SETLEASE,fcntl.F_WRLCK)\nopen(sys.argv[1]+'.ready','w')\ntime.sleep(60)";
    let Ok(child) = Command::new("python3").args(["-c", script]).arg(&path).spawn() else {
        return eprintln!("SKIP: a_lease_makes_us_fail_and_not_wait needs python3");
    };
    let (_holder, began) = (Sleeper(child), Instant::now());
    while !folder.0.join("leased.ready").exists() {
        assert!(began.elapsed() < Duration::from_secs(20), "no lease was taken");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (range, began) = (claim(&path), Instant::now());
    assert_eq!(ObjectStore::new().resolve(Pid(std::process::id()), &range), MappingKind::Unopened(range.file));
    assert!(began.elapsed() < Duration::from_secs(5), "a lease may hold who waits for 45 seconds");
}

/// A perf map of a process that runs as nobody, planted in some way: whether it is believed.
fn planted(plant: impl Fn(&Path, &Folder)) -> bool {
    const NOBODY: u32 = 65_534;
    let folder = Folder::new(&format!("planted-{:?}", std::thread::current().id()));
    let sleeper = Sleeper::start(Command::new("/usr/bin/sleep").arg("100").uid(NOBODY), "/sleep");
    let path = PathBuf::from(format!("/tmp/perf-{}.map", sleeper.0.id()));
    plant(&path, &folder);
    let mut store = ObjectStore::new();
    store.keep_perf_map(sleeper.key());
    let kept = store.perf_map(sleeper.key()).is_some();
    assert_eq!(perf_map::open(sleeper.key(), None).is_ok(), kept);
    // Nor is it believed to be that of another process that had the same pid.
    assert!(perf_map::open(ProcessKey { start_boot_ns: 1, ..sleeper.key() }, None).is_err());
    std::fs::remove_file(&path).expect("removed");
    kept
}

fn write_as(path: &Path, owner: u32) {
    std::fs::write(path, "1000 10 f\n").expect("a file");
    std::os::unix::fs::chown(path, Some(owner), None).expect("its owner");
}

#[test]
fn only_its_own_process_or_root_writes_a_perf_map() {
    if !is_root("only_its_own_process_or_root_writes_a_perf_map") {
        return;
    }
    assert!(planted(|path, _| write_as(path, 65_534)));
    assert!(planted(|path, _| write_as(path, 0)));
    assert!(!planted(|path, _| write_as(path, 1_234)), "another user's");
    assert!(!planted(|path, folder| {
        write_as(&folder.0.join("target"), 65_534);
        std::os::unix::fs::symlink(folder.0.join("target"), path).expect("a link");
    }));
    assert!(!planted(|path, folder| {
        write_as(path, 65_534);
        std::fs::hard_link(path, folder.0.join("another name")).expect("a link");
    }));
    assert!(!planted(|path, _| {
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
        std::os::unix::fs::chown(path, Some(65_534), None).expect("its owner");
    }));
}

#[test]
fn the_link_of_a_range_leads_nowhere_once_it_is_unmapped() {
    assert!(look_through(&format!("/proc/{}/map_files/1000-2000", std::process::id())).is_err());
}
