//! `-e block` and `-e mutex` against locks of many kinds, in programs that measure themselves what they wait, and against programs that nobody here wrote:
//! CPython and PostgreSQL.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::contended::{SHARE, Seen, not_charged, numbers, read, record, record_meanwhile, through};
use profiler_tests::postgres::{self, Postgres};
use profiler_tests::profile::{Profile, Sample};
use profiler_tests::run::Profiler;
use profiler_tests::skip::{Need, can_record, find, ready, skip};
use profiler_tests::subject::{Build, Subject, build, build_crate};
use rustix::process::Signal;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

fn in_c(word: &str) -> Result<Seen> {
    record(&build("locks", Build::CBare)?, &[word])
}

#[test]
fn locks_of_the_c_library_are_charged_to_their_holders_in_their_shares() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    for word in ["mutex", "rwlock", "pi"] {
        let seen = in_c(word)?;
        seen.waited("acquire").and_then(|()| seen.charged_in_shares()).context(word)?;
        let (wanted, truth) = (through(&seen.block, "only_wants"), seen.wanted.context("what those waited that only want it")?);
        ensure!((wanted / truth - 1.0).abs() < SHARE, "{word}: those that only want it waited {wanted} of {truth}");
    }
    Ok(())
}

#[test]
fn locks_of_the_cpp_library_are_charged_to_their_holders_in_their_shares() -> Result<()> {
    if !can_record(&[Build::CxxBare]) {
        return Ok(());
    }
    for word in ["mutex", "shared"] {
        let seen = record(&build("locks", Build::CxxBare)?, &[word])?;
        seen.waited("acquire").and_then(|()| seen.charged_in_shares()).context(word)?;
    }
    Ok(())
}

#[test]
fn locks_of_rusts_library_are_charged_to_their_holders_in_their_shares() -> Result<()> {
    if !can_record(&[Build::Rust]) {
        return Ok(());
    }
    let program = build("locks", Build::Rust)?;
    for word in ["mutex", "rwlock"] {
        let seen = record(&program, &[word])?;
        seen.waited("acquire").and_then(|()| seen.charged_in_shares()).context(word)?;
    }
    let seen = record(&program, &["condvar"])?;
    seen.waited("awaits")?;
    // A condition variable counts at its word, and comes by the value of a lock once.
    ensure!(seen.mutex.total(0) <= 1, "mutex: {:?}", seen.mutex.cumulative());
    Ok(())
}

#[test]
fn locks_that_park_threads_are_charged_to_who_wakes_them() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("cargo")]) {
        return Ok(());
    }
    let program = build_crate("parking")?;
    for word in ["rwlock", "mutex"] {
        let seen = record(&program, &[word])?;
        // There is no word for each lock: of which release a wait was the queue is not known, only who woke it.
        seen.waited("acquire").and_then(|()| seen.charged()).context(word)?;
    }
    Ok(())
}

/// What a profile says that it has left out, nanoseconds.
fn left_out(profile: &Profile) -> Result<f64> {
    let Some(line) = profile.comment("left out: ") else { return Ok(0.0) };
    let seconds = line.split_once(" waits of ").and_then(|(_, rest)| rest.split_once(" s,")).with_context(|| line.to_owned())?.0;
    Ok(seconds.parse::<f64>()? * 1e9)
}

#[test]
fn what_is_no_lock_is_waited_for_and_not_charged() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    for (word, function, waits) in
        [("semaphore", "acquire", 0), ("condition", "awaits", 100), ("join", "joins", 50), ("several", "waits_for_several", 50)]
    {
        let seen = in_c(word)?;
        seen.waited(function).and_then(|()| seen.is_no_lock()).context(word)?;
        let counted = seen.block.only(|sample| seen.block.names(sample).contains(&function)).total(0);
        ensure!(waits == 0 || counted == waits, "{word}: {counted} waits");
        ensure!((through(&seen.mutex, "") + left_out(&seen.mutex)?) / seen.truth > 0.9, "{word}: {:?}", seen.mutex.comments);
    }
    Ok(())
}

#[test]
fn who_was_moved_to_another_word_waits_and_nobody_is_charged() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let seen = in_c("moved")?;
    seen.waited("is_moved")?;
    let waits = seen.block.only(|sample| seen.block.names(sample).contains(&"is_moved")).total(0);
    ensure!(waits == 50, "{waits} waits");
    // The value is that of a lock, but when the wait for the second one began is not seen.
    ensure!(through(&seen.mutex, "moves_and_wakes") == 0.0, "mutex: {:?}", seen.mutex.cumulative());
    Ok(())
}

