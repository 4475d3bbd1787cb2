//! `profiler stacks`: every thread of a process where it stands, and a Go program's goroutines as it dumps them itself.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::peak::{Counted, until_end_kb};
use profiler_tests::pprof_tool::pprof;
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Outcome, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use profiler_tests::waiting::until;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A thread or goroutine of a listing: what stands in brackets, and its frames as (function, place).
#[derive(PartialEq, Eq, Debug)]
struct Listed {
    name: String,
    state: String,
    frames: Vec<(String, String)>,
}

/// A listing, or one of Go's dumps, by the numbers.
fn parse(text: &str) -> BTreeMap<u64, Listed> {
    let mut listed = BTreeMap::new();
    for block in text.split("\n\n") {
        let mut lines = block.lines();
        let Some(header) = lines.by_ref().find(|line| line.starts_with("goroutine ") || line.starts_with("thread ")) else { continue };
        let mut words = header.splitn(3, ' ');
        let (Some(_), Some(Ok(id)), Some(rest)) = (words.next(), words.next().map(str::parse), words.next()) else { continue };
        let name = rest.split('"').nth(1).unwrap_or_default().to_owned();
        let state = rest.rsplit_once('[').map_or("", |(_, state)| state.trim_end_matches("]:")).to_owned();
        let lines: Vec<&str> = lines.collect();
        let frames = lines.windows(2).filter(|pair| !pair[0].starts_with('\t') && pair[1].starts_with('\t'));
        let frames = frames.map(|pair| (function(pair[0]), pair[1].trim().split(" +").next().unwrap_or_default().to_owned())).collect();
        listed.insert(id, Listed { name, state, frames });
    }
    listed
}

/// A function without what was passed to it: the last brackets of the line, but for a receiver's.
fn function(line: &str) -> String {
    if line.starts_with("created by") {
        return line.to_owned();
    }
    let mut depth = 0;
    for (at, c) in line.char_indices().rev() {
        match c {
            ')' => depth += 1,
            '(' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return line[..at].to_owned();
        }
    }
    line.to_owned()
}

fn stacks(pid: u32, args: &[&str]) -> Result<Outcome> {
    Profiler::new("stacks")?.args([pid.to_string().as_str()]).args(args).run()?.success()
}

fn listing(pid: u32, args: &[&str]) -> Result<BTreeMap<u64, Listed>> {
    Ok(parse(&String::from_utf8(stacks(pid, args)?.stdout)?))
}

fn named<'a>(listed: &'a BTreeMap<u64, Listed>, name: &str) -> Result<&'a Listed> {
    listed.values().find(|thread| thread.name == name).with_context(|| format!("no thread {name} in {listed:?}"))
}

fn has(thread: &Listed, function: &str) -> bool {
    thread.frames.iter().any(|(name, _)| name == function)
}

#[test]
fn every_thread_is_shown_where_it_stands() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    // Without frame pointers, so that the tables are needed.
    let subject = Subject::start(&build("parked", Build::CBare)?, ["3", "running"])?;
    let listed = listing(subject.pid(), &[])?;
    ensure!(listed.len() == 8, "{} threads of 8: {listed:?}", listed.len());
    for (name, function, state) in [
        ("sleeper", "sleeps_long", "sleep"),
        ("reader", "reads_a_silent_pipe", "IO wait (read)"),
        ("worker", "waits_for_the_lock", "futex wait"),
        ("spinner", "spins_for_ever", "run"),
    ] {
        let thread = named(&listed, name)?;
        ensure!(has(thread, function), "{name} is not in {function}: {thread:?}");
        ensure!(thread.state.starts_with(state), "{name}: {}", thread.state);
    }
    let deep = named(&listed, "deep")?;
    // Stacks deeper than what is read at first are whole, and shown as Go shows them: the middle left out.
    ensure!(has(deep, "deep_one") && deep.frames.len() >= 100, "{} frames", deep.frames.len());
    Ok(())
}

