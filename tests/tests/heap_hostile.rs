//! `-e heap` of programs that do what none should, of files that are not what they were, and of a profiler that is killed.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::probes::{changed, links};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Outcome, Profiler, Running};
use profiler_tests::skip::{Need, can_record, ready, skip};
use profiler_tests::subject::{Build, Subject, build};
use profiler_tests::waiting;
use rustix::process::Signal;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

/// A subject that waits for lines.
struct Told {
    subject: Subject,
    stdin: ChildStdin,
}

impl Told {
    fn start(command: Command) -> Result<Self> {
        let (subject, stdin) = Subject::start_told(command)?;
        Ok(Self { subject, stdin })
    }

    fn of(name: &str) -> Result<Self> {
        Self::start(Command::new(build(name, Build::CBare)?))
    }

    fn tell(&mut self, what: &str) -> Result<()> {
        Ok(writeln!(self.stdin, "{what}")?)
    }

    fn does(&mut self, what: &str) -> Result<()> {
        self.tell(what)?;
        self.subject.wait_for_line("done")?;
        Ok(())
    }

    fn record(&self, options: &[&str]) -> Result<Running> {
        let mut running = Profiler::record()?.pid(self.subject.pid()).args(["-e", "heap", "--sample-bytes", "1"]).args(options).start()?;
        running.wait_until_recording()?;
        Ok(running)
    }
}

fn read(outcome: &Outcome) -> Result<Profile> {
    let profile = Profile::read(&outcome.folder.join("heap.prof"))?;
    ensure!(profile.balance()?.difference == 0, "{:#?}", profile.comments);
    Ok(profile)
}

fn of(profile: &Profile, function: &str) -> Vec<i64> {
    let mine = profile.only(|sample| profile.names(sample).contains(&function));
    (0..profile.sample_types.len()).map(|column| mine.total(column)).collect()
}

const STRANGE: [&str; 2] = ["--allocator", "strange:malloc=strange_get,free=strange_put"];

#[test]
fn what_was_never_allocated_may_be_freed() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut strange = Told::of("strange")?;
    let running = strange.record(&STRANGE)?;
    strange.does("frees")?;
    strange.does("frees")?;
    let profile = read(&running.interrupt()?.success()?)?;
    ensure!(of(&profile, "taken") == [1400, 126_000, 1400, 126_000], "{:?}", of(&profile, "taken"));
    ensure!(of(&profile, "thrice") == [400, 200_000, 0, 0], "{:?}", of(&profile, "thrice"));
    ensure!(profile.losses()?.is_empty(), "{:#?}", profile.comments);
    // Each time 3,000 of nothing, and 400 of what is given back already; null is nothing to give back.
    let others = profile.comment("frees of blocks that were never seen, such as older ones: ");
    ensure!(others == Some("6800"), "{:#?}", profile.comments);
    Ok(())
}

#[test]
fn a_process_killed_inside_a_call_leaves_a_call_that_never_returned() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut strange = Told::of("strange")?;
    let running = strange.record(&STRANGE)?;
    strange.does("frees")?;
    strange.tell("waits")?;
    strange.subject.wait_for_line("inside")?;
    strange.subject.signal(Signal::KILL)?;
    let profile = read(&running.finish()?.success()?)?;
    ensure!(of(&profile, "taken") == [700, 63_000, 700, 63_000] && of(&profile, "waits") == [0; 4], "{:?}", profile.flat());
    let losses = profile.losses()?;
    ensure!(losses.len() == 1 && losses.get("call never returned") == Some(&1), "{losses:?}");
    Ok(())
}

#[test]
fn a_library_may_be_replaced_while_it_is_probed() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let libraries = ["libjemalloc.so.2", "libtcmalloc_minimal.so.4"].map(|name| Path::new("/usr/lib/x86_64-linux-gnu").join(name));
    if !libraries.iter().all(|library| library.exists()) {
        skip("libjemalloc.so.2 or libtcmalloc_minimal.so.4 is not there");
        return Ok(());
    }
    let folder = Folder::create()?;
    let (library, next) = (folder.join("liballocator.so"), folder.join("next"));
    fs::copy(&libraries[0], &library)?;
    fs::copy(&libraries[1], &next)?;
    let group = profiler_tests::cgroup::Group::v2("profiler-replaced")?;
    let program = build("heap_edges", Build::CBare)?;
    let start = || {
        let mut command = Command::new("sh");
        let procs = group.path().join("cgroup.procs");
        command.args(["-c", &format!("echo $$ > {} && exec {}", procs.display(), program.display())]).env("LD_PRELOAD", &library);
        Told::start(command)
    };
    let mut before = start()?;
    let recording = Profiler::record()?.args(["--cgroup", &group.path().display().to_string(), "-e", "heap", "--sample-bytes", "1"]);
    let mut running = recording.start()?;
    running.wait_until_recording()?;
    before.does("parent")?;
    let armed = links(&running)?;
    // As an upgrade does it: who runs keeps the old file, which has no name any more; who comes has the new one.
    fs::rename(&next, &library)?;
    before.does("parent")?;
    let mut after = start()?;
    waiting::until("probes in the new one", || Ok((links(&running)? > armed).then_some(())))?;
    after.does("hold")?;
    let profile = read(&running.interrupt()?.success()?)?;
    let old = profile.labelled("pid", &before.subject.pid().to_string());
    ensure!(of(&old, "of_the_parent") == [200, 200_000, 200, 200_000], "{:?}: {:#?}", of(&old, "of_the_parent"), profile.comments);
    let new = profile.labelled("pid", &after.subject.pid().to_string());
    ensure!(of(&new, "handed_over") == [1000, 64_000, 1000, 64_000], "{:?}: {:#?}", of(&new, "handed_over"), profile.comments);
    ensure!(profile.rooted()? > 0.99, "{:?}", profile.endings()?);
    Ok(())
}

