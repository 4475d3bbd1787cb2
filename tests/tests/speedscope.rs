//! speedscope reads what we write: its importer finds the weight that `go tool pprof` finds, and the functions that our decoder finds.

use anyhow::{Context, Result, ensure};
use profiler_tests::pprof_tool::pprof;
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::speedscope::{Imported, import, package};
use profiler_tests::subject::{Build, Subject, build};
use std::collections::{BTreeMap, BTreeSet};

/// The weights of the last column in the samples of `pprof -raw`: `VALUE VALUE: LOCATION ...`.
fn raw_total(raw: &str) -> i64 {
    let samples = raw.lines().skip_while(|line| *line != "samples/count cpu/nanoseconds").skip(1).take_while(|line| *line != "Locations");
    let weights = samples.filter_map(|line| line.split_once(':')?.0.split_whitespace().nth(1)?.parse::<i64>().ok());
    weights.sum()
}

/// The own weight of each function as speedscope counts it: by the outermost function of an address, addresses without one left out.
fn own_weights(profile: &Profile) -> BTreeMap<String, i64> {
    let mut weights = BTreeMap::new();
    for sample in &profile.samples {
        let mut named = sample.locations.iter().filter_map(|at| profile.locations[*at].lines.last());
        if let Some((function, _)) = named.next() {
            *weights.entry(profile.functions[*function].name.clone()).or_default() += sample.values[1];
        }
    }
    weights
}

/// The same as speedscope says it.
fn imported_weights(imported: &Imported) -> BTreeMap<String, i64> {
    let mut weights = BTreeMap::new();
    for frame in &imported.frames {
        *weights.entry(frame.name.clone()).or_default() += frame.own;
    }
    weights.retain(|_, weight| *weight > 0);
    weights
}

#[test]
fn its_importer_agrees_with_go_on_the_weight_and_with_us_on_the_functions() -> Result<()> {
    let package = package();
    let needs = [Need::Program("node"), Need::Program("go"), Need::Path(&package.to_string_lossy())];
    if !can_record(&[Build::C, Build::Rust]) || !ready(&needs) {
        return Ok(());
    }
    // The kernel, inlined functions, names with brackets and colons, code without names.
    let _load = [
        Subject::start(&build("inline", Build::C)?, [""; 0])?,
        Subject::start(&build("rustspin", Build::Rust)?, [""; 0])?,
        Subject::start(&build("spin", Build::CStripped)?, ["1000"])?,
    ];
    let outcome = Profiler::record()?.args(["-a", "-F", "499", "-d", "2"]).run()?.success()?;
    let path = outcome.folder.join("cpu.prof");
    let (profile, imported) = (outcome.profile()?, import(&path)?);
    let raw = pprof(["-raw", &path.to_string_lossy()])?.text;
    assert_eq!((imported.unit.as_str(), imported.total), ("nanoseconds", raw_total(&raw)), "the weight of all");
    assert_eq!(imported_weights(&imported), own_weights(&profile), "the own weights of the functions");
    let locations = raw.split_once("\nLocations\n").context("no table of locations")?.1;
    let strangers: BTreeSet<&str> =
        imported.frames.iter().map(|frame| frame.name.as_str()).filter(|name| !locations.contains(name)).collect();
    ensure!(strangers.is_empty(), "names that pprof does not show: {strangers:?}");
    ensure!(imported.frames.iter().any(|frame| frame.name.contains("spin_here") && frame.own > 0), "{:?}", imported_weights(&imported));
    Ok(())
}
