//! Waits that are not over when the recording is, that began before it, or both: they are counted for as long as the recording saw them, by the functions that wait.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::profile::{Profile, Sample};
use profiler_tests::run::{Outcome, Profiler};
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build};
use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a wait may differ by from what it was: the recording begins and ends within a moment, and does so for all threads at once.
const MOMENT_NS: f64 = 1e8;

fn read(run: &Outcome, kind: &str) -> Result<Profile> {
    let profile = Profile::read(&run.folder.join(format!("{kind}.prof"))).with_context(|| format!("{kind}: {}", run.stderr))?;
    ensure!(profile.balance()?.difference == 0 && profile.own_losses()?.is_empty(), "{kind}: {:#?}", profile.comments);
    Ok(profile)
}

fn is_ongoing(sample: &Sample) -> bool {
    sample.labels.iter().any(|label| label.key == "ongoing" && label.text == "yes")
}

/// Nanoseconds below a function, of waits that were over or were not.
fn waited(profile: &Profile, function: &str, ongoing: bool) -> f64 {
    profile.only(|sample| profile.names(sample).contains(&function) && is_ongoing(sample) == ongoing).total(1) as f64
}

fn is_about(one: f64, other: f64) -> bool {
    (one - other).abs() < MOMENT_NS
}

/// Every thread of the subject waits by then: the last one that was started, too.
fn number(line: &str) -> Result<f64> {
    Ok(line.trim().rsplit(' ').next().context("no number")?.parse()?)
}

#[test]
fn waits_that_outlast_a_recording_are_counted_for_as_long_as_it_was() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut command = Command::new(build("ongoing", Build::CBare)?);
    command.arg("waits");
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["-e", "off-cpu,block,mutex,wall"]).start()?;
    recording.wait_until_recording()?;
    let mut moments = Vec::new();
    for beginning in ["began", "began", "let go"] {
        sleep(Duration::from_millis(400));
        stdin.write_all(b"go\n")?;
        moments.push(number(&subject.wait_for_line(beginning)?)?);
    }
    sleep(Duration::from_millis(400));
    let run = recording.interrupt()?.success()?;
    let (off_cpu, block, mutex, wall) = (read(&run, "off-cpu")?, read(&run, "block")?, read(&run, "mutex")?, read(&run, "wall")?);
    let whole = off_cpu.duration_ns as f64;
    for (profile, kind) in [(&off_cpu, "off-cpu"), (&wall, "wall"), (&block, "block")] {
        for function in ["waits_for_mutex", "waits_for_condition", "waits_for_pipe"] {
            let (expected, is) =
                (if kind == "block" && function == "waits_for_pipe" { 0.0 } else { whole }, waited(profile, function, true));
            ensure!(is_about(is, expected) && waited(profile, function, false) == 0.0, "{kind}: {is} in {function}, not {expected}");
        }
        // Two that began in the middle: as long after each other as the program says, and both to the end.
        let (first, second) = (waited(profile, "begins_first", true), waited(profile, "begins_second", true));
        ensure!(is_about(first - second, moments[1] - moments[0]), "{kind}: {first} and {second}, {moments:?}");
        // One that began before the recording and ended in the middle: what another one has waited since is missing to the whole.
        let over = waited(profile, "waits_for_other", false);
        ensure!(is_about(over + second, whole - (moments[1] - moments[2])), "{kind}: {over} until {moments:?}, {second} of {whole}");
    }
    let released = mutex.only(|sample| mutex.names(sample).contains(&"lets_other_go")).total(1) as f64;
    ensure!(is_about(released, waited(&block, "waits_for_other", false)), "mutex: {released}");
    ensure!(block.only(is_ongoing).total(0) == 4, "{} waits go on", block.only(is_ongoing).total(0));
    for (profile, said) in
        [(&off_cpu, "still waiting: 6 threads"), (&block, "still waiting: 4 threads"), (&mutex, "still waiting: 4 threads")]
    {
        ensure!(profile.comments.iter().any(|comment| comment.starts_with(said)), "{:#?}", profile.comments);
    }
    ensure!(off_cpu.rooted()? > 0.99 && block.rooted()? > 0.99, "{:?} {:?}", off_cpu.endings()?, block.endings()?);
    Ok(())
}

