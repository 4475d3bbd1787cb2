//! Whole stacks without frame pointers: programs that are hard to walk, programs that distributions ship, and programs that live for a moment.

use anyhow::{Context as _, Result, bail, ensure};
use profiler_tests::manifest::root;
use profiler_tests::profile::Profile;
use profiler_tests::run::{Outcome, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::fs;

/// Recordings at most, where each begins without a table: how long the first stacks wait for theirs depends on what else the machine does.
const LOOKS: u32 = 3;

/// Records one of the walks of `walks.c`.
fn record(name: &str, more: &[&str]) -> Result<Profile> {
    let walks = build("walks", Build::CBare)?;
    let run = Profiler::record()?.args(["-F", "1999"]).args(more).args(["--", &walks.to_string_lossy(), name, "0.5"]).run()?;
    run.success()?.profile()
}

/// The share of the samples in `burn` whose frames from there on are these, by name; `*` stands for any frames, NAME*N for N of them.
fn share(profile: &Profile, frames: &[&str]) -> Result<f64> {
    let (mut all, mut right, mut other) = (0, 0, Vec::new());
    for sample in &profile.samples {
        let names = profile.names(sample);
        let Some(at) = names.iter().position(|name| *name == "burn") else { continue };
        all += sample.values[0];
        if matches(&names[at + 1..], frames) {
            right += sample.values[0];
        } else {
            other = names.iter().map(|name| (*name).to_owned()).collect();
        }
    }
    ensure!(all > 200, "{all} samples in burn");
    let share = right as f64 / all as f64;
    println!("{frames:?}: {share:.4} of {all}; the last other one: {other:?}");
    Ok(share)
}

fn matches(names: &[&str], frames: &[&str]) -> bool {
    match frames {
        [] => names.is_empty(),
        ["*", rest @ ..] => (0..=names.len()).any(|skipped| matches(&names[skipped..], rest)),
        [frame, rest @ ..] => {
            let (name, times) = frame.split_once('*').map_or((*frame, 1), |(name, times)| (name, times.parse().unwrap_or(1)));
            names.len() >= times && names[..times].iter().all(|found| *found == name) && matches(&names[times..], rest)
        }
    }
}

#[test]
fn hard_stacks_are_whole() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let walks: [(&str, &[&str]); 7] = [
        ("deep", &["deep_walk*201", "run", "main", "*", "_start"]),
        ("alloca", &["alloca_walk", "run", "main", "*", "_start"]),
        ("aligned", &["aligned_walk", "run", "main", "*", "_start"]),
        ("noreturn", &["never_returns", "noreturn_walk", "run", "main", "*", "_start"]),
        ("context", &["on_context", "*"]),
        ("thread", &["thread_walk", "start_thread", "*"]),
        ("callback", &["compare", "*", "callback_walk", "run", "main", "*", "_start"]),
    ];
    for (name, frames) in walks {
        let profile = record(name, &[])?;
        let share = share(&profile, frames)?;
        ensure!(share >= 0.995, "{name}: {share:.4} of the stacks are as they should be; {:?}", profile.endings()?);
        // A context's first frame is glibc's `__start_context`, which says nothing of its caller: there is none.
        ensure!(name == "context" || profile.rooted()? >= 0.99, "{name}: {:?}", profile.endings()?);
    }
    Ok(())
}

/// Its handler has a stack of its own. Until the tables are there, only the bytes of that stack go along with a sample; so this one comes after others.
#[test]
fn a_signal_handlers_stack_leads_to_what_it_interrupted() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut profile = record("all", &[])?;
    let names = |profile: &Profile, at: usize| profile.names(&profile.samples[at]).contains(&"handler");
    let kept = (0..profile.samples.len()).filter(|at| names(&profile, *at)).map(|at| profile.samples[at].clone()).collect();
    profile.samples = kept;
    let share = share(&profile, &["handler", "*", "signal_walk", "run", "main", "*", "_start"])?;
    ensure!(share >= 0.995, "{share:.4} of the stacks are as they should be; {:?}", profile.endings()?);
    Ok(())
}

#[test]
fn frame_pointers_alone_show_fragments_of_them() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let share = share(&record("deep", &["--frame-pointers"])?, &["deep_walk*201", "run", "main", "*", "_start"])?;
    ensure!(share < 0.01, "{share:.4} of the stacks are whole without the tables: then this file tests nothing");
    Ok(())
}