#[test]
fn a_file_whose_server_answers_nothing_holds_nobody() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("cat")]) {
        return Ok(());
    }
    if !Path::new("/dev/fuse").exists() {
        skip("/dev/fuse is not there");
        return Ok(());
    }
    let folder = Folder::create()?;
    let mut command = Command::new(build("unserved", Build::CBare)?);
    command.arg(folder.path());
    let (mut unserved, mut other) = (Told::start(command)?, Told::of("heap_edges")?);
    let pid = unserved.subject.pid();
    let code = format!("/proc/{pid}/root{}", folder.join("code").display());
    // Whoever reads it waits, or this test shows nothing.
    let mut waiter = Command::new("cat").arg(&code).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let running = other.record(&["-p", &pid.to_string(), "-o", "{kind}.prof", "-e", "cpu"])?;
    unserved.does("go")?;
    other.does("parent")?;
    let run = running.interrupt()?.success()?;
    let profile = read(&run)?;
    ensure!(of(&profile, "kept") == [100, 100_000, 100, 100_000], "{:?}: {:#?}", of(&profile, "kept"), profile.comments);
    ensure!(of(&profile, "of_the_parent") == [100, 100_000, 100, 100_000], "{:?}", of(&profile, "of_the_parent"));
    ensure!(profile.rooted()? > 0.99 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
    let stacks = Profiler::new("stacks")?.args([pid.to_string()]).run()?.success()?;
    ensure!(String::from_utf8_lossy(&stacks.stdout).contains("main"), "{}", String::from_utf8_lossy(&stacks.stdout));
    ensure!(waiter.try_wait()?.is_none(), "the file is served: this test shows nothing");
    drop(unserved);
    waiting::for_end("who waits for the file", &mut waiter).map(drop)
}

#[test]
fn a_killed_profiler_leaves_no_probe_and_others_never_have_one() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let (mut chosen, mut other) = (Told::of("heap_edges")?, Told::of("heap_edges")?);
    let running = chosen.record(&[])?;
    chosen.does("parent")?;
    other.does("parent")?;
    ensure!(changed(chosen.subject.pid())?.0 > 0, "the chosen process has no breakpoint: this test sees nothing");
    ensure!(changed(other.subject.pid())? == (0, false), "another process has {:?}", changed(other.subject.pid())?);
    running.signal(Signal::KILL)?;
    let outcome = running.finish()?;
    ensure!(outcome.status.code().is_none(), "{:?}", outcome.status);
    waiting::until("the end of the breakpoints", || Ok((changed(chosen.subject.pid())?.0 == 0).then_some(())))?;
    chosen.does("parent")
}

#[test]
fn a_profiler_that_is_killed_while_it_arms_leaves_no_probe() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    // It is armed one process after the other; some are when it is killed. One more is not chosen.
    let mut all = (0..61).map(|_| Told::of("heap_edges")).collect::<Result<Vec<_>>>()?;
    let chosen: Vec<String> = all[1..].iter().flat_map(|told| ["-p".to_owned(), told.subject.pid().to_string()]).collect();
    let start = || Profiler::record()?.args(["-e", "heap", "--sample-bytes", "1"]).args(&chosen).start();
    let mut whole = start()?;
    whole.wait_until_recording()?;
    let probes = links(&whole)?;
    whole.interrupt()?.success()?;
    ensure!(probes >= 60, "{probes} for 60 processes");
    for armed in [1, probes / 2] {
        let killed = waiting::until("a moment in which it arms", || {
            let running = start()?;
            // Without a pause: it takes some milliseconds in all.
            while links(&running)? < armed && !running.stderr_so_far().contains("recording; ") {}
            running.signal(Signal::STOP)?;
            let is_arming = links(&running)? < probes;
            running.signal(Signal::KILL)?;
            Ok(is_arming.then_some(running))
        })?;
        ensure!(killed.finish()?.status.code().is_none(), "it was not killed");
        for told in &all {
            let pid = told.subject.pid();
            waiting::until("the end of the breakpoints", || Ok((changed(pid)?.0 == 0).then_some(())))
                .with_context(|| format!("{armed}"))?;
        }
        ensure!(!changed(all[0].subject.pid())?.1, "a process that was not chosen has a page of probes");
    }
    all.iter_mut().try_for_each(|told| told.does("parent"))
}