#[test]
fn a_wait_that_was_stopped_is_one_and_goes_on() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut stopped = Duration::ZERO;
    let stop = |subject: &Subject| {
        std::thread::sleep(Duration::from_secs(1));
        subject.signal(Signal::STOP)?;
        let since = Instant::now();
        std::thread::sleep(Duration::from_millis(500));
        subject.signal(Signal::CONT)?;
        stopped = since.elapsed();
        Ok(())
    };
    let seen = record_meanwhile(&build("locks", Build::CBare)?, &["stopped"], stop)?;
    let waited = through(&seen.block, "is_stopped");
    // Being stopped is no wait for another thread.
    let truth = seen.truth - stopped.as_nanos() as f64;
    ensure!((waited / truth - 1.0).abs() < SHARE, "{waited} of {truth} and {stopped:?}");
    ensure!(seen.block.total(0) == 1, "{} waits", seen.block.total(0));
    Ok(())
}

#[test]
fn a_lock_between_processes_is_charged_to_the_other_one() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let seen = in_c("shared")?;
    seen.waited("wants_shared")?;
    seen.charged()?;
    let holder = through(&seen.mutex, "holds_shared");
    ensure!(holder / seen.truth > 0.95, "mutex: {holder} of {}", seen.truth);
    Ok(())
}

#[test]
fn a_thread_that_ends_lets_its_robust_locks_go() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let seen = in_c("robust")?;
    seen.waited("inherits")?;
    seen.charged()?;
    Ok(())
}

#[test]
fn the_end_of_a_process_lets_nothing_go() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut command = Command::new(build("locks", Build::CBare)?);
    command.arg("end");
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["-e", "block,mutex"]).start()?;
    recording.wait_until_recording()?;
    stdin.write_all(b"go\n")?;
    let line = subject.wait_for_line("waited")?;
    let run = recording.finish()?.success()?;
    let truth = *numbers(&line, "waited").first().context("what they waited")?;
    let (block, mutex) = (read(&run, "block")?, read(&run, "mutex")?);
    // Three threads have waited for a second, until they were ended.
    let waited = through(&block, "waits_for_ever");
    ensure!((waited / truth - 1.0).abs() < SHARE, "{waited} of {truth}");
    ensure!(mutex.samples.is_empty(), "{:?}", mutex.cumulative());
    let said = not_charged(&mutex)?;
    ensure!((said / truth - 1.0).abs() < SHARE, "{said} of {truth}: {:?}", mutex.comments);
    Ok(())
}

/// A Python whose interpreter has names: distributions strip it.
fn python_with_names() -> Option<PathBuf> {
    let candidates = ["python3-dbg", "python3"].into_iter().filter_map(find);
    candidates.into_iter().find(|python| {
        let script = "import sys, sysconfig, ctypes; v = sysconfig.get_config_vars(); \
            p = v['LIBDIR'] + '/' + v['INSTSONAME'] if v.get('Py_ENABLE_SHARED') else sys.executable; \
            sys.exit(b'take_gil' not in open(p, 'rb').read())";
        Command::new(python).args(["-c", script]).status().is_ok_and(|status| status.success())
    })
}

#[test]
fn a_queue_of_python_that_is_waited_at_is_not_told_apart_from_a_lock_and_that_is_said() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("python3")]) {
        return Ok(());
    }
    let script = "import queue, sys, threading, time\n\
        tasks, waited = queue.Queue(), 0\n\
        def gives():\n\
        \x20 for _ in range(20): time.sleep(0.05); tasks.put(1)\n\
        print('ready', flush=True); sys.stdin.readline()\n\
        threading.Thread(target=gives).start()\n\
        for _ in range(20):\n\
        \x20 since = time.monotonic_ns(); tasks.get(); waited += time.monotonic_ns() - since\n\
        print('waited', waited, flush=True); sys.stdin.readline()\n";
    let seen = record(&find("python3").context("python3")?, &["-c", script])?;
    let said = seen.mutex.comment("not told apart: ").with_context(|| format!("{:?}", seen.mutex.comments))?;
    let seconds: f64 = said.split_once(" releases of ").and_then(|(_, rest)| rest.split_once(" s by")).context("how long")?.0.parse()?;
    ensure!((seconds * 1e9 / seen.truth - 1.0).abs() < 0.05, "{said}: {}", seen.truth);
    Ok(())
}

