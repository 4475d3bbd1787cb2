//! `-e block` and `-e mutex` of a Go program: the waits of its goroutines, as its own `/debug/pprof/block` and `mutex` have them; and what is said where it records none.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler, Running};
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{ChildStdin, Command};

/// Waits and time of each stack, as (function, place) from the leaf.
type Rows = BTreeMap<Vec<(String, String)>, (i64, i64)>;

/// The rows of a text, `time count @ addresses` with a line for each function below. Times in ns. `wanted`: whether a row with these labels is.
fn rows(text: &str, wanted: impl Fn(&str) -> bool) -> Result<Rows> {
    let per_second = text.lines().find_map(|line| line.strip_prefix("cycles/second=")).context("no cycles in a second")?;
    let giga: f64 = per_second.parse::<i64>()? as f64 / 1e9;
    let mut rows = Rows::new();
    for block in text.split("\n\n") {
        let Some(at) = block.lines().position(|line| !line.starts_with('#') && line.contains(" @ ")) else { continue };
        let mut lines = block.lines().skip(at);
        let figures = lines.next().and_then(|line| line.split(" @ ").next()).and_then(|figures| figures.split_once(' '));
        let (time, count) = figures.context("two figures")?;
        let lines: Vec<&str> = lines.collect();
        if !wanted(lines.iter().find(|line| line.starts_with("# labels: ")).unwrap_or(&"")) {
            continue;
        }
        let frame = |line: &&str| {
            let mut cells = line.strip_prefix("#\t0x")?.split('\t').filter(|cell| !cell.is_empty()).skip(1);
            Some((cells.next()?.split("+0x").next()?.to_owned(), cells.next()?.to_owned()))
        };
        let row = rows.entry(lines.iter().filter_map(frame).collect()).or_default();
        *row = (row.0 + count.parse::<i64>()?, row.1 + (time.parse::<i64>()? as f64 / giga) as i64);
    }
    Ok(rows)
}

/// The program, and where it is told what to do.
struct Told {
    go: Subject,
    orders: ChildStdin,
}

impl Told {
    fn start(how: Build) -> Result<Self> {
        let (go, orders) = Subject::start_told(Command::new(build("gowaits", how)?))?;
        Ok(Self { go, orders })
    }

    fn tell(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}")?;
        self.go.wait_for_line("done").map(|_| ())
    }

    /// Its own profiles block and mutex.
    fn own(&mut self, folder: &Folder) -> Result<[Rows; 2]> {
        let files = ["block", "mutex"].map(|kind| folder.join(format!("own-{kind}.txt")));
        self.tell(&format!("text {} {}", files[0].display(), files[1].display()))?;
        let read = |file: &PathBuf| rows(&fs::read_to_string(file)?, |_| true);
        Ok([read(&files[0])?, read(&files[1])?])
    }

    fn record(&self, args: &[&str]) -> Result<Running> {
        let mut running = Profiler::record()?.pid(self.go.pid()).args(["-e", "block,mutex"]).args(args).start()?;
        running.wait_until_recording()?;
        Ok(running)
    }
}

/// What was added to a profile.
fn difference(after: &Rows, before: &Rows) -> Rows {
    let of = |stack| before.get(stack).copied().unwrap_or_default();
    let added = after.iter().map(|(stack, row)| (stack.clone(), (row.0 - of(stack).0, row.1 - of(stack).1)));
    added.filter(|(_, row)| *row != (0, 0)).collect()
}

/// Whether a stack of a mutex profile ends a wait for one of the runtime's own locks. Those happen at any moment (who reads the next order may meet one), so also between our reading
/// and its own.
fn is_of_the_runtime(leaf: &str) -> bool {
    leaf.starts_with("runtime.")
}

fn is_of_goroutine(labels: &str) -> bool {
    labels.contains("\"waiter\":\"goroutine\"")
}

#[test]
fn the_waits_of_goroutines_are_those_of_the_programs_own_profiles_in_that_time() -> Result<()> {
    if !can_record(&[Build::Go]) {
        return Ok(());
    }
    for how in [Build::Go, Build::GoStripped] {
        let mut told = Told::start(how)?;
        // What lies before the recording is none of its business.
        for order in ["block 1", "mutex 1", "wait 1"] {
            told.tell(order)?;
        }
        let folder = Folder::create()?;
        let before = told.own(&folder)?;
        let running = told.record(&["--format", "text"])?;
        told.tell("wait 2")?;
        let run = running.interrupt()?.success()?;
        let after = told.own(&folder)?;
        for (at, kind) in ["block", "mutex"].into_iter().enumerate() {
            let text = fs::read_to_string(run.folder.join(format!("{kind}.txt")))?;
            let ours = rows(&text, is_of_goroutine)?;
            let own = difference(&after[at], &before[at]);
            ensure!(own.values().filter(|row| row.1 > 0).count() >= 20, "{how:?}: its own {kind} profile has {} rows", own.len());
            for stack in own.keys().chain(ours.keys()) {
                let (mine, its) = (ours.get(stack).copied().unwrap_or_default(), own.get(stack).copied().unwrap_or_default());
                let may_go_on = kind == "mutex" && stack.first().is_some_and(|(leaf, _)| is_of_the_runtime(leaf));
                let agree = mine == its || (may_go_on && mine.0 <= its.0 && mine.1 <= its.1);
                ensure!(agree, "{how:?}, {kind}: {mine:?} of ours is {its:?} to itself: {stack:?}");
            }
            ensure!(text.contains("those of Go's own ") && text.contains("of the last "), "{text}");
        }
    }
    Ok(())
}