#[test]
fn threads_apart_and_frame_pointers_know_them_too() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("ongoing", Build::C)?, ["many", "3"])?;
    for (flag, least) in [("--per-thread", 3), ("--frame-pointers", 1)] {
        let run = Profiler::record()?.pid(subject.pid()).args(["-e", "block", "-d", "1", flag]).run()?.success()?;
        let block = read(&run, "block")?;
        // By frame pointers alone the caller of a leaf without one is left out.
        let waits = block.only(|sample| block.names(sample).iter().any(|name| name.contains("waits_for_mutex")));
        ensure!(waits.total(0) == 3 && waits.samples.len() >= least, "{flag}: {:?}", block.cumulative());
        ensure!(is_about(waits.total(1) as f64 / 3.0, block.duration_ns as f64), "{flag}: {}", waits.total(1));
    }
    let run = Profiler::record()?.pid(subject.pid()).args(["-e", "off-cpu", "-d", "1", "--kernel-only"]).run()?.success()?;
    let off_cpu = read(&run, "off-cpu")?;
    ensure!(off_cpu.only(|sample| off_cpu.names(sample).contains(&"do_futex")).total(0) == 3, "{:?}", off_cpu.cumulative());
    Ok(())
}

#[test]
fn two_thousand_threads_that_sleep_are_counted_with_their_functions() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let subject = Subject::start(&build("ongoing", Build::CBare)?, ["many", "2000"])?;
    let run = Profiler::record()?.args(["-a", "-e", "off-cpu,block", "-d", "1"]).run()?.success()?;
    for kind in ["off-cpu", "block"] {
        let profile = read(&run, kind)?;
        let pid = i64::from(subject.pid());
        let of_it = profile.only(|sample| sample.label("pid").is_some_and(|label| label.number == pid) && is_ongoing(sample));
        let named = of_it.only(|sample| of_it.names(sample).contains(&"waits_for_mutex"));
        ensure!(named.total(0) == 2000, "{kind}: {} of {}", named.total(0), of_it.total(0));
        ensure!(is_about(named.total(1) as f64 / 2000.0, profile.duration_ns as f64), "{kind}: {} ns", named.total(1));
    }
    Ok(())
}

#[test]
fn a_stack_that_cannot_be_read_keeps_its_time_under_the_reason() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("hanging_stack", Build::C)?, [""; 0])?;
    let began = Instant::now();
    let run = Profiler::record()?.pid(subject.pid()).args(["-e", "off-cpu", "-d", "1"]).run()?.success()?;
    ensure!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    let profile = read(&run, "off-cpu")?;
    let whole = profile.duration_ns as f64;
    for name in ["[not walked: a page of its stack does not come]", "sleeps_beside_it"] {
        ensure!(is_about(waited(&profile, name, true), whole), "{name}: {:?}", profile.cumulative());
    }
    // What the kernel was doing for it is known all the same.
    ensure!(profile.samples.iter().any(|sample| profile.names(sample).contains(&"do_syscall_64")), "{:?}", profile.cumulative());
    Ok(())
}

#[test]
fn many_processes_whose_pages_do_not_come_leave_time_for_the_others() -> Result<()> {
    if !can_record(&[Build::C, Build::CBare]) || cfg!(not(target_arch = "x86_64")) {
        return Ok(());
    }
    let program = build("hanging_stack", Build::C)?;
    let hanging = (0..45).map(|_| Subject::start(&program, [""; 0])).collect::<Result<Vec<_>>>()?;
    // The last by their numbers, in which they are asked for.
    let waits = Subject::start(&build("ongoing", Build::CBare)?, ["many", "3"])?;
    let pids: Vec<String> = hanging.iter().chain([&waits]).map(|subject| subject.pid().to_string()).collect();
    let look = || -> Result<(Profile, Profile)> {
        let run = Profiler::record()?.args(["-p", &pids.join(","), "-e", "off-cpu", "-d", "1"]).run()?.success()?;
        let profile = read(&run, "off-cpu")?;
        let walked = profile.only(|sample| profile.names(sample).contains(&"waits_for_mutex") && is_ongoing(sample));
        Ok((profile, walked))
    };
    // The time for all of them is short; where others had the CPUs in it, once more.
    let (mut profile, mut walked) = look()?;
    if walked.total(0) != 3 {
        (profile, walked) = look()?;
    }
    ensure!(walked.total(0) == 3, "{} of 3: {:?}", walked.total(0), profile.cumulative());
    // And nobody is left out of the sum.
    let of_hanging = profile.only(|sample| sample.label("pid").is_some_and(|label| label.number != i64::from(waits.pid())));
    ensure!(of_hanging.only(is_ongoing).total(0) == 45 * 3, "{} of {}", of_hanging.only(is_ongoing).total(0), 45 * 3);
    Ok(())
}

