//! How long blocks live (`--age`, `--temporary`), and what is in use where more lives than there is room for.

use anyhow::{Context as _, Result, bail, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Profiler, Running};
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build};
use profiler_tests::waiting;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{ChildStdin, Command};
use std::time::{Duration, Instant};

/// The subject, waiting for what it is told.
struct Lives {
    subject: Subject,
    stdin: ChildStdin,
}

impl Lives {
    fn start() -> Result<Self> {
        let (subject, stdin) = Subject::start_told(Command::new(build("lives", Build::CBare)?))?;
        Ok(Self { subject, stdin })
    }

    fn does(&mut self, what: &str) -> Result<()> {
        writeln!(self.stdin, "{what}")?;
        self.subject.wait_for_line("done")?;
        Ok(())
    }

    fn record(&self, options: &[&str]) -> Result<Running> {
        self.record_sampled("1", options)
    }

    fn record_sampled(&self, bytes: &str, options: &[&str]) -> Result<Running> {
        let mut running =
            Profiler::record()?.pid(self.subject.pid()).args(["-e", "heap", "--sample-bytes", bytes]).args(options).start()?;
        running.wait_until_recording()?;
        Ok(running)
    }
}

fn end(running: Running) -> Result<Profile> {
    Profile::read(&running.interrupt()?.success()?.folder.join("heap.prof"))
}

/// The columns of all samples that have a function on their stack.
fn of(profile: &Profile, function: &str) -> Vec<i64> {
    let mine = profile.only(|sample| profile.names(sample).contains(&function));
    (0..profile.sample_types.len()).map(|column| mine.total(column)).collect()
}

/// From how many blocks it says that it estimates what is in use, and the standard error, percent.
fn stated(profile: &Profile) -> Result<(f64, f64)> {
    let words = profile.comment("inuse_space is an estimate from ").context("no word of an estimate")?;
    let (blocks, rest) = words.split_once(" blocks: standard error ").with_context(|| words.to_owned())?;
    Ok((blocks.parse()?, rest.trim_end_matches(" %").parse()?))
}

#[test]
fn where_a_tenth_of_what_lives_has_room_the_sum_is_right_within_its_error() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    // 30,000 blocks of 50 MB live in the end, and at most 50 beside them.
    const TRUTH: f64 = 50e6;
    let (mut errors, runs) = (Vec::new(), 8);
    for _ in 0..runs {
        let mut lives = Lives::start()?;
        let running = lives.record(&["--live-entries", "3000"])?;
        lives.does("many")?;
        let profile = end(running)?;
        ensure!(
            profile.balance()?.difference == 0 && profile.total(0) == 50_000 && profile.total(1) == 90_000_000,
            "{:#?}",
            profile.comments
        );
        let (blocks, percent) = stated(&profile)?;
        // Half of the room at least is used.
        ensure!((1_200.0..=3_000.0).contains(&blocks) && (1.0..5.0).contains(&percent), "{blocks} blocks, {percent} %");
        let error = (profile.total(3) as f64 / TRUTH - 1.0) * 100.0 / percent;
        ensure!(error.abs() < 5.0, "{} in use, {error:.1} standard errors off: {:#?}", profile.total(3), profile.comments);
        ensure!(of(&profile, "passing")[2] == 0 || of(&profile, "passing")[2] < 200, "{:?}", of(&profile, "passing"));
        ensure!(profile.losses()?.get("live map full").is_some_and(|lost| *lost > 10_000), "{:?}", profile.losses()?);
        errors.push(error);
    }
    let mean = errors.iter().sum::<f64>() / f64::from(runs);
    ensure!(mean.abs() < 5.0 / f64::from(runs).sqrt(), "the errors have a direction: {errors:.2?}");
    Ok(())
}