#[test]
fn a_program_that_records_no_waits_is_told_how_to_and_keeps_what_its_futexes_show() -> Result<()> {
    if !can_record(&[Build::Go]) {
        return Ok(());
    }
    let mut told = Told::start(Build::Go)?;
    let running = told.record(&[])?;
    told.tell("wait 3")?;
    let run = running.interrupt()?.success()?;
    for (kind, call) in [("block", "runtime.SetBlockProfileRate(1)"), ("mutex", "runtime.SetMutexProfileFraction(1)")] {
        let profile = Profile::read(&run.folder.join(format!("{kind}.prof")))?;
        let said = |text: &str| text.contains("records no waits of goroutines") && text.contains(call);
        ensure!(profile.comments.iter().any(|comment| said(comment)), "{:?}", profile.comments);
        ensure!(run.stderr.lines().any(said), "{}", run.stderr);
    }
    // Threads of the runtime that have nothing to do wait for nobody: their monitor, for one.
    let block = Profile::read(&run.folder.join("block.prof"))?;
    let idle = |name: &&str| *name == "runtime.sysmon" || *name == "runtime.stopm";
    let idles = block.only(|sample| {
        let names = block.names(sample);
        names.iter().any(idle) && !names.iter().any(|name| name.starts_with("runtime.lock"))
    });
    ensure!(idles.total(0) == 0 && idles.total(1) == 0, "{:?}", idles.cumulative());
    ensure!(block.comment("left out: ").is_some_and(|said| said.contains("that had nothing to do")), "{:?}", block.comments);
    // What its threads have waited for each other is no goroutine's.
    ensure!(block.samples.iter().all(|sample| sample.label("waiter").is_none()), "{:?}", block.flat());
    Ok(())
}

#[test]
fn a_program_that_starts_in_the_recording_is_read_from_its_beginning_beside_others() -> Result<()> {
    if !can_record(&[Build::Go]) {
        return Ok(());
    }
    let mut running = Profiler::record()?.args(["-a", "-e", "mutex"]).start()?;
    running.wait_until_recording()?;
    let mut told = Told::start(Build::GoStripped)?;
    for order in ["mutex 1", "wait 2"] {
        told.tell(order)?;
    }
    let folder = Folder::create()?;
    let own = told.own(&folder)?;
    let run = running.interrupt()?.success()?;
    let profile = Profile::read(&run.folder.join("mutex.prof"))?;
    let pid = i64::from(told.go.pid());
    let of_it = profile.only(|sample| {
        let of_the_runtime = profile.names(sample).first().is_some_and(|leaf| is_of_the_runtime(leaf));
        sample.label("waiter").is_some() && sample.label("pid").is_some_and(|label| label.number == pid) && !of_the_runtime
    });
    let of_its_locks = own[1].iter().filter(|(stack, _)| !stack.first().is_some_and(|(leaf, _)| is_of_the_runtime(leaf)));
    let (count, ns) = of_its_locks.fold((0, 0), |sum, (_, row)| (sum.0 + row.0, sum.1 + row.1));
    ensure!(count >= 60 && of_it.total(0) == count, "{} waits of {count}", of_it.total(0));
    ensure!(of_it.total(1) == ns, "{} ns of {ns}", of_it.total(1));
    ensure!(run.stderr.contains(&format!("process {pid}: ")) && run.stderr.contains("since it began"), "{}", run.stderr);
    Ok(())
}

#[test]
fn a_program_that_ends_in_the_recording_takes_its_waits_along_and_is_named() -> Result<()> {
    if !can_record(&[Build::Go]) {
        return Ok(());
    }
    let (mut ends, mut stays) = (Told::start(Build::Go)?, Told::start(Build::Go)?);
    for told in [&mut ends, &mut stays] {
        for order in ["block 1", "mutex 1"] {
            told.tell(order)?;
        }
    }
    let (gone, pids) = (ends.go.pid(), format!("{},{}", ends.go.pid(), stays.go.pid()));
    let mut running = Profiler::record()?.args(["-p", &pids, "-e", "block,mutex"]).start()?;
    running.wait_until_recording()?;
    for told in [&mut ends, &mut stays] {
        told.tell("wait 1")?;
    }
    // Its input ends, and so does it.
    drop(ends.orders);
    ends.go.stop()?;
    let run = running.interrupt()?.success()?;
    for kind in ["block", "mutex"] {
        let profile = Profile::read(&run.folder.join(format!("{kind}.prof")))?;
        let said = |text: &str| text.contains(&format!("process {gone}: Go, and ended before the waits of its goroutines were read"));
        ensure!(profile.comments.iter().any(|comment| said(comment)), "{kind}: {:?}", profile.comments);
        ensure!(run.stderr.lines().any(said), "{}", run.stderr);
        let of = |pid: u32| {
            let is = |sample: &profiler_tests::profile::Sample| {
                sample.label("waiter").is_some() && sample.label("pid").is_some_and(|label| label.number == i64::from(pid))
            };
            profile.only(is).total(0)
        };
        ensure!(of(gone) == 0 && of(stays.go.pid()) > 0, "{kind}: {} of it, {} of the other one", of(gone), of(stays.go.pid()));
    }
    Ok(())
}
