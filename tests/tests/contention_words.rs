//! `-e block` and `-e mutex` where the values at a word, or the names of a library, do not say plainly what waits there and who ends it.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::contended::{SHARE, not_charged, numbers, read, record, record_as, through};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn a_result_that_is_waited_for_is_no_lock() -> Result<()> {
    if !can_record(&[Build::CxxBare]) {
        return Ok(());
    }
    let seen = record(&build("futures", Build::CxxBare)?, &[])?;
    seen.waited("gets")?;
    seen.is_no_lock()
}

#[test]
fn who_waited_stands_beside_each_release_when_it_is_asked_for() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let seen = record_as(&build("locks", Build::CBare)?, &["mutex"], &["-e", "off-cpu,block,mutex", "--pairs"], |_| Ok(()))?;
    seen.waited("acquire").and_then(|()| seen.charged_in_shares())?;
    let is_by = |label: &str, function: &str| label.split(" > ").any(|name| name == function);
    for holder in ["holds_one", "holds_three", "holds_six"] {
        let waiters = seen.mutex.only(|sample| seen.mutex.names(sample).contains(&holder)).label_values("waiter");
        ensure!(waiters.keys().all(|waiter| waiter.starts_with("locks > ") && is_by(waiter, "acquire")), "{holder}: {waiters:?}");
        // Who lets it go is not who wants it.
        ensure!(waiters.len() >= 2 && !waiters.keys().any(|waiter| is_by(waiter, holder)), "{holder}: {waiters:?}");
    }
    // A release is shown by the program's part of its stack, though who ends sleeps is kept with the kernel's.
    let is_kernels = |name: &&str| ["do_syscall_64", "try_to_wake_up"].contains(name);
    ensure!(!seen.mutex.samples.iter().any(|sample| seen.mutex.names(sample).iter().any(is_kernels)), "{:?}", seen.mutex.cumulative());
    Ok(())
}

#[test]
fn a_lock_that_processes_share_is_charged_to_who_holds_it_in_shares() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let seen = record(&build("releases", Build::CBare)?, &["shared"])?;
    seen.waited("acquire")?;
    let charged = seen.charged()?;
    for (holder, share) in [("holds_one", 0.1), ("holds_three", 0.3), ("holds_six", 0.6)] {
        let its = through(&seen.mutex, holder);
        ensure!((its / charged - share).abs() < 0.05, "{holder} has {its} of {charged}");
    }
    // Who has it for no time at all lets the next one go all the same, and is not charged with what that one has waited for others.
    ensure!(through(&seen.mutex, "only_wants") < 0.02 * charged, "{:?}", seen.mutex.cumulative());
    Ok(())
}

#[test]
fn a_process_that_shares_the_address_space_is_charged_with_a_lock_that_is_private_to_it() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let seen = record(&build("releases", Build::CBare)?, &["space"])?;
    seen.waited("space")?;
    let charged = seen.charged()?;
    let holder = through(&seen.mutex, "holds_in_same_space");
    ensure!(holder > 0.95 * charged, "{holder} of {charged}: {:?}", seen.mutex.cumulative());
    Ok(())
}

#[test]
fn who_waits_in_vain_is_charged_to_nobody_and_that_is_said() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let seen = record(&build("releases", Build::CBare)?, &["gives_up"])?;
    let (blocked, gave_up) = (through(&seen.block, "gives_up"), seen.gave_up.context("what those waited that gave up")?);
    ensure!((blocked / gave_up - 1.0).abs() < SHARE, "block: {blocked} of {gave_up}");
    // The next one that lets the lock go has made nobody wait but the one that waits then.
    let (charged, held) = (seen.charged()?, through(&seen.mutex, "held_for_one"));
    ensure!(held > 0.98 * charged && through(&seen.mutex, "held_in_vain") == 0.0, "{:?}", seen.mutex.cumulative());
    let said = not_charged(&seen.mutex)?;
    ensure!((said / gave_up - 1.0).abs() < SHARE, "{said} of {gave_up}: {:?}", seen.mutex.comments);
    Ok(())
}

#[test]
fn beside_a_release_stands_the_one_that_waited_for_it() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let seen = record_as(&build("releases", Build::CBare)?, &["gives_up"], &["-e", "block,mutex", "--pairs"], |_| Ok(()))?;
    seen.charged()?;
    let is_by = |label: &str, function: &str| label.split(" > ").any(|name| name == function);
    let of_lock = seen.mutex.only(|sample| seen.mutex.names(sample).contains(&"held_for_one"));
    let beside = |function: &str| of_lock.only(|sample| sample.label("waiter").is_some_and(|label| is_by(&label.text, function))).total(1);
    // There is one thread that waits for it, and the others have given up.
    ensure!(beside("waits_once") == of_lock.total(1) && beside("gives_up") == 0, "{:?}", of_lock.label_values("waiter"));
    let wakers = seen.block.only(|sample| seen.block.names(sample).contains(&"waits_once")).label_values("waker");
    ensure!(!wakers.is_empty() && wakers.keys().all(|waker| is_by(waker, "held_for_one")), "{wakers:?}");
    Ok(())
}

/// A copy of the C library in a folder of its own, by which no debug symbols are found: as it is on most machines.
fn without_debug_symbols(program: &Path) -> Result<Folder> {
    let listed = Command::new("ldd").arg(program).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let library = listed.lines().find_map(|line| line.trim().strip_prefix("libc.so.6 => ")?.split(' ').next());
    let library = PathBuf::from(library.with_context(|| listed.clone())?);
    let folder = Folder::create()?;
    let sections = ["--remove-section=.note.gnu.build-id", "--remove-section=.gnu_debuglink", "--strip-all"];
    let status = Command::new("objcopy").args(sections).arg(library).arg(folder.join("libc.so.6")).status()?;
    ensure!(status.success(), "objcopy: {status}");
    Ok(folder)
}