#[test]
fn the_stacks_are_those_that_gdb_sees() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("gdb")]) {
        return Ok(());
    }
    let subject = Subject::start(&build("parked", Build::CBare)?, ["20"])?;
    let ours = listing(subject.pid(), &[])?;
    let pid = subject.pid().to_string();
    let gdb = Command::new("gdb").args(["-nx", "-batch", "-p", &pid, "-ex", "thread apply all bt"]).output()?;
    let text = String::from_utf8_lossy(&gdb.stdout).into_owned();
    let mut compared = 0;
    for block in text.split("\nThread ").skip(1) {
        let id = block.split("(LWP ").nth(1).and_then(|rest| rest.split(')').next()?.parse().ok()).context("a thread's id")?;
        let frames: Vec<String> = block.lines().filter(|line| line.starts_with('#')).filter_map(gdb_function).collect();
        let mine: Vec<&str> = ours.get(&id).context("a thread that we do not have")?.frames.iter().map(|(name, _)| name.as_str()).collect();
        // What the names of the C library's own functions are, is a matter of taste; ours and the program's own must be the same ones.
        let own = |name: &&str| {
            ["waits_for_the_lock", "middle_of_the_wait", "parked", "sleeps_long", "sleeper", "main", "deep_one"].contains(name)
        };
        let theirs: Vec<&str> = frames.iter().map(String::as_str).filter(own).collect();
        let mine: Vec<&str> = mine.into_iter().filter(own).collect();
        // The deep one is elided here.
        if theirs.len() < 100 {
            ensure!(mine == theirs, "thread {id}: {mine:?} is {theirs:?} to gdb");
            compared += 1;
        }
    }
    ensure!(compared >= 22, "only {compared} threads were compared:\n{text}");
    Ok(())
}

/// The function of a line of gdb's.
fn gdb_function(line: &str) -> Option<String> {
    let rest = line.split_once(' ')?.1.trim_start();
    let rest = rest.split_once(" in ").filter(|(head, _)| head.starts_with("0x")).map_or(rest, |(_, rest)| rest);
    Some(rest.split(' ').next()?.to_owned())
}

#[test]
fn two_thousand_threads_are_one_profile_that_pprof_reads() -> Result<()> {
    if !can_record(&[Build::C, Build::Go]) {
        return Ok(());
    }
    let subject = Subject::start(&build("parked", Build::C)?, ["2000"])?;
    let outcome = stacks(subject.pid(), &["-o", "threads.prof"])?;
    let report = pprof(["-top".as_ref(), outcome.folder.join("threads.prof").as_os_str()])?;
    let text = format!("{report:?}");
    ensure!(text.contains("Type: threads") && text.contains("2004 total"), "{text}");
    let text = String::from_utf8(stacks(subject.pid(), &["--format", "text"])?.stdout)?;
    ensure!(text.starts_with("threads profile: total 2004\n"), "{}", &text[..200]);
    ensure!(text.contains("\n2000 @ 0x") && text.contains("\"state\":\"futex wait\""), "{}", &text[..400]);
    let grouped = String::from_utf8(stacks(subject.pid(), &["--group"])?.stdout)?;
    ensure!(grouped.starts_with("2000 threads [worker, futex wait]:\n"), "{grouped}");
    let kernel = String::from_utf8(stacks(subject.pid(), &["--group", "--kernel"])?.stdout)?;
    ensure!(kernel.contains("futex_wait"), "{kernel}");
    Ok(())
}

#[test]
fn very_many_threads_are_listed_one_by_one_within_the_limit_of_memory() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    // What is read of their stacks alone has 40 MB, and their listing 18.
    let subject = Subject::start(&build("parked", Build::CBare)?, ["20000", "together"])?;
    let running = Profiler::new("stacks")?.args([subject.pid().to_string()]).start()?;
    let peak_kb = until_end_kb(&running, Counted::Most);
    let text = String::from_utf8(running.finish()?.success()?.stdout)?;
    ensure!(peak_kb < 128 << 10, "{peak_kb} kB");
    let listed = parse(&text);
    let workers: Vec<&Listed> = listed.values().filter(|thread| thread.name == "worker").collect();
    ensure!(listed.len() == 20_004 && workers.len() == 20_000, "{} threads, {} workers", listed.len(), workers.len());
    ensure!(has(workers[0], "parked") && has(workers[0], "start_thread"), "{:?}", workers[0]);
    let other = workers.iter().find(|thread| thread.frames != workers[0].frames || !thread.state.starts_with("futex wait"));
    ensure!(other.is_none(), "{other:?}");
    Ok(())
}

