//! `--max-overhead`: probes of allocators take no more of a program's time than was allowed; what is recorded instead says so, in a file of its own.

use anyhow::{Context as _, Result, bail, ensure};
use profiler_tests::pairs::{Pairs, SMALL, until_said};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Outcome, Profiler};
use profiler_tests::skip::can_record;
use profiler_tests::subject::Build;

fn read(run: &Outcome, kind: &str) -> Result<Profile> {
    let profile = Profile::read(&run.folder.join(format!("{kind}.prof"))).with_context(|| format!("{kind}: {}", run.stderr))?;
    ensure!(profile.balance()?.difference == 0, "{kind}: {:#?}", profile.comments);
    Ok(profile)
}

/// The share that the probes took, percent, as a profile says it.
fn taken(profile: &Profile) -> Result<f64> {
    let note = profile.comment("budget: probes took ").with_context(|| format!("{:#?}", profile.comments))?;
    Ok(note.split_whitespace().next().context("a number")?.parse()?)
}

#[test]
fn what_a_program_can_bear_is_recorded_to_the_end() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut pairs = Pairs::start()?;
    let mut recording =
        Profiler::record()?.pid(pairs.subject.pid()).args(["-e", "heap", "--sample-bytes", "1", "--max-overhead", "50%"]).start()?;
    recording.wait_until_recording()?;
    pairs.make(20_000, SMALL, 100_000)?;
    pairs.subject.wait_for_line("done")?;
    let run = recording.interrupt()?.success()?;
    ensure!(run.folder.names()? == ["heap.prof"], "{:?}", run.folder.names()?);
    let profile = read(&run, "heap")?;
    ensure!(profile.total(0) == 20_000 && profile.total(2) == 0, "{} {}", profile.total(0), profile.total(2));
    let taken = taken(&profile)?;
    ensure!(taken > 0.1 && taken < 50.0, "{taken} % of 2 s for 40,000 traps and 20,000 returns");
    Ok(())
}

/// A recording that becomes one of allocs, and how many breakpoints there were before and behind the step. What a trap costs is tried out by each recording anew,
/// and a busy machine has it otherwise from one to the next: then the budget is not between what heap takes and what allocs takes, and the next try has its own.
fn steps_to_allocs() -> Result<(Outcome, [usize; 3])> {
    let mut told = String::new();
    for _ in 0..6 {
        let whole = read(&Pairs::start()?.recorded(4000, "3", "100%")?, "heap")?;
        // More than the heap takes is never allowed, and what calls alone take is: they are half of it.
        let budget = taken(&whole)? / 1.33;
        let mut pairs = Pairs::start()?;
        ensure!(pairs.breakpoints()? == 0, "nobody looks at it yet");
        let recording = pairs.recording(SMALL, 4000, "16", &format!("{budget}%"))?;
        let of_heap = pairs.breakpoints()?;
        let of_allocs = until_said(&recording, "in allocs").and_then(|()| pairs.until_breakpoints(&recording, |number| number > 0));
        let run = recording.finish()?.success()?;
        match of_allocs {
            Ok(of_allocs) => return Ok((run, [of_heap, of_allocs, pairs.breakpoints()?])),
            Err(_) => told.push_str(&run.stderr),
        }
    }
    bail!("no budget was between what heap takes and what allocs takes:\n{told}")
}

#[test]
fn a_heap_that_is_somewhat_too_dear_goes_on_as_allocs() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let (run, [of_heap, of_allocs, left]) = steps_to_allocs()?;
    // What gives blocks back is left alone from the step on, and what allocates is not.
    ensure!(0 < of_allocs && of_allocs < of_heap && left == 0, "{of_heap}, {of_allocs}, {left}");
    ensure!(run.folder.names()? == ["allocs.prof", "heap.prof"], "{:?}: {}", run.folder.names()?, run.stderr);
    let (heap, allocs) = (read(&run, "heap")?, read(&run, "allocs")?);
    ensure!(heap.sample_types.len() == 4 && allocs.sample_types.len() == 2, "{:?}", allocs.sample_types);
    ensure!(heap.total(0) > 0 && allocs.total(0) > 0, "{} {}", heap.total(0), allocs.total(0));
    // They are of two stretches of time, one behind the other.
    ensure!(allocs.time_ns >= heap.time_ns + heap.duration_ns, "{} {} {}", heap.time_ns, heap.duration_ns, allocs.time_ns);
    ensure!(run.stderr.contains("what is allocated goes on being recorded, in allocs"), "{}", run.stderr);
    Ok(())
}

#[test]
fn a_heap_that_is_far_too_dear_becomes_shares_by_turns() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut pairs = Pairs::start()?;
    let recording = pairs.recording(SMALL, 0, "12", "10%")?;
    ensure!(pairs.breakpoints()? > 0, "it is armed when it says that it records");
    until_said(&recording, "in alloc-shares")?;
    // Between turns there is none.
    pairs.until_breakpoints(&recording, |number| number == 0)?;
    let run = recording.finish()?.success()?;
    let names = run.folder.names()?;
    ensure!(names == ["alloc-shares.prof", "heap.prof"], "{names:?}: {}", run.stderr);
    let shares = read(&run, "alloc-shares")?;
    let types: Vec<&str> = shares.sample_types.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(types == ["seen_objects", "seen_space"], "no totals: {types:?}");
    ensure!(shares.total(0) > 0 && shares.comments.iter().any(|comment| comment.contains(" turns of 200 ms")), "{:#?}", shares.comments);
    ensure!(taken(&shares)? < 15.0, "{}", taken(&shares)?);
    ensure!(shares.rooted()? > 0.99, "{:?}", shares.endings()?);
    Ok(())
}

#[test]
fn a_budget_is_of_probes_and_of_files_with_names() -> Result<()> {
    if !can_record(&[]) {
        return Ok(());
    }
    let own = std::process::id();
    Profiler::record()?.pid(own).args(["-d", "1", "--max-overhead", "2%"]).run()?.failed(2, "leave it out")?;
    let named = ["-e", "heap", "-d", "1", "--max-overhead", "2%", "-o", "x.prof"];
    Profiler::record()?.pid(own).args(named).run()?.failed(2, "{kind}")?;
    Profiler::record()?.pid(own).args(["-e", "heap", "--max-overhead", "lots"]).run()?.failed(2, "such as 2%")?;
    Ok(())
}
