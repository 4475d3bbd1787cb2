//! `--max-overhead` where nothing that needs a trap can be paid: page faults are recorded, nothing is armed any more, and what was given up is in files that end there.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::pairs::{HUGE, Pairs, until_said};
use profiler_tests::profile::Profile;
use profiler_tests::run::Outcome;
use profiler_tests::skip::can_record;
use profiler_tests::subject::Build;

fn read(run: &Outcome, kind: &str) -> Result<Profile> {
    let profile = Profile::read(&run.folder.join(format!("{kind}.prof"))).with_context(|| format!("{kind}: {}", run.stderr))?;
    ensure!(profile.balance()?.difference == 0, "{kind}: {:#?}", profile.comments);
    Ok(profile)
}

/// When a profile ends.
fn end(profile: &Profile) -> i64 {
    profile.time_ns + profile.duration_ns
}

#[test]
fn where_not_even_turns_can_be_paid_page_faults_are_recorded() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut pairs = Pairs::start()?;
    let recording = pairs.recording(HUGE, 0, "8", "0.05%")?;
    ensure!(pairs.breakpoints()? > 0, "it is armed when it says that it records");
    until_said(&recording, "page faults and address spaces that grow go on being recorded, in faults and mmap")?;
    // From now on it meets no trap: of nothing that it calls is a byte other than in its file, then and after the end.
    pairs.until_breakpoints(&recording, |number| number == 0)?;
    let run = recording.finish()?.success()?;
    ensure!(pairs.breakpoints()? == 0, "{} breakpoints are left", pairs.breakpoints()?);
    ensure!(
        run.folder.names()? == ["alloc-shares.prof", "faults.prof", "heap.prof", "mmap.prof"],
        "{:?}: {}",
        run.folder.names()?,
        run.stderr
    );
    let (heap, shares, faults) = (read(&run, "heap")?, read(&run, "alloc-shares")?, read(&run, "faults")?);
    // One ends where the next begins, and the last one lasts to the end.
    let ends = [end(&heap), end(&shares), end(&faults)];
    ensure!(ends[0] <= shares.time_ns && ends[1] <= faults.time_ns, "{ends:?} {} {}", shares.time_ns, faults.time_ns);
    ensure!(ends[2] >= heap.time_ns + 8_000_000_000 && faults.duration_ns > heap.duration_ns, "{ends:?} from {}", heap.time_ns);
    let mmap = read(&run, "mmap")?;
    ensure!(ends[1] <= mmap.time_ns && mmap.losses()?.is_empty(), "{ends:?} {}: {:#?}", mmap.time_ns, mmap.comments);
    let grown = mmap.only(|sample| mmap.names(sample).contains(&"pairs"));
    ensure!(
        grown.total(0) > 0 && (grown.total(1) - grown.total(3)).unsigned_abs() <= HUGE + (1 << 20),
        "{} grown, {} shrunk",
        grown.total(1),
        grown.total(3)
    );
    for (profile, next) in [(&heap, "in alloc-shares"), (&shares, "in faults and mmap")] {
        let ended = profile.comment("ended after ").with_context(|| format!("{:#?}", profile.comments))?;
        ensure!(ended.ends_with(next), "{ended}");
    }
    for profile in [&heap, &shares] {
        let note = profile.comment("budget: probes took ").context("a word of the budget")?;
        let share: f64 = note.split_whitespace().next().context("a number")?.parse()?;
        ensure!(note.ends_with("0.05 % allowed") && share > 0.05, "{note}");
    }
    ensure!(heap.total(0) > 0 && shares.samples.is_empty(), "{} {:?}", heap.total(0), shares.samples);
    ensure!(run.stderr.contains("who allocates goes on being looked at by turns, in alloc-shares"), "{}", run.stderr);
    // Each block is a new page, and nothing else is touched.
    let of_pairs = faults.only(|sample| faults.names(sample).contains(&"pairs")).total(0);
    ensure!(of_pairs > 1000 && of_pairs * 100 > faults.total(0) * 99, "{of_pairs} of {}", faults.total(0));
    ensure!(faults.total(1) == 4096 * faults.total(0) && faults.rooted()? > 0.99, "{:?}", faults.endings()?);
    Ok(())
}