#[test]
fn a_stack_that_never_comes_holds_nobody() -> Result<()> {
    if !can_record(&[Build::C]) || cfg!(not(target_arch = "x86_64")) {
        return Ok(());
    }
    let subject = Subject::start(&build("hanging_stack", Build::C)?, [""; 0])?;
    let began = Instant::now();
    let text = String::from_utf8(stacks(subject.pid(), &[])?.stdout)?;
    ensure!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    let listed = parse(&text);
    ensure!(has(named(&listed, "beside")?, "sleeps_beside_it"), "{text}");
    ensure!(text.contains("a page of its stack does not come"), "{text}");
    Ok(())
}

#[test]
fn a_thread_that_nothing_wakes_is_shown_where_it_waits() -> Result<()> {
    if !can_record(&[Build::C]) || cfg!(not(target_arch = "x86_64")) {
        return Ok(());
    }
    let subject = Subject::start(&build("vforks", Build::CBare)?, ["library"])?;
    let is_d = |thread: &&Listed| thread.state.starts_with("D, uninterruptible");
    // It is ready before its threads have their children.
    let listed = until("threads to wait for their children", || {
        let listed = listing(subject.pid(), &[])?;
        let wait = listed.values().filter(is_d).count();
        Ok((wait == 3).then_some(listed))
    })?;
    // Of vfork(2) the return address is in a register; behind the system call of clone(2) the C library's tables have nothing.
    for (name, function) in
        [("vforker", "waits_for_its_child"), ("waiter", "waits_in_vfork"), ("cloner", "waits_in_clone"), ("beside", "sleeps_beside_it")]
    {
        let thread = named(&listed, name)?;
        ensure!(has(thread, function) && has(thread, "start_thread"), "{name} is not in {function}: {thread:?}");
        ensure!(is_d(&thread) != (name == "beside"), "{thread:?}");
    }
    Ok(())
}

#[test]
fn of_a_go_that_is_not_known_threads_are_shown_and_it_is_said() -> Result<()> {
    if !can_record(&[Build::Go]) {
        return Ok(());
    }
    let mut bytes = std::fs::read(build("goparked", Build::Go)?)?;
    // The text of the version in .go.buildinfo: its length, `go1.`, and the number.
    let at = bytes.windows(16).position(|window| window == b"\xff Go buildinf:\x08\x02").context("no build information")? + 32;
    ensure!(bytes[at + 1..].starts_with(b"go1."), "no version");
    bytes[at + 5..at + 7].copy_from_slice(b"99");
    let folder = Folder::create()?;
    let program = folder.join("goparked");
    std::fs::write(&program, bytes)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let (subject, _input) = Subject::start_told(Command::new(&program))?;
    let outcome = stacks(subject.pid(), &[])?;
    let said = format!("{}{}", outcome.stderr, String::from_utf8_lossy(&outcome.stdout));
    ensure!(said.contains("go1.99") && said.contains("its threads are shown instead"), "{said}");
    let listed = parse(&String::from_utf8(outcome.stdout)?);
    ensure!(listed.len() >= 3 && listed.keys().all(|tid| *tid >= u64::from(subject.pid())), "{listed:?}");
    Ok(())
}

