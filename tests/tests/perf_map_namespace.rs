//! The perf map of a process in namespaces of its own: the file in its own `/tmp`, under its own number for itself. What lies under that name, or under ours for
//! it, in the machine's `/tmp` is somebody else's.

use anyhow::{Context, Result, ensure};
use profiler_tests::profile::{Profile, UNNAMED};
use profiler_tests::run::Profiler;
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::fchown;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A user who is neither root nor the process's.
const STRANGER: u32 = 54321;

/// A file that is removed with the value.
struct Planted(PathBuf);

impl Planted {
    /// A perf map of a user; there must be none of that name yet, which would be somebody's.
    fn map(path: PathBuf, text: &str, user: u32) -> Result<Self> {
        let file = File::create_new(&path).with_context(|| format!("making {}", path.display()))?;
        let planted = Self(path);
        fs::write(&planted.0, text)?;
        fchown(&file, Some(user), Some(user))?;
        Ok(planted)
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Code that a process makes itself, in mount and pid namespaces with a `/tmp` of their own.
struct Inside {
    /// `unshare`, whose end takes the process with it.
    _unshare: Subject,
    /// The process, by our number for it.
    pid: u32,
    /// By its own.
    inner_pid: u32,
    /// Where its code lies, and how long it is, as its perf map has it.
    code: String,
}

impl Inside {
    fn start() -> Result<Self> {
        // Some processes first: 1 is a number that every namespace has. The program is handed in open, for the case that it lies below /tmp.
        let script = "for i in 1 2 3 4 5 6 7; do /bin/true; done; mount -t tmpfs none /tmp && cat <&0 >/tmp/jit && chmod +x /tmp/jit && { /tmp/jit & wait; }";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]).current_dir("/");
        command.stdin(File::open(build("jit", Build::C)?)?).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let unshare = Subject::adopt(child);
        let code = lines.next().context("it ended before it said where its code is")??;
        let code = code.strip_prefix("code ").with_context(|| format!("`{code}`"))?.to_owned();
        ensure!(lines.next().context("it ended before it was ready")?? == "ready", "it is not ready");
        let shell = only_child(unshare.pid())?;
        let pid = only_child(shell)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).context("no NSpid")?;
        let inner_pid = numbers.split_ascii_whitespace().next_back().context("no number")?.parse()?;
        ensure!(inner_pid != pid && inner_pid > 1, "it has no number of its own: {numbers}");
        Ok(Self { _unshare: unshare, pid, inner_pid, code })
    }

    /// A line of a perf map for its code.
    fn line(&self, name: &str) -> String {
        format!("{} {name}\n", self.code)
    }

    /// The name of its perf map in its own `/tmp`, seen from here.
    fn own_map(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/tmp/perf-{}.map", self.pid, self.inner_pid))
    }

    /// Perf maps in the machine's `/tmp`, by either of its numbers.
    fn plant_outside(&self, user: u32) -> Result<[Planted; 2]> {
        let plant = |number: u32| Planted::map(format!("/tmp/perf-{number}.map").into(), &self.line("planted_outside"), user);
        Ok([plant(self.pid)?, plant(self.inner_pid)?])
    }

    /// How many of its samples have a name on their stack, and how many there are.
    fn samples_in(&self, name: &str) -> Result<(i64, Profile)> {
        let outcome = Profiler::record()?.pid(self.pid).args(["-F", "199", "-d", "1"]).run()?.success()?;
        let profile = outcome.profile()?.taken();
        ensure!(profile.total(0) > 50, "hardly a sample: {:?}", profile.flat());
        ensure!(!profile.cumulative().contains_key("planted_outside"), "a file outside was believed: {:?}", profile.flat());
        Ok((profile.cumulative().get(name).copied().unwrap_or(0), profile))
    }
}

/// The one child of a process.
fn only_child(pid: u32) -> Result<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let mut children = children.split_ascii_whitespace();
    let child = children.next().with_context(|| format!("{pid} has no child"))?.parse()?;
    ensure!(children.next().is_none(), "{pid} has several children");
    Ok(child)
}

#[test]
fn names_come_from_the_map_in_its_own_tmp_under_its_own_number() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("unshare")]) {
        return Ok(());
    }
    let inside = Inside::start()?;
    fs::write(inside.own_map(), inside.line("from_inside"))?;
    for user in [STRANGER, 0] {
        let _outside = inside.plant_outside(user)?;
        let (named, profile) = inside.samples_in("from_inside")?;
        ensure!(named as f64 > 0.9 * profile.total(0) as f64, "{:?}", profile.flat());
    }
    Ok(())
}

#[test]
fn without_one_nobody_elses_is_taken() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("unshare")]) {
        return Ok(());
    }
    let inside = Inside::start()?;
    for user in [STRANGER, 0] {
        let _outside = inside.plant_outside(user)?;
        let (nameless, profile) = inside.samples_in(UNNAMED)?;
        ensure!(nameless as f64 > 0.9 * profile.total(0) as f64, "{:?}", profile.flat());
    }
    // In the right place, but written by another user than the process's.
    let own = inside.own_map();
    let _stranger = Planted::map(own, &inside.line("planted_inside"), STRANGER)?;
    let (believed, profile) = inside.samples_in("planted_inside")?;
    ensure!(believed == 0, "{:?}", profile.flat());
    Ok(())
}