#[test]
fn uninterruptible_sleep_is_told_apart_and_what_is_left_out_is_said() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let subject = Subject::start(&build("ongoing", Build::CBare)?, ["vfork"])?;
    let tasks = fs::read_dir(format!("/proc/{}/task", subject.pid()))?.flatten();
    let is_d = tasks.map(|task| fs::read_to_string(task.path().join("stat")).unwrap_or_default()).any(|stat| stat.contains(") D "));
    ensure!(is_d, "no thread is in uninterruptible sleep");
    for (state, is_shown) in [("uninterruptible", true), ("blocked", true), ("interruptible", false), ("runnable", false)] {
        let run =
            Profiler::record()?.pid(subject.pid()).args(["-e", "off-cpu", "--no-inherit", "-d", "1", "--state", state]).run()?.success()?;
        let profile = read(&run, "off-cpu")?;
        // The return address of vfork(2) is in a register while it stands there.
        let stands = waited(&profile, "stands_in_vfork", true);
        ensure!(is_about(stands, if is_shown { profile.duration_ns as f64 } else { 0.0 }), "{state}: {stands}");
        let left_out = profile.comments.iter().any(|comment| comment.starts_with("left out: "));
        ensure!(left_out != (state == "blocked"), "{state}: {:#?}", profile.comments);
    }
    Ok(())
}

#[test]
fn sleeps_are_left_out_by_their_length() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let subject = Subject::start(&build("waits", Build::CBare)?, ["sleep"])?;
    // `naps` sleeps for 30 ms, and `reads` for 70, as `writes` does.
    for (flag, shown, hidden) in [("--min-block-time", "reads", "naps"), ("--max-block-time", "naps", "reads")] {
        let run = Profiler::record()?.pid(subject.pid()).args(["-e", "off-cpu", "-d", "2", flag, "50ms"]).run()?.success()?;
        let profile = read(&run, "off-cpu")?;
        let (is, is_not) = (waited(&profile, shown, false), waited(&profile, hidden, false));
        // One that has begun before the recording is as long as what was seen of it; and a busy machine lets a thread sleep longer.
        ensure!(is > 3e8 && is_not < 0.25 * is, "{flag}: {is} in {shown}, {is_not} in {hidden}");
        let said = profile.comment("left out: ").with_context(|| format!("{flag}: {:#?}", profile.comments))?;
        let seconds: f64 = said.split(", ").nth(1).and_then(|rest| rest.split(' ').next()).context("no seconds")?.parse()?;
        ensure!(seconds > 0.3, "{flag}: {said}");
    }
    let run = Profiler::record()?.pid(subject.pid()).args(["-e", "off-cpu", "-d", "1", "--state", "runnable"]).run()?.success()?;
    ensure!(read(&run, "off-cpu")?.label_values("reason").keys().all(|reason| reason == "runnable"), "not only runnable");
    Profiler::new("record")?.args(["-e", "block", "--state", "blocked"]).run()?.failed(2, "need -e off-cpu")
}

#[test]
fn threads_that_are_there_already_are_shown_as_such() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut command = Command::new(build("waits", Build::CBare)?);
    command.arg("threads");
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let parked = Subject::start(&build("ongoing", Build::CBare)?, ["many", "20"])?;
    let pids = format!("{},{}", subject.pid(), parked.pid());
    let mut recording = Profiler::record()?.args(["-p", &pids, "-e", "threadcreate", "--existing"]).start()?;
    recording.wait_until_recording()?;
    for _ in 0..3 {
        stdin.write_all(b"go\n")?;
        subject.wait_for_line("done")?;
    }
    let profile = read(&recording.interrupt()?.success()?, "threadcreate")?;
    let existing = profile.only(|sample| sample.label("existing").is_some());
    let of = |pid: u32| existing.only(|sample| sample.label("pid").is_some_and(|label| label.number == i64::from(pid))).total(0);
    // The first thread of a process is one, too, as the first is in Go's profile.
    ensure!((of(parked.pid()), of(subject.pid())) == (21, 1), "{} and {}", of(parked.pid()), of(subject.pid()));
    ensure!(profile.total(0) - existing.total(0) == 3, "{} were started", profile.total(0) - existing.total(0));
    ensure!(existing.samples.iter().all(|sample| existing.names(sample) == ["[existing thread]"]), "{:?}", existing.cumulative());
    Ok(())
}
