//! Held commands, with real processes.

use super::{RunningChild, SpawnError, spawn_held};
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn run(program: &str, args: &[&str]) -> Result<RunningChild, SpawnError> {
    spawn_held(OsStr::new(program), &words(args))?.release()
}

/// A new folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("profiler-spawn-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the folder for temporary files is writable");
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8], mode: u32) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("it is our folder");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is our file");
        path.to_str().expect("a plain path").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_exit_status_is_the_command_s_own() {
    assert_eq!(run("true", &[]).and_then(RunningChild::wait).expect("true runs"), 0);
    assert_eq!(run("sh", &["-c", "exit 7"]).and_then(RunningChild::wait).expect("sh runs"), 7);
    assert_eq!(run("/bin/sh", &["-c", "kill -USR1 $$"]).and_then(RunningChild::wait).expect("sh runs"), 128 + libc::SIGUSR1);
}

#[test]
fn nothing_runs_before_it_is_let_go() {
    let folder = Folder::new("held");
    let mark = folder.0.join("mark");
    let child = spawn_held(OsStr::new("touch"), &[mark.clone().into_os_string()]).expect("touch is everywhere");
    let pid = child.pid();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!mark.exists());
    let running = child.release().expect("touch runs");
    assert_eq!(running.pid(), pid);
    assert_eq!(running.wait().expect("it ends"), 0);
    assert!(mark.exists());
}

#[test]
fn a_child_that_is_never_let_go_leaves_nothing() {
    let folder = Folder::new("dropped");
    let mark = folder.0.join("mark");
    let child = spawn_held(OsStr::new("touch"), &[mark.clone().into_os_string()]).expect("touch is everywhere");
    let proc_folder = PathBuf::from(format!("/proc/{}", child.pid()));
    assert!(proc_folder.exists());
    drop(child);
    assert!(!proc_folder.exists(), "it was waited for");
    assert!(!mark.exists());
}

#[test]
fn what_is_not_there_is_said_at_once() {
    for program in ["no-such-program-here", "/no/such/program"] {
        let error = spawn_held(OsStr::new(program), &[]).expect_err("it is not there");
        assert!(matches!(error, SpawnError::NotFound { .. }), "{error}");
    }
    assert!(matches!(spawn_held(OsStr::new(""), &[]), Err(SpawnError::NotFound { .. })));
    assert!(matches!(spawn_held(OsStr::new("true"), &words(&["a\0b"])), Err(SpawnError::Empty)));
}

#[test]
fn what_the_kernel_does_not_run_is_said_when_it_is_let_go() {
    let folder = Folder::new("refused");
    let plain = folder.file("plain", b"hello\n", 0o644);
    let shapeless = folder.file("shapeless", b"\x7fELF, but no more\n", 0o644);
    let lost = folder.file("lost", b"#!/no/such/interpreter\n", 0o755);
    assert!(matches!(run(&plain, &[]), Err(SpawnError::NotExecutable { .. })));
    assert!(matches!(run(&shapeless, &[]), Err(SpawnError::NotExecutable { .. })));
    let missing = run(&lost, &[]).expect_err("there is no such interpreter");
    assert!(matches!(&missing, SpawnError::NoInterpreter { interpreter: Some(name), .. } if name == "/no/such/interpreter"), "{missing}");
    assert!(matches!(run(folder.0.to_str().expect("plain"), &[]), Err(SpawnError::NotExecutable { .. })));
}

#[test]
fn the_command_finds_no_descriptor_and_no_signal_setting_of_ours() {
    let folder = Folder::new("clean");
    let out = folder.0.join("out");
    // Ours, and open while the child is made: it closes on exec, as all descriptors of Rust do.
    let _ours = std::fs::File::open("/proc/self/maps").expect("/proc is mounted");
    let script = format!("exec cat /proc/self/status > {}", out.display());
    assert_eq!(run("sh", &["-c", &script]).and_then(RunningChild::wait).expect("sh runs"), 0);
    let status = std::fs::read_to_string(&out).expect("it was written");
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("status has it");
        u64::from_str_radix(line.trim(), 16).expect("a mask")
    };
    assert_eq!(mask("SigBlk:"), 0);
    assert_eq!(mask("SigIgn:") & (1 << (libc::SIGPIPE - 1)), 0, "Rust's runtime ignores SIGPIPE, the command must not");
    let script = format!("for f in /proc/$$/fd/*; do readlink $f; done > {}; true", out.display());
    assert_eq!(run("sh", &["-c", &script]).and_then(RunningChild::wait).expect("sh runs"), 0);
    assert!(!std::fs::read_to_string(&out).expect("it was written").contains("/maps"));
}