/// A leaf of Go's that keeps no frame: its caller is found by the table that Go's runtime itself walks with, which no `strip` takes away.
#[test]
fn a_go_function_without_a_frame_has_its_caller() -> Result<()> {
    if !can_record(&[Build::Go, Build::GoStripped]) {
        return Ok(());
    }
    frameless_leaf(Build::Go)?;
    frameless_leaf(Build::GoStripped)
}

fn frameless_leaf(kind: Build) -> Result<()> {
    let subject = Subject::start(&build("gospin", kind)?, [""; 0])?;
    let profile = Profiler::record()?.pid(subject.pid()).args(["-F", "997", "-d", "3"]).run()?.success()?.profile()?;
    let (mut all, mut right) = (0, 0);
    for sample in &profile.samples {
        let names = profile.names(sample);
        let Some(at) = names.iter().position(|name| *name == "main.spinHere") else { continue };
        all += sample.values[0];
        right += if names.get(at + 1) == Some(&"main.outer") { sample.values[0] } else { 0 };
    }
    ensure!(all > 1_000 && right as f64 >= 0.995 * all as f64, "{right} of {all} samples of main.spinHere have main.outer as its caller");
    ensure!(profile.rooted()? >= 0.995, "{:?}", profile.endings()?);
    Ok(())
}

/// Go's code, C that it calls and Go that this calls back run on two stacks, and are one.
#[test]
fn go_and_c_call_each_other_on_one_stack() -> Result<()> {
    if !can_record(&[Build::Go, Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("cgospin", Build::Go)?, [""; 0])?;
    let profile = Profiler::record()?.pid(subject.pid()).args(["-F", "997", "-d", "10"]).run()?.success()?.profile()?;
    let stacks: [&[&str]; 2] = [
        &["c_inner", "c_middle", "*", "runtime.asmcgocall", "runtime.cgocall", "*", "main.goCallsC", "main.main", "*", "runtime.goexit"],
        &[
            "main.goFromC",
            "*",
            "runtime.cgocallback",
            "*",
            "goFromC",
            "c_calls_go",
            "*",
            "runtime.cgocall",
            "*",
            "main.goCallsCCallsGo",
            "main.main",
            "*",
            "runtime.goexit",
        ],
    ];
    for frames in stacks {
        let (mut all, mut right, mut other) = (0, 0, Vec::new());
        for sample in &profile.samples {
            let names = profile.names(sample);
            let Some(at) = names.iter().position(|name| *name == frames[0]) else { continue };
            all += sample.values[0];
            if matches(&names[at..], frames) {
                right += sample.values[0];
            } else {
                other = names.iter().map(|name| (*name).to_owned()).collect();
            }
        }
        // The first samples, before there are tables, end where their own stack does.
        ensure!(all > 500 && right as f64 >= 0.97 * all as f64, "{frames:?}: {right} of {all}; the last other one: {other:?}");
    }
    Ok(())
}

#[test]
fn a_stack_deeper_than_the_bound_says_so() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let profile = record("deepest", &[])?;
    ensure!(share(&profile, &["deep_walk*900", "*"])? >= 0.99, "not even 900 frames of 5,000");
    let endings = profile.endings()?;
    ensure!(endings.get("depth limit").copied().unwrap_or(0) > 200, "{endings:?}");
    Ok(())
}

#[test]
fn short_lives_of_fresh_files_have_whole_stacks() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let walks = fs::canonicalize(build("walks", Build::CBare)?)?;
    let series = |milliseconds: u32| {
        let folder = tempfile(&format!("fresh-{milliseconds}"))?;
        // Another inode and another build id each time: the note's first byte is the run's number.
        let script = format!(
            "for run in $(seq 1 100); do f={0}/walks$run; objcopy --update-section .note.gnu.build-id=<(printf '\\x04\\0\\0\\0\\x14\\0\\0\\0\\x03\\0\\0\\0GNU\\0%020d' $run) {1} $f && $f deep 0.0{2:02} && rm $f; done",
            folder.display(),
            walks.display(),
            milliseconds.min(99)
        );
        let profile = Profiler::record()?.args(["-F", "997", "--", "bash", "-c", &script]).run()?.success()?.profile()?;
        let share = share(&profile, &["deep_walk*201", "run", "main", "*", "_start"])?;
        fs::remove_dir_all(&folder)?;
        Ok::<_, anyhow::Error>((share, profile))
    };
    for (milliseconds, least) in [(100, 0.99), (50, 0.99), (10, 0.95)] {
        let (mut share, mut profile) = series(milliseconds)?;
        // A file must be read before the program that runs it has ended: where the machine did something else meanwhile, once more.
        if share < least {
            (share, profile) = series(milliseconds)?;
        }
        ensure!(share >= least, "{milliseconds} ms: {share:.4} of the stacks are whole and named; {:?}", profile.endings()?);
    }
    Ok(())
}