#[test]
fn who_lets_a_lock_go_by_beginning_to_wait_is_charged_with_it() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("ldd"), Need::Program("objcopy")]) {
        return Ok(());
    }
    let program = build("releases", Build::CBare)?;
    let folder = without_debug_symbols(&program)?;
    for is_bare in [false, true] {
        let mut command = Command::new(&program);
        command.arg("condition");
        if is_bare {
            command.env("LD_LIBRARY_PATH", folder.path());
        }
        let (mut subject, mut stdin) = Subject::start_told(command)?;
        let mut recording = Profiler::record()?.pid(subject.pid()).args(["-e", "mutex"]).start()?;
        recording.wait_until_recording()?;
        stdin.write_all(b"go\n")?;
        let line = subject.wait_for_line("waited")?;
        let waited: f64 = line.trim_start_matches("waited").trim().parse()?;
        let mutex = read(&recording.interrupt()?.success()?, "mutex")?;
        let charged = through(&mutex, "begins_to_wait");
        ensure!((charged / waited - 1.0).abs() < SHARE, "bare {is_bare}: {charged} of {waited}: {:#?}", mutex.comments);
        // What it is not is said.
        ensure!(mutex.comment("not seen: waits that did not sleep").is_some(), "{:#?}", mutex.comments);
    }
    Ok(())
}

#[test]
fn where_there_is_no_room_for_more_words_what_is_lost_is_counted() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut command = Command::new(build("releases", Build::CBare)?);
    command.args(["words", "70000"]);
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["-e", "mutex"]).start()?;
    recording.wait_until_recording()?;
    stdin.write_all(b"go\n")?;
    subject.wait_for_line("waited")?;
    let run = recording.interrupt()?.success()?;
    let mutex = Profile::read(&run.folder.join("mutex.prof"))?;
    let lost = mutex.losses()?.get("waits map full").copied().unwrap_or(0);
    // Two threads let each other go some eighty times, and each of those is lost; the words themselves nobody lets go.
    ensure!((40..=90).contains(&lost) && mutex.samples.is_empty(), "{lost} lost: {:#?}", mutex.comments);
    ensure!(mutex.balance()?.difference == 0, "{:#?}", mutex.comments);
    Ok(())
}

#[test]
fn words_of_processes_that_have_ended_make_room_for_others() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let program = build("releases", Build::CBare)?;
    // Of three of them there is room for one and a half.
    let script = format!("for i in 1 2 3; do printf 'go\\nend\\n' | {} words 40000; done", program.display());
    let run = Profiler::record()?.args(["-e", "mutex", "--", "sh", "-c", &script]).run()?.success()?;
    let mutex = read(&run, "mutex")?;
    let waited: Vec<f64> = String::from_utf8_lossy(&run.stdout).lines().flat_map(|line| numbers(line, "waited")).collect();
    let (charged, truth) = (through(&mutex, "contends"), waited.iter().sum::<f64>());
    ensure!(waited.len() == 3 && (charged / truth - 1.0).abs() < SHARE, "{charged} of {waited:?}: {:#?}", mutex.comments);
    Ok(())
}

#[test]
fn waits_of_which_few_are_taken_stand_for_all() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut command = Command::new(build("locks", Build::CBare)?);
    command.arg("mutex");
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    // No wait is as long as a rate of 100 ms: each is taken by chance.
    let rates = ["-e", "block,mutex", "--block-rate", "100ms", "--mutex-fraction", "4"];
    let mut recording = Profiler::record()?.pid(subject.pid()).args(rates).start()?;
    recording.wait_until_recording()?;
    stdin.write_all(b"go\n")?;
    let truth = *numbers(&subject.wait_for_line("waited")?, "waited").first().context("what it waited")?;
    let run = recording.interrupt()?.success()?;
    let (block, mutex) = (read(&run, "block")?, read(&run, "mutex")?);
    // Those that are taken stand for 100 ms each; some 150 of 900, so that a standard error is 8 %.
    let (waited, taken) = (through(&block, "acquire"), block.balance()?.samples as f64);
    ensure!((waited - truth).abs() < 5.0 * 1e8 * taken.sqrt(), "block: {waited} of {truth} from {taken} taken");
    ensure!(taken < 0.4 * block.balance()?.ticks as f64 && block.total(0) as f64 > 2.0 * taken, "{:#?}", block.comments);
    // Of releases one in four is, of delays that differ: a standard error of some 7 %.
    let (charged, taken) = (mutex.total(1) as f64, mutex.balance()?.samples as f64);
    ensure!((charged / truth - 1.0).abs() < 0.4, "mutex: {charged} of {truth} from {taken} taken");
    ensure!(taken < 0.4 * mutex.balance()?.ticks as f64, "{:#?}", mutex.comments);
    Ok(())
}

#[test]
fn waits_of_32_bit_programs_are_seen() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    let program = folder.join("waits32");
    let source = profiler_tests::subject::source("waits32", Build::C);
    let flags = ["-m32", "-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie", "-fno-stack-protector"];
    let status = Command::new("gcc").args(flags).arg("-o").arg(&program).arg(source).status()?;
    ensure!(status.success(), "gcc -m32: {status}");
    let run = Profiler::record()?.args(["-e", "block", "--", &program.to_string_lossy()]).run()?.success()?;
    let block = read(&run, "block")?;
    // Twenty waits of 50 ms at one word, which nobody ends: one wait.
    let seconds = block.total(1) as f64 / 1e9;
    ensure!((0.98..1.2).contains(&seconds) && block.total(0) == 1, "{} of {seconds} s: {:#?}", block.total(0), block.comments);
    Ok(())
}