#[test]
fn its_end_can_be_watched_and_signals_reach_it() {
    let child = run("sleep", &["60"]).expect("sleep is everywhere");
    let readable = |timeout: Duration| {
        let descriptor = child.as_fd();
        let mut watched = [rustix::event::PollFd::new(&descriptor, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec::try_from(timeout).expect("a short time");
        rustix::event::poll(&mut watched, Some(&timeout)).expect("poll works") > 0
    };
    assert!(!readable(Duration::from_millis(20)));
    child.signal(1000);
    child.signal(libc::SIGTERM);
    assert!(readable(Duration::from_secs(10)));
    assert_eq!(child.wait().expect("it has ended"), 128 + libc::SIGTERM);
}

#[test]
fn a_held_child_that_is_killed_tells_so_in_the_end() {
    let child = spawn_held(OsStr::new("sleep"), &words(&["60"])).expect("sleep is everywhere");
    let pid = rustix::process::Pid::from_raw(child.pid().cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours");
    let started = Instant::now();
    assert_eq!(child.release().and_then(RunningChild::wait).expect("it has ended"), 128 + libc::SIGKILL);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn standard_output_is_inherited() {
    // Our own standard output may be anything: a shell in between has a pipe for it.
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let script = "exec 1>&\"$1\"; echo heard";
    let number = std::os::fd::AsRawFd::as_raw_fd(&writer).to_string();
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).expect("it is ours");
    let child = run("bash", &["-c", script, "x", &number]).expect("bash is there");
    drop(writer);
    assert_eq!(child.wait().expect("it ends"), 0);
    let mut text = [0; 6];
    reader.read_exact(&mut text).expect("it was written");
    assert_eq!(&text, b"heard\n");
}

#[test]
fn many_at_once_do_not_hold_each_other() {
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..10 {
                    let held = spawn_held(OsStr::new("sleep"), &words(&["60"])).expect("sleep is everywhere");
                    // While one is held, another one begins and ends.
                    assert_eq!(run("true", &[]).and_then(RunningChild::wait).expect("true runs"), 0);
                    drop(held);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no thread fails");
    }
}

#[test]
fn who_would_let_a_command_go_on_is_gone_with_us_and_has_nothing_of_ours() {
    let held = spawn_held(OsStr::new("sleep"), &words(&["60"])).expect("sleep is everywhere");
    let successor = held.successor().expect("there is room for a process");
    let folder = PathBuf::from(format!("/proc/{}", successor.pid));
    let deadline = Instant::now() + Duration::from_secs(60);
    let open = || std::fs::read_dir(folder.join("fd")).expect("it is there").count();
    let in_a_group_of_its_own = || {
        rustix::process::getpgid(rustix::process::Pid::from_raw(successor.pid))
            .is_ok_and(|group| group.as_raw_nonzero().get() == successor.pid)
    };
    while !in_a_group_of_its_own() {
        assert!(Instant::now() < deadline, "it has not begun");
    }
    assert_eq!(open(), 2);
    // What a terminal sends is not for it.
    rustix::process::kill_process(rustix::process::Pid::from_raw(successor.pid).expect("a pid"), rustix::process::Signal::INT)
        .expect("ours");
    let children = std::fs::read_to_string(folder.join(format!("task/{}/children", successor.pid))).expect("it is there");
    let member = PathBuf::from(format!("/proc/{}", children.trim()));
    assert!(member.exists(), "one of it is in our group");
    drop(successor);
    assert!(!folder.exists() && !member.exists(), "both were waited for");
    drop(held);
}
