//! A program that lived 50 ms and is gone when the profile is written still has its names: the same file again and again, a fresh copy each time that is
//! deleted as soon as it runs, and a real tool in a loop.

use anyhow::{Result, ensure};
use profiler_tests::profile::{Profile, Sample, UNNAMED};
use profiler_tests::run::{Folder, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, build};
use std::fs;
use std::process::Command;

/// Runs of the short program.
const RUNS: u32 = 200;
/// The share of samples that must carry the right names.
const NAMED_MIN: f64 = 0.95;

/// Whether a sample's frames all have names.
fn is_named(profile: &Profile, sample: &Sample) -> bool {
    !profile.names(sample).contains(&UNNAMED)
}

/// Of the samples of processes with this name, the share that carries the right names: the program's own functions where it did its work, and nothing
/// without a name in its start and end.
fn right_names(profile: &Profile, comm: &str, runs: u32) -> Result<()> {
    let of_program = profile.labelled("comm", comm);
    let total = of_program.total(0);
    let in_work = of_program.only(|sample| of_program.names(sample).contains(&"short_one"));
    let elsewhere = of_program.only(|sample| !of_program.names(sample).contains(&"short_one") && is_named(&of_program, sample));
    let named = (in_work.total(0) + elsewhere.total(0)) as f64 / total as f64;
    let worked = in_work.total(0) as f64 / total as f64;
    println!("{comm}: {total} samples, {named:.4} named, {worked:.4} in its work");
    // 50 ms at 997 Hz are 50 samples a run.
    ensure!(total > i64::from(runs) * 45, "{total} samples of {runs} runs; lost {:?}", profile.losses()?);
    ensure!(named >= NAMED_MIN, "{named} of the samples carry their names; the rest: {:?}", of_program.flat());
    ensure!(worked >= 0.85, "only {worked} of the samples are in the function that does the work: {:?}", of_program.cumulative());
    Ok(())
}

#[test]
fn the_same_file_200_times() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let short = build("short", Build::C)?;
    let script = format!("for i in $(seq {RUNS}); do {} 50; done", short.display());
    let profile = Profiler::record()?.args(["-F", "997", "--", "sh", "-c", &script]).run()?.success()?.profile()?;
    right_names(&profile, "short", RUNS)?;
    let pids = profile.labelled("comm", "short").label_values("pid").len();
    assert_eq!(pids, RUNS as usize, "each run is a process of its own");
    Ok(())
}

#[test]
fn a_fresh_copy_each_time_deleted_right_after_its_exec() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("objcopy")]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    let copies = distinct_copies(&folder)?;
    let script = format!("for i in $(seq {RUNS}); do {0}/short-$i 50 {0}/short-$i; done", folder.path().display());
    let profile = Profiler::record()?.args(["-F", "997", "--", "sh", "-c", &script]).run()?.success()?.profile()?;
    assert_eq!(folder.names()?, [""; 0], "each copy has deleted itself");
    let renamed = profile.only(|sample| sample.label("comm").is_some_and(|label| label.text.starts_with("short-")));
    let mut one_name = renamed.clone();
    one_name
        .samples
        .iter_mut()
        .flat_map(|sample| &mut sample.labels)
        .filter(|label| label.key == "comm")
        .for_each(|label| label.text = "short".to_owned());
    right_names(&one_name, "short", RUNS)?;
    let seen = profile.mappings.iter().filter(|mapping| copies.contains(&mapping.build_id)).count();
    assert_eq!(seen, RUNS as usize, "each copy is a mapping with its own build id");
    Ok(())
}

/// Copies of the short program with a build id of their own; gives the build ids.
fn distinct_copies(folder: &Folder) -> Result<Vec<String>> {
    let short = build("short", Build::C)?;
    let mut ids = Vec::new();
    for run in 1..=RUNS {
        let mut note = [4u32, 20, 3].iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        note.extend(b"GNU\0");
        let id: Vec<u8> = run.to_le_bytes().repeat(5);
        note.extend(&id);
        ids.push(id.iter().map(|byte| format!("{byte:02x}")).collect());
        let (note_file, copy) = (folder.join("note"), folder.join(format!("short-{run}")));
        fs::write(&note_file, note)?;
        let section = format!(".note.gnu.build-id={}", note_file.display());
        let status = Command::new("objcopy").arg("--update-section").arg(section).arg(&short).arg(&copy).status()?;
        ensure!(status.success(), "objcopy: {status}");
        fs::remove_file(note_file)?;
    }
    Ok(ids)
}

#[test]
fn a_real_tool_in_a_loop() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("git")]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    // A history that takes some milliseconds to show.
    let history = "git init -q . && for i in $(seq 300); do printf 'commit refs/heads/main\\ncommitter A <a@b> %d +0000\\ndata 2\\nx\\n' $i; done | git fast-import --quiet";
    let made = Command::new("sh").current_dir(folder.path()).args(["-c", history]).status()?;
    ensure!(made.success(), "making a history: {made}");
    let script = format!("cd {} && for i in $(seq 150); do git log --stat main > /dev/null; done", folder.path().display());
    let profile = Profiler::record()?.args(["-F", "997", "--", "sh", "-c", &script]).run()?.success()?.profile()?;
    let git = profile.labelled("comm", "git");
    ensure!(git.total(0) > 300, "{} samples of git", git.total(0));
    // Debian's git is stripped, so its own functions have no names; the kernel's and those of libraries that export them have. What must never be
    // missing is the file.
    let placed = git.only(|sample| {
        sample.locations.iter().all(|at| git.locations[*at].mapping.is_some_and(|mapping| !git.mappings[mapping].filename.is_empty()))
    });
    let share = placed.total(0) as f64 / git.total(0) as f64;
    ensure!(share >= NAMED_MIN, "only {share} of the samples know their files");
    let kernel = git.only(|sample| git.leaf_mapping(sample).is_some_and(|mapping| mapping.filename.starts_with("[kernel")));
    ensure!(kernel.samples.iter().all(|sample| git.names(sample)[0] != UNNAMED), "kernel functions without a name");
    Ok(())
}