#[test]
fn a_process_that_is_not_there_or_ends_is_told_in_words() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let missing = Profiler::new("stacks")?.args(["4194000"]).run()?;
    missing.failed(1, "4194000")?;
    let subject = Subject::start(&build("parked", Build::C)?, ["3"])?;
    let (pid, tids) = (subject.pid(), listing(subject.pid(), &[])?);
    let thread = tids.keys().find(|tid| **tid != u64::from(pid)).context("one thread alone")?;
    // What is said is what can be done here.
    Profiler::new("stacks")?.args([thread.to_string()]).run()?.failed(1, &format!("is a thread of process {pid}; give {pid}"))?;
    // One that ends at some moment of the look: a listing, or words.
    for wait in 0..12 {
        let subject = Subject::start(&build("parked", Build::C)?, ["50"])?;
        let running = Profiler::new("stacks")?.args([subject.pid().to_string()]).start()?;
        std::thread::sleep(Duration::from_millis(15 * wait));
        drop(subject);
        let outcome = running.finish()?;
        ensure!(!outcome.stderr.contains("panicked") && outcome.code()? <= 1, "{}", outcome.stderr);
    }
    Ok(())
}

#[test]
fn goroutines_are_those_of_the_programs_own_dump() -> Result<()> {
    if !can_record(&[Build::Go]) {
        return Ok(());
    }
    for how in [Build::Go, Build::GoStripped] {
        let program = Command::new(build("goparked", how)?).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut program = program;
        let mut lines = BufReader::new(program.stdout.take().context("its output")?).lines();
        let mut input = program.stdin.take().context("its input")?;
        let subject = Subject::adopt(program);
        ensure!(lines.next().transpose()?.as_deref() == Some("ready"), "it is not ready");
        let ours = listing(subject.pid(), &["--format", "debug2"])?;
        input.write_all(b"d\n")?;
        let mut own = String::new();
        for line in lines.by_ref() {
            match line?.as_str() {
                "END" => break,
                line => own.extend([line, "\n"]),
            }
        }
        let own = parse(&own);
        ensure!(own.len() >= 28, "its own dump has {} goroutines", own.len());
        ensure!(ours.keys().eq(own.keys()), "{:?} are not {:?}", ours.keys(), own.keys());
        // The first one dumps.
        for (id, theirs) in own.iter().filter(|(id, _)| **id != 1) {
            let state = |listed: &Listed| listed.state.split(" labels:").next().unwrap_or_default().to_owned();
            ensure!(ours[id].frames == theirs.frames, "goroutine {id}: {:?} is to itself {:?}", ours[id], theirs);
            ensure!(state(&ours[id]) == state(theirs), "goroutine {id}: {:?} is to itself {:?}", ours[id], theirs);
        }
        let text = String::from_utf8(stacks(subject.pid(), &["--format", "text"])?.stdout)?;
        ensure!(text.starts_with(&format!("goroutine profile: total {}\n", own.len())), "{}", &text[..200]);
        ensure!(text.contains("\"request\":\"seven\""), "no label: {text}");
        let threads = listing(subject.pid(), &["--threads"])?;
        ensure!(threads.len() >= 3 && threads.keys().all(|tid| *tid >= u64::from(subject.pid())), "{threads:?}");
    }
    Ok(())
}

#[test]
fn record_takes_the_same_look_and_records_nothing_for_it() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("parked", Build::C)?, ["50"])?;
    let run = Profiler::record()?.pid(subject.pid()).args(["-e", "threads"]).run()?.success()?;
    let threads = Profile::read(&run.folder.join("threads.prof"))?;
    let listed = listing(subject.pid(), &[])?.len() as i64;
    ensure!(threads.total(0) == listed, "{} threads of {listed}", threads.total(0));
    let instead = Profiler::record()?.pid(subject.pid()).args(["-e", "goroutine"]).run()?.success()?;
    ensure!(instead.folder.join("threads.prof").exists() && instead.stderr.contains("is no Go program"), "{}", instead.stderr);
    let both = Profiler::record()?.pid(subject.pid()).args(["-e", "threads,cpu", "-d", "1"]).run()?.success()?;
    ensure!(both.folder.join("threads.prof").exists() && both.folder.join("cpu.prof").exists(), "{}", both.stderr);
    Profiler::record()?.args(["-e", "threads"]).run()?.failed(2, "give one -p PID")?;
    Ok(())
}
