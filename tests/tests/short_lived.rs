//! A program that lived 50 ms and is gone when the profile is written still has its names: the same file again and again, a fresh copy each time that is
//! deleted as soon as it runs, and a real tool in a loop.

use anyhow::{Context, Result, ensure};
use profiler_tests::manifest::root;
use profiler_tests::profile::{Profile, Sample, UNNAMED};
use profiler_tests::run::{Folder, Profiler};
use profiler_tests::skip::{Need, can_record, find, ready};
use profiler_tests::subject::{Build, build};
use profiler_tests::symbols::{Symbols, base, of_the_kernel};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
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
    // Places that the file has no name for, as in its PLT, are a second mapping, without functions (`encode/pprof.rs`).
    // One that has ended before a busy machine let it be read has a mapping without functions.
    let of_copies = profile.mappings.iter().filter(|mapping| mapping.has_functions && copies.contains(&mapping.build_id));
    let (seen, ids) = (of_copies.clone().count(), of_copies.map(|mapping| &mapping.build_id).collect::<BTreeSet<_>>().len());
    ensure!(seen == ids && ids as f64 >= NAMED_MIN * f64::from(RUNS), "{seen} mappings, {ids} build ids of {RUNS} copies");
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

/// Makes a history in a folder that takes some milliseconds to show: a file that changes in each of its commits.
fn history(folder: &Folder, git: &Path) -> Result<()> {
    let mut commits = String::new();
    for number in 1..=120u64 {
        let lines = (0..60u64).map(|line| format!("{line} {:x}\n", (line + number / (line + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let text: String = lines.collect();
        commits += &format!("commit refs/heads/main\ncommitter A <a@b> {number} +0000\ndata 2\nx\n");
        commits += &format!("M 644 inline file\ndata {}\n{text}\n", text.len());
    }
    fs::write(folder.join("commits"), commits)?;
    let script = format!("{0} init -q . && {0} fast-import --quiet < commits", git.display());
    let made = Command::new("sh").current_dir(folder.path()).args(["-c", &script]).output()?;
    ensure!(made.status.success(), "making a history: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// What became of the names on top of the stacks of a program.
#[derive(Default, Debug)]
struct Named {
    /// The name is one that the file or the kernel has for the place.
    right: i64,
    /// The file has no name for the place, and none is shown.
    nameless: i64,
    /// Anything else: the file, what is shown and what belongs there.
    wrong: BTreeMap<(String, String, String), i64>,
}

impl Named {
    /// Looks at the top of every stack.
    fn of(profile: &Profile) -> Result<Self> {
        let kernel = of_the_kernel()?;
        let (mut files, mut named) = (HashMap::new(), Self::default());
        for sample in &profile.samples {
            let (Some(at), Some(mapping)) = (sample.locations.first(), profile.leaf_mapping(sample)) else { continue };
            let location = &profile.locations[*at];
            let shown = location.lines.last().map(|(function, _)| base(&profile.functions[*function].name).to_owned());
            let shown = shown.unwrap_or(UNNAMED.to_owned());
            if mapping.filename.starts_with('/') {
                let symbols = match files.entry(mapping.filename.clone()) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(Symbols::read(Path::new(&mapping.filename))?),
                };
                let right = symbols.at_offset(location.address - mapping.start + mapping.offset);
                named.count(sample.values[0], &mapping.filename, shown, right.into_iter().collect());
            } else if mapping.filename.starts_with("[kernel") {
                let right = kernel.get(&shown).map(String::as_str).into_iter().collect::<Vec<_>>();
                named.count(
                    sample.values[0],
                    &mapping.filename,
                    shown,
                    if right.is_empty() { vec!["a name of the kernel's"] } else { right },
                );
            }
        }
        Ok(named)
    }

    fn count(&mut self, samples: i64, file: &str, shown: String, right: Vec<&str>) {
        match (right.contains(&shown.as_str()), right.is_empty() && shown == UNNAMED) {
            (true, _) => self.right += samples,
            (_, true) => self.nameless += samples,
            _ => *self.wrong.entry((file.to_owned(), shown, right.join(" or "))).or_default() += samples,
        }
    }
}

/// git in a loop: `git log` of a small history, as a prompt or a build asks for it.
fn git_in_a_loop(git: &Path) -> Result<Profile> {
    let folder = Folder::create()?;
    history(&folder, git)?;
    let script =
        format!("cd {} && for i in $(seq 200); do {} log -p --stat main > /dev/null; done", folder.path().display(), git.display());
    let profile = Profiler::record()?.args(["-F", "997", "--", "sh", "-c", &script]).run()?.success()?.profile()?;
    let profile = profile.labelled("comm", "git");
    ensure!(profile.total(0) > 500, "{} samples of git", profile.total(0));
    // What must never be missing is the file.
    let placed = profile.only(|sample| {
        sample
            .locations
            .iter()
            .all(|at| profile.locations[*at].mapping.is_some_and(|mapping| !profile.mappings[mapping].filename.is_empty()))
    });
    let share = placed.total(0) as f64 / profile.total(0) as f64;
    ensure!(share >= NAMED_MIN, "only {share} of the samples know their files");
    Ok(profile)
}

#[test]
fn a_real_tool_in_a_loop_has_its_right_names() -> Result<()> {
    // What `tests/subjects/git.sh` builds, and the debug file of libc, in which a part of git's time goes.
    let git = root().join("target/profiler-tests/git/git");
    let files = [Need::Path(&git.to_string_lossy()), Need::Path("/usr/lib/debug/.build-id")];
    if !can_record(&[]) || !ready(&files) || !ready(&[Need::Program("nm"), Need::Program("readelf")]) {
        return Ok(());
    }
    let profile = git_in_a_loop(&git)?;
    let (all, own) =
        (Named::of(&profile)?, profile.only(|sample| profile.leaf_mapping(sample).is_some_and(|at| Path::new(&at.filename) == git)));
    let total = profile.total(0) as f64;
    println!("{total} samples, {} right, {} in places that their file has no name for, wrong: {:?}", all.right, all.nameless, all.wrong);
    ensure!(all.right as f64 >= NAMED_MIN * total, "of {total} samples: {all:?}");
    let in_git = Named::of(&own)?;
    ensure!(in_git.right as f64 >= NAMED_MIN * own.total(0) as f64, "of {} samples in git itself: {in_git:?}", own.total(0));
    ensure!(in_git.right as f64 > 0.1 * total, "git itself has hardly a sample: {in_git:?} of {total}");
    Ok(())
}

#[test]
fn a_real_tool_without_symbols_has_the_names_that_there_are() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("git"), Need::Program("nm"), Need::Program("readelf")]) {
        return Ok(());
    }
    let profile = git_in_a_loop(&find("git").context("git is there")?)?;
    let named = Named::of(&profile)?;
    println!("{} samples, {} right, {} in places that their file has no name for", profile.total(0), named.right, named.nameless);
    let wrong: i64 = named.wrong.values().sum();
    ensure!(named.right > 0 && wrong as f64 <= 0.01 * profile.total(0) as f64, "of {} samples: {named:?}", profile.total(0));
    Ok(())
}
