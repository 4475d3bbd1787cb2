//! The shares in a profile are the shares that a program measures of itself, within three standard errors and within one point.

use anyhow::{Context, Result, ensure};
use profiler_tests::run::{Profiler, kept_from_processes};
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, build};
use std::collections::BTreeMap;

/// Samples below which the comparison says too little.
const SAMPLES_MIN: i64 = 40_000;

/// The lines `share NAME SHARE SECONDS` of the subject.
fn own_figures(output: &str) -> Result<BTreeMap<String, f64>> {
    let mut shares = BTreeMap::new();
    for line in output.lines().filter_map(|line| line.strip_prefix("share ")) {
        let (name, rest) = line.split_once(' ').context("a name")?;
        shares.insert(name.to_owned(), rest.split(' ').next().context("a share")?.parse()?);
    }
    Ok(shares)
}

#[test]
fn shares_agree_with_the_programs_own_clock() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let three = build("three", Build::C)?;
    let outcome = Profiler::record()?.args(["-F", "3989", "--"]).args([three.to_string_lossy().as_ref(), "12"]).run()?.success()?;
    let own = own_figures(&String::from_utf8_lossy(&outcome.stdout))?;
    assert_eq!(own.len(), 3, "the subject printed its three shares");
    let profile = outcome.profile()?;
    let seen = profile.cumulative();
    let of = |name: &str| seen.get(name).copied().unwrap_or(0);
    let total: i64 = own.keys().map(|name| of(name)).sum();
    ensure!(total >= SAMPLES_MIN, "{total} samples of the three functions; lost: {:?}", profile.losses()?);
    for (name, own) in &own {
        let share = of(name) as f64 / total as f64;
        let error = (own * (1.0 - own) / total as f64).sqrt();
        let off = (share - own).abs();
        println!("{name}: own {own:.4}, profile {share:.4}, off {:.2} standard errors", off / error);
        ensure!(off <= 3.0 * error, "{name}: {share:.5} in the profile, {own:.5} by its own clock: {:.1} standard errors", off / error);
        ensure!(off <= 0.01, "{name}: {share:.5} in the profile, {own:.5} by its own clock: more than a point");
    }
    Ok(())
}

#[test]
fn the_amount_of_cpu_time_agrees_with_the_programs_own_clock() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let three = build("three", Build::C)?;
    let before: f64 = kept_from_processes()?.iter().sum();
    let outcome = Profiler::record()?.args(["-F", "997", "--"]).args([three.to_string_lossy().as_ref(), "10"]).run()?.success()?;
    let not_its_own = kept_from_processes()?.iter().sum::<f64>() - before;
    let profile = outcome.profile()?;
    let three = profile.labelled("comm", "three");
    let seconds = three.total(1) as f64 / 1e9;
    // Its clock also holds what it needed to start, before the ten seconds began. It does not hold the interrupts that it bore, nor what the host took:
    // a tick falls on it then as ever.
    ensure!(
        (9.8..=10.3 + not_its_own).contains(&seconds),
        "a program that used 10 s of CPU time has {seconds} s in the profile; lost {:?}",
        profile.losses()?
    );
    Ok(())
}