#[test]
fn short_lives_of_a_file_that_was_met_before_have_whole_stacks() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let walks = fs::canonicalize(build("walks", Build::CBare)?)?;
    let script = format!("for run in $(seq 1 150); do {} deep 0.010; done", walks.display());
    let profile = Profiler::record()?.args(["-F", "997", "--", "bash", "-c", &script]).run()?.success()?.profile()?;
    let share = share(&profile, &["deep_walk*201", "run", "main", "*", "_start"])?;
    ensure!(share >= 0.99, "{share:.4} of the stacks are whole and named; {:?}", profile.endings()?);
    Ok(())
}

/// Programs as the distribution ships them, each run several times.
fn tools(more: &[&str]) -> Result<Outcome> {
    let folder = tempfile("tools")?;
    let templates = root().join("tests/subjects/templates.cpp");
    let script = format!(
        "cd {0}; git init -q .; for i in $(seq 1 40); do seq $i $((i * 500)) > f$i; git add .; git -c user.name=x -c user.email=x commit -qm $i; done; \
         git log -p --stat > /dev/null; g++ -O2 -c -o t.o {1}; \
         python3 -c 'import json; [json.loads(json.dumps(list(range(2000)))) for _ in range(400)]'; \
         perl -e 'for (1..300000) {{ $h{{$_ % 977}} .= \"x\" }} $s = join \",\", sort keys %h;'; \
         for i in $(seq 1 100); do ls -l /usr/bin | sort > /dev/null; done",
        folder.display(),
        templates.display()
    );
    let outcome = Profiler::record()?.args(["-F", "997", "--self-cost"]).args(more).args(["--", "bash", "-c", &script]).run()?.success();
    fs::remove_dir_all(&folder)?;
    outcome
}

/// Whether the tools are here.
#[track_caller]
fn has_tools() -> bool {
    can_record(&[]) && ready(&["git", "g++", "python3", "perl", "bash"].map(Need::Program))
}

/// Whatever frames they are built with, their stacks reach their root.
#[test]
fn tools_of_the_distribution_are_walked_to_their_root() -> Result<()> {
    if !has_tools() {
        return Ok(());
    }
    let mut told = Vec::new();
    for _ in 0..LOOKS {
        let profile = tools(&[])?.profile()?;
        let (rooted, endings) = (profile.rooted()?, profile.endings()?);
        println!("{:.2} %: {endings:?}", 100.0 * rooted);
        ensure!(profile.total(0) > 2_000, "{} samples say too little", profile.total(0));
        if rooted >= 0.995 {
            return Ok(());
        }
        told.push((rooted, endings));
    }
    bail!("too few of the user stacks reach their root: {told:?}")
}

/// With room for a part of the tables only, some go, are counted, and come back; stacks that meet none are finished all the same.
#[test]
fn tables_that_find_no_room_are_evicted_and_counted() -> Result<()> {
    if !has_tools() {
        return Ok(());
    }
    let outcome = tools(&["--unwind-memory", "3M"])?;
    let line = outcome.stderr.lines().find(|line| line.starts_with("unwind tables: ")).context("--self-cost shows the tables")?;
    let number = |after: &str| line.split(after).next().and_then(|text| text.rsplit(' ').next()).and_then(|word| word.parse::<u64>().ok());
    let (evicted, kilobytes) = (number(" evicted").context("a number")?, number(" kB").context("a size")?);
    ensure!(evicted > 0 && kilobytes <= 3072, "{line}");
    let profile = outcome.profile()?;
    ensure!(profile.rooted()? >= 0.95, "{line}; {:?}", profile.endings()?);
    Ok(())
}

fn tempfile(name: &str) -> Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("profiler-unwinding-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