#[test]
fn frees_of_blocks_from_before_the_recording_are_told_from_those_of_its_own() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    const SAID: &str = "frees of blocks that were never seen, such as older ones: ";
    // 20,000 older ones are freed, 10,000 are left by realloc, and what came in their place is the recording's own. That there is a moment before the end, or no room for
    // all that lives, is no matter.
    const OLDER: f64 = 30_000.0;
    for options in [&[][..], &["--at", "peak"], &["--live-entries", "500"]] {
        for bytes in ["1", "16K"] {
            let mut lives = Lives::start()?;
            lives.does("many")?;
            let running = lives.record_sampled(bytes, options)?;
            lives.does("grown")?;
            lives.does("none")?;
            let profile = end(running)?;
            let said = profile.comment(SAID).context("no word of older blocks")?;
            let numbers: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let [unseen, rest @ ..] = &numbers[..] else { bail!("{said}") };
            // Of 10,000 of 3,500 bytes one in five is taken at 16K, and all of them at 1.
            let is_right = match (bytes, rest) {
                ("1", [] | [40_000.0, 0.0]) => *unseen == OLDER,
                ("16K", [40_000.0, error]) => (50.0..400.0).contains(error) && (unseen - OLDER).abs() < 5.0 * error,
                _ => false,
            };
            ensure!(is_right, "{bytes} {options:?}: {said}");
        }
    }
    Ok(())
}

#[test]
fn ten_million_blocks_that_live_are_an_estimate_and_all_were_counted() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    const BLOCKS: i64 = 10_000_000;
    let mut lives = Lives::start()?;
    let running = lives.record(&[])?;
    lives.does("millions")?;
    let profile = end(running)?;
    ensure!(of(&profile, "tiny")[..2] == [BLOCKS, 16 * BLOCKS], "{:?}", of(&profile, "tiny"));
    ensure!(profile.balance()?.difference == 0, "{:#?}", profile.comments);
    let (blocks, percent) = stated(&profile)?;
    // Half of the room of 262,144 at least is used.
    ensure!((100_000.0..=262_144.0).contains(&blocks) && percent < 0.4, "{blocks} blocks, {percent} %");
    let off = (of(&profile, "tiny")[3] as f64 / (16 * BLOCKS) as f64 - 1.0) * 100.0 / percent;
    ensure!(off.abs() < 5.0, "{:?}: {off:.1} standard errors off", of(&profile, "tiny"));
    ensure!(profile.losses()?.get("live map full").is_some_and(|lost| *lost > BLOCKS - 262_144), "{:?}", profile.losses()?);
    Ok(())
}

#[test]
fn what_stands_for_others_is_given_back_with_them() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut lives = Lives::start()?;
    let running = lives.record(&["--live-entries", "1000"])?;
    for _ in 0..3 {
        lives.does("many")?;
        lives.does("none")?;
    }
    lives.does("first")?;
    let profile = end(running)?;
    ensure!(profile.comment("there was more at once than --live-entries has room for: one in ").is_some(), "{:#?}", profile.comments);
    for function in ["medium", "large", "passing"] {
        ensure!(of(&profile, function)[2..] == [0, 0], "{function}: {:?}", of(&profile, function));
    }
    ensure!(of(&profile, "medium")[..2] == [60_000, 60_000_000], "{:?}", of(&profile, "medium"));
    ensure!(profile.balance()?.difference == 0, "{:#?}", profile.comments);
    Ok(())
}

#[test]
fn a_few_more_than_have_room_are_followed_by_half() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    // 500 of 100 bytes, and room for 400.
    let mut lives = Lives::start()?;
    let running = lives.record(&["--live-entries", "400"])?;
    lives.does("first")?;
    lives.does("second")?;
    let profile = end(running)?;
    let (blocks, percent) = stated(&profile)?;
    ensure!(profile.total(2) as f64 == 2.0 * blocks && (150.0..=350.0).contains(&blocks), "{blocks}: {:#?}", profile.comments);
    ensure!((profile.total(2) as f64 / 500.0 - 1.0).abs() * 100.0 < 6.0 * percent, "{} in use: {percent} %", profile.total(2));
    ensure!(profile.losses()?.get("live map full").copied() == Some(500 - blocks as i64), "{:?}", profile.losses()?);
    Ok(())
}

