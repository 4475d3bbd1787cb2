//! Where threads wait, who makes them wait, and who starts them: `-e off-cpu`, `block`, `mutex` and `threadcreate` against programs that know it themselves.

use anyhow::{Context as _, Result, bail, ensure};
use profiler_tests::pprof_tool::pprof;
use profiler_tests::profile::Profile;
use profiler_tests::run::{Outcome, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::io::Write as _;
use std::process::Command;

fn read(run: &Outcome, kind: &str) -> Result<Profile> {
    let profile = Profile::read(&run.folder.join(format!("{kind}.prof"))).with_context(|| format!("{kind}: {}", run.stderr))?;
    ensure!(profile.balance()?.difference == 0 && profile.own_losses()?.is_empty(), "{kind}: {:#?}", profile.comments);
    Ok(profile)
}

fn through(profile: &Profile, function: &str, column: usize) -> f64 {
    profile.only(|sample| profile.names(sample).contains(&function)).total(column) as f64
}

#[test]
fn off_cpu_shows_a_sleep_and_a_slow_pipe_in_their_shares() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let subject = Subject::start(&build("waits", Build::CBare)?, ["sleep"])?;
    let run = Profiler::record()?.pid(subject.pid()).args(["-e", "off-cpu", "-d", "4"]).run()?.success()?;
    let profile = read(&run, "off-cpu")?;
    let (naps, reads) = (through(&profile, "naps", 1), through(&profile, "reads", 1));
    ensure!((naps / (naps + reads) - 0.3).abs() < 0.05, "{naps} in naps, {reads} in reads");
    ensure!((naps + reads) / 4e9 > 0.9, "{naps} and {reads} of four seconds");
    let reasons = profile.label_values("reason");
    ensure!(reasons.keys().all(|reason| reason == "blocked" || reason == "runnable"), "{reasons:?}");
    ensure!(profile.rooted()? >= 0.99, "{:?}", profile.endings()?);
    let kernel = profile.only(|sample| profile.names(sample).contains(&"entry_SYSCALL_64_after_hwframe"));
    ensure!(kernel.total(1) == profile.total(1), "each stack has its kernel part");
    Ok(())
}

#[test]
fn block_and_mutex_add_up_to_what_the_program_measured() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut command = Command::new(build("waits", Build::CBare)?);
    command.arg("lock");
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["-e", "block,mutex"]).start()?;
    recording.wait_until_recording()?;
    stdin.write_all(b"go\n")?;
    let line = subject.wait_for_line("waited")?;
    let run = recording.interrupt()?.success()?;
    let numbers = line.split_whitespace().skip(1).map(|word| Ok(word.parse()?)).collect::<Result<Vec<f64>>>()?;
    let [truth, held @ ..] = &numbers[..] else { bail!("{line}") };
    let (block, mutex) = (read(&run, "block")?, read(&run, "mutex")?);
    let waited = through(&block, "acquire", 1);
    ensure!((waited / truth - 1.0).abs() < 0.02, "block: {waited} of {truth}");
    let released: Vec<f64> = ["holds_one", "holds_three", "holds_six"].iter().map(|name| through(&mutex, name, 1)).collect();
    let all: f64 = released.iter().sum();
    ensure!((all / truth - 1.0).abs() < 0.02, "mutex: {all} of {truth}");
    // What the others wait for each of them is in proportion to how long it had the lock.
    ensure!(held.len() == released.len(), "{line}");
    for (released, held_ns) in released.iter().zip(held) {
        let share = held_ns / held.iter().sum::<f64>();
        ensure!((released / all - share).abs() < 0.03, "mutex: {released} of {all}, not {share}");
    }
    let types: Vec<_> = mutex.sample_types.iter().map(|(name, unit)| (name.as_str(), unit.as_str())).collect();
    ensure!(types == [("contentions", "count"), ("delay", "nanoseconds")], "{types:?}");
    Ok(())
}

#[test]
fn threadcreate_counts_each_thread_where_it_was_started() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut command = Command::new(build("waits", Build::CBare)?);
    command.arg("threads");
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["-e", "threadcreate"]).start()?;
    recording.wait_until_recording()?;
    for _ in 0..20 {
        stdin.write_all(b"go\n")?;
        subject.wait_for_line("done")?;
    }
    let profile = read(&recording.interrupt()?.success()?, "threadcreate")?;
    ensure!(through(&profile, "starts", 0) == 20.0 && profile.total(0) == 20, "{}", profile.total(0));
    Ok(())
}