#[test]
fn python_threads_that_fight_for_the_interpreter_show_it() -> Result<()> {
    if !can_record(&[]) {
        return Ok(());
    }
    let Some(python) = python_with_names() else {
        skip("needs a python3 that is not stripped, as that of python3-dbg");
        return Ok(());
    };
    // Four threads in one interpreter: at each moment three of them wait, for three seconds.
    let script = "import sys, threading, time
print('ready', flush=True); sys.stdin.readline(); end = time.monotonic() + 3
def spin():
    while time.monotonic() < end: sum(range(10000))
threads = [threading.Thread(target=spin) for _ in range(4)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
print('waited', 9 * 10**9, flush=True); sys.stdin.readline()";
    let seen = record(&python, &["-c", script])?;
    let (taken, dropped) = (through(&seen.block, "take_gil"), through(&seen.mutex, "drop_gil"));
    ensure!(taken / seen.truth > 0.7 && taken / seen.truth < 1.1, "take_gil has {taken} of {}", seen.truth);
    ensure!((dropped / taken - 1.0).abs() < SHARE, "drop_gil has {dropped}, take_gil {taken}");
    Ok(())
}

/// What eight clients wait for one row in five seconds, at the least: ns.
const ROWS_MIN_NS: i64 = 1_000_000_000;

#[test]
fn postgres_on_one_row_waits_for_rows_and_for_its_own_locks() -> Result<()> {
    let Some(bin) = postgres::programs() else {
        skip("needs PostgreSQL");
        return Ok(());
    };
    if !can_record(&[]) || !ready(&[Need::Program("runuser")]) {
        return Ok(());
    }
    let server = Postgres::start(bin, 1)?;
    let update = "update pgbench_branches set bbalance = bbalance + 1 where bid = 1;";
    let mut load = server.shell(&format!("echo '{update}' | exec {} -n -c 8 -j 2 -T 600 -f - postgres", server.pgbench())).spawn()?;
    server.back_end("[local] UPDATE")?;
    let recorded = || {
        let args = ["-a", "-e", "off-cpu,block,mutex", "--pairs", "--sleep-rate", "100000", "-d", "5"];
        Profiler::record()?.args(args).run()?.success()
    };
    // Who waits for a row sleeps in epoll_wait(2), and is woken by a signal.
    let waits = |off_cpu: &Profile| {
        off_cpu.only(|sample| ["ProcSleep", "WaitLatch", "epoll_wait"].iter().all(|name| off_cpu.names(sample).contains(name)))
    };
    // Where the machine gives pgbench no CPU, the server waits for pgbench, and nobody for a row: that is looked at again.
    let mut run = recorded();
    for _ in 0..2 {
        if let Ok(recorded_run) = &run
            && waits(&read(recorded_run, "off-cpu")?).total(1) < ROWS_MIN_NS
        {
            run = recorded();
        }
    }
    load.kill()?;
    load.wait()?;
    let run = run?;
    let (off_cpu, block, mutex) = (read(&run, "off-cpu")?, read(&run, "block")?, read(&run, "mutex")?);
    let rows = waits(&off_cpu);
    ensure!(rows.total(1) > ROWS_MIN_NS, "rows: {} of {} ns: {:#?}", rows.total(1), off_cpu.total(1), off_cpu.comments);
    // Beside them stands who woke them: the transaction that had the row, as it let its locks go.
    let is_over =
        |sample: &Sample| sample.label("ongoing").is_none() && sample.label("reason").is_some_and(|label| label.text == "blocked");
    let by =
        |word: &str| rows.only(|sample| is_over(sample) && sample.label("waker").is_some_and(|label| label.text.contains(word))).total(1);
    let (woken, all) = (by("LockRelease"), rows.only(is_over).total(1));
    ensure!(woken as f64 / all as f64 > 0.8, "{woken} of {all} ns were ended by who released: {:?}", rows.label_values("waker"));
    // Its own locks are semaphores, and locks by the name of who lets them go.
    let (acquired, released) = (through(&block, "LWLockAcquire"), through(&mutex, "LWLockRelease"));
    let left_out = left_out(&mutex)?;
    ensure!(acquired > 1e7 && released / acquired > 0.85, "LWLockAcquire has {acquired}, LWLockRelease {released}, left out {left_out}");
    Ok(())
}
