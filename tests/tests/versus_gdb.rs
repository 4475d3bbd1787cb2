//! Side by side with gdb, which walks each stack at the instant of its sample: no frame is wrong. Where rows were made wrong, the same comparison says so.

use anyhow::{Context, Result, ensure};
use profiler_tests::gdb::Gdb;
use profiler_tests::manifest::root;
use profiler_tests::planted::enlarge_frames;
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler};
use profiler_tests::side_by_side::{Compared, compare};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use profiler_tests::waiting;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Stacks that must be the same frame by frame, over all programs.
const EQUAL_MIN: i64 = 1_000;

/// Whether gdb and these are here.
#[track_caller]
fn possible(builds: &[Build], programs: &[&str]) -> bool {
    let needs: Vec<Need<'_>> = ["gdb"].iter().chain(programs).map(|program| Need::Program(program)).collect();
    can_record(builds) && ready(&needs)
}

/// A script of the shell that becomes the program once the file `go` is made: gdb and the profiler are there before it.
fn held(folder: &Folder, script: &str) -> Result<Subject> {
    let mut command = Command::new("bash");
    command.current_dir(folder.path()).args(["-c", &format!("echo ready; until [ -e go ]; do sleep 0.05; done; {script}")]);
    Subject::start_command(command)
}

/// Records a process with gdb beside it until gdb has walked that many stacks or the process has ended, and compares.
fn beside_gdb(
    subject: Subject,
    frames_of: Option<&Path>,
    stacks: usize,
    begin: impl FnOnce() -> Result<()>,
) -> Result<(Compared, Profile)> {
    let pid = subject.pid();
    let mut gdb = Gdb::attach(pid, frames_of)?;
    let recording = ["--user-only", "--no-inherit", "--stop-at-sample", "-F", "199"];
    let mut recording = Profiler::record()?.pid(pid).args(recording).start()?;
    recording.wait_until_recording()?;
    begin()?;
    waiting::until("gdb to walk", || Ok((gdb.walked() >= stacks || gdb.has_ended()?).then_some(())))?;
    // The recording ends first: a stop without gdb would stay.
    let profile = recording.interrupt()?.success()?.profile()?;
    drop(subject);
    Ok((compare(&profile.taken(), &gdb.finish()?), profile))
}

/// The same of a program whose frames must all be right; gives how many stacks were the same.
fn agrees(name: &str, subject: Subject, stacks: usize, begin: impl FnOnce() -> Result<()>) -> Result<i64> {
    let (compared, profile) = beside_gdb(subject, None, stacks, begin)?;
    let Compared { equal, beyond_gdb, cut, wrong, shown } = compared;
    let endings = profile.endings()?;
    println!("{name}: {equal} equal, {beyond_gdb} further than gdb, {cut} cut, {wrong} wrong; {endings:?}\n{}", shown.join("\n"));
    ensure!(wrong == 0, "{name}: {wrong} stacks are not gdb's:\n{}", shown.join("\n"));
    let said_so: i64 = endings.iter().filter(|(words, _)| *words != "root reached").map(|(_, count)| count).sum();
    ensure!(cut <= said_so, "{name}: {cut} stacks are cut, and {said_so} say so: {endings:?}");
    ensure!(beyond_gdb * 20 <= equal, "{name}: gdb could not follow {beyond_gdb} stacks, which are too many beside {equal}");
    Ok(equal)
}

fn at_once() -> Result<()> {
    Ok(())
}

#[test]
fn no_frame_is_another_than_gdbs() -> Result<()> {
    if !possible(&[Build::CBare, Build::Go], &["bash", "/usr/bin/python3", "perl", "xz", "git", "g++"]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    let begin = || fs::write(folder.join("go"), "").context("letting the program go");
    let walks = Subject::start(&build("walks", Build::CBare)?, ["all", "0.05", "endless"])?;
    let mut equal = agrees("walks", walks, 350, at_once)?;
    let script = "import json, re\nprint('ready', flush=True)\nwhile True:\n d = {str(i): [i, i / 2, 'x%d' % i] for i in range(300)}\n json.loads(json.dumps(d, indent=1))\n sorted(d, key=lambda k: (len(k), k[::-1]))\n re.findall('([0-9]+)x?', '12x 34 ' * 100)\n";
    equal += agrees("python3", Subject::start(Path::new("/usr/bin/python3"), ["-c", script])?, 300, at_once)?;
    let script = "$| = 1; print \"ready\\n\"; while (1) { my %h; for (1..3000) { $h{$_ % 977} .= \"x$_ \" } my @k = sort { $h{$a} cmp $h{$b} } keys %h; s/(x\\d+) /<$1>/g for values %h; }";
    equal += agrees("perl", Subject::start(Path::new("/usr/bin/perl"), ["-e", script])?, 200, at_once)?;
    equal += agrees("a Go program", Subject::start(&build("gospin", Build::Go)?, [""; 0])?, 100, at_once)?;
    equal += agrees("xz", held(&folder, "exec xz -c /dev/urandom > /dev/null")?, 100, begin)?;
    fs::remove_file(folder.join("go"))?;
    let script = "git init -q . && for i in $(seq 1 30); do seq $i $((i * 6000)) > f$((i % 7)); git add .; git -c user.name=x -c user.email=x commit -qm $i; done";
    ensure!(Command::new("bash").args(["-c", script]).current_dir(folder.path()).status()?.success(), "making a repository");
    equal += agrees("git", held(&folder, "exec git --no-pager log -p --stat --patience > /dev/null")?, 200, begin)?;
    fs::remove_file(folder.join("go"))?;
    let source = root().join("tests/subjects/templates.cpp");
    let compile = format!(
        "exec $(g++ -print-prog-name=cc1plus) -quiet -imultiarch $(g++ -print-multiarch) -D_GNU_SOURCE -O2 {} -o /dev/null",
        source.display()
    );
    equal += agrees("the compiler", held(&folder, &compile)?, 400, begin)?;
    println!("{equal} stacks are gdb's");
    ensure!(equal >= EQUAL_MIN, "{equal} stacks are too few to say so");
    Ok(())
}

/// Runs a copy of `walks` whose rows were changed; gdb reads those of the program as it was built.
fn planted(change: impl FnOnce(&Path) -> Result<()>) -> Result<(Compared, Profile)> {
    let (intact, folder) = (build("walks", Build::CBare)?, Folder::create()?);
    let copy = folder.join("walks");
    fs::copy(&intact, &copy)?;
    change(&copy)?;
    beside_gdb(Subject::start(&copy, ["deep", "0.05", "endless"])?, Some(&intact), 100, at_once)
}

#[test]
fn rows_made_wrong_are_found() -> Result<()> {
    if !possible(&[Build::CBare], &["nm", "readelf"]) {
        return Ok(());
    }
    let (intact, _) = planted(|_| Ok(()))?;
    ensure!(intact.wrong == 0 && intact.equal >= 90, "with nothing planted: {intact:?}");
    // Every second frame is left out; and of two hundred a single one. Both walks reach their root, and look right.
    for function in ["deep_walk", "burn"] {
        let (compared, profile) = planted(|copy| enlarge_frames(copy, function, 16))?;
        println!("{function}: {compared:?}, {:?}", profile.endings()?);
        let rooted = profile.rooted()?;
        ensure!(rooted >= 0.9, "{function}: what is planted is found without gdb: {:?}", profile.endings()?);
        ensure!(compared.wrong >= 90 && compared.equal * 10 <= compared.wrong, "{function}: what is planted is not found: {compared:?}");
    }
    Ok(())
}