#[test]
fn pprof_reads_every_kind_in_both_forms() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("go")]) {
        return Ok(());
    }
    let subject = Subject::start(&build("waits", Build::CBare)?, ["sleep"])?;
    for format in ["pprof", "text"] {
        let kinds = "off-cpu,block,mutex,threadcreate,wall";
        let run =
            Profiler::record()?.pid(subject.pid()).args(["-e", kinds, "-d", "1", "--format", format, "-o", "{kind}.x"]).run()?.success()?;
        for (kind, shown) in
            [("off-cpu", "off"), ("block", "delay"), ("mutex", "delay"), ("threadcreate", "threadcreate"), ("wall", "wall")]
        {
            let report = pprof(["-top".into(), run.folder.join(format!("{kind}.x"))])?;
            ensure!(report.text.contains(&format!("Type: {shown}")), "{kind} as {format}: {}", report.text);
        }
    }
    Ok(())
}

#[test]
fn who_ends_a_wait_stands_beside_it_when_it_is_asked_for() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let subject = Subject::start(&build("waits", Build::CBare)?, ["sleep"])?;
    let run = Profiler::record()?.pid(subject.pid()).args(["-e", "off-cpu", "--pairs", "-d", "2"]).run()?.success()?;
    let profile = read(&run, "off-cpu")?;
    let wakers = |function: &str| profile.only(|sample| profile.names(sample).contains(&function)).label_values("waker");
    // `reads` is woken by the thread in `writes`, and `naps` by the clock.
    let (of_reads, of_naps) = (wakers("reads"), wakers("naps"));
    let is_by = |waker: &String, function: &str| waker.split(" > ").any(|name| name == function);
    ensure!(!of_reads.is_empty() && of_reads.keys().all(|waker| waker.is_empty() || is_by(waker, "writes")), "{of_reads:?}");
    ensure!(of_reads.keys().any(|waker| waker.starts_with("waits > ") && is_by(waker, "start_thread")), "{of_reads:?}");
    ensure!(of_naps.keys().any(|waker| waker.starts_with("[interrupt] > ")), "{of_naps:?}");
    ensure!(of_naps.keys().all(|waker| waker.is_empty() || waker.starts_with("[interrupt] > ")), "{of_naps:?}");
    Ok(())
}

#[test]
fn a_process_that_waits_everywhere_leaves_room_for_others() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let start = || -> Result<_> {
        let mut command = Command::new(build("waits", Build::CBare)?);
        command.arg("depths");
        Subject::start_told(command)
    };
    let ((mut greedy, mut to_greedy), (mut modest, mut to_modest)) = (start()?, start()?);
    let options = ["-e", "off-cpu", "--sleep-rate", "1", "--tally-entries", "16"];
    let mut recording = Profiler::record()?.pid(greedy.pid()).pid(modest.pid()).args(options).start()?;
    recording.wait_until_recording()?;
    to_greedy.write_all(b"40\n")?;
    greedy.wait_for_line("done")?;
    to_modest.write_all(b"2\n")?;
    modest.wait_for_line("done")?;
    let run = recording.interrupt()?.success()?;
    let profile = Profile::read(&run.folder.join("off-cpu.prof"))?;
    let of = |pid: u32| profile.only(|sample| sample.label("pid").is_some_and(|label| label.number == i64::from(pid)));
    let naps = |pid: u32| through(&of(pid), "descends", 0);
    ensure!(naps(modest.pid()) >= 6.0, "{} naps of the modest one: {:#?}", naps(modest.pid()), profile.comments);
    ensure!(naps(greedy.pid()) >= 6.0 && naps(greedy.pid()) < 60.0, "{} naps of the greedy one", naps(greedy.pid()));
    let (balance, lost) = (profile.balance()?, profile.losses()?);
    ensure!(balance.difference == 0 && lost.get("tally map full").is_some_and(|lost| *lost >= 60), "{lost:?}");
    Ok(())
}

/// The return address of vfork is in a register. The first such stack of a process is finished in user space, and the others are walked in the kernel: both know the
/// caller.
#[test]
fn who_waits_in_vfork_is_known_from_the_first_time_on() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let program = build("vforks", Build::CBare)?;
    let script = format!("for run in 1 2 3 4 5 6; do {} short 3; done", program.display());
    let run = Profiler::record()?.args(["-e", "off-cpu", "--", "bash", "-c", &script]).run()?.success()?;
    let profile = read(&run, "off-cpu")?;
    let stands = profile.only(|sample| profile.names(sample).iter().any(|name| name.contains("vfork")));
    let called = stands.only(|sample| stands.names(sample).contains(&"waits_a_moment") && stands.names(sample).contains(&"main"));
    ensure!(
        called.total(0) >= 18 && called.total(0) == stands.total(0),
        "{} of {}: {:?}",
        called.total(0),
        stands.total(0),
        stands.cumulative()
    );
    Ok(())
}