#[test]
fn the_age_of_what_lives_and_what_was_freed_soon_are_labels() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut lives = Lives::start()?;
    let running = lives.record(&["--age", "--temporary", "100ms"])?;
    let begun = Instant::now();
    lives.does("first")?;
    // They are to be a second old, and the next ones younger.
    waiting::until("a second", || Ok((begun.elapsed() > Duration::from_millis(1_100)).then_some(())))?;
    let middle = Instant::now();
    lives.does("some")?;
    lives.does("second")?;
    let profile = end(running)?;
    let ended = middle.elapsed();
    let ages = |function: &str| -> BTreeMap<i64, [i64; 2]> {
        let mut found = BTreeMap::new();
        for sample in profile.samples.iter().filter(|sample| profile.names(sample).contains(&function)) {
            let age = sample.labels.iter().find(|label| label.key == "age").map_or(-1, |label| label.number);
            let sums: &mut [i64; 2] = found.entry(age).or_default();
            *sums = [sums[0] + sample.values[0], sums[1] + sample.values[2]];
        }
        found
    };
    let is_known = |function: &str, figures: [i64; 2], least_ms: i64| -> Result<()> {
        let found = ages(function);
        let aged: Vec<_> = found.iter().filter(|(age, _)| **age >= 0).collect();
        ensure!(aged.iter().map(|(_, sums)| sums[1]).sum::<i64>() == figures[1], "{function}: {found:?}");
        ensure!(aged.iter().all(|(age, sums)| **age >= least_ms && sums[0] == sums[1]), "{function}: {found:?}");
        ensure!(found.values().map(|sums| sums[0]).sum::<i64>() == figures[0], "{function}: {found:?}");
        Ok(())
    };
    is_known("first", [300, 300], 1_000)?;
    // Asleep for 300 ms after them.
    is_known("some", [550, 50], 100)?;
    is_known("second", [200, 200], 0)?;
    let youngest = ages("second").into_keys().max().context("no age")?;
    ensure!(u128::try_from(youngest)? <= ended.as_millis(), "{youngest} ms, and no more than {ended:?} have passed");
    // The 400 that went at once, and not the 100 that went after 300 ms; unless this machine stood still, which the test of the sums above does not mind.
    let temporary = profile.labelled("lifetime", "temporary");
    ensure!(of(&temporary, "some")[2] == 0 && (380..=400).contains(&of(&temporary, "some")[0]), "{:?}", of(&temporary, "some"));
    ensure!(of(&temporary, "first") == [0; 4] && of(&temporary, "second") == [0; 4], "{:?}", temporary.flat());
    ensure!(
        profile.samples.iter().all(|sample| sample.labels.iter().all(|label| label.key != "age" || label.unit == "milliseconds")),
        "units"
    );
    ensure!(profile.balance()?.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
    Ok(())
}

#[test]
fn the_life_of_blocks_is_a_matter_of_a_heap() -> Result<()> {
    if !can_record(&[]) {
        return Ok(());
    }
    let own = std::process::id();
    Profiler::record()?.pid(own).args(["-e", "allocs", "-d", "1", "--age"]).run()?.failed(2, "they need -e heap")?;
    Profiler::record()?.pid(own).args(["-e", "cpu", "-d", "1", "--temporary", "10ms"]).run()?.failed(2, "they need -e heap")?;
    Profiler::record()?.pid(own).args(["-e", "heap", "--at", "peak", "--age"]).run()?.failed(2, "leave --at peak out")?;
    Profiler::record()?.pid(own).args(["-e", "heap", "--temporary", "soon"]).run()?.failed(2, "--temporary")?;
    Ok(())
}
