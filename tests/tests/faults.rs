//! `-e faults`: page faults by the stacks that take them, as many as the kernel counts for the process.

use anyhow::{Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, build};

#[test]
fn faults_are_where_the_program_touches_memory() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let faults = build("faults", Build::CBare)?;
    let run = Profiler::record()?.args(["-e", "faults", "--", &faults.to_string_lossy()]).run()?.success()?;
    let counted: f64 = String::from_utf8(run.stdout.clone())?.trim().parse()?;
    let profile = Profile::read(&run.folder.join("faults.prof"))?;
    let types: Vec<_> = profile.sample_types.iter().map(|(name, unit)| (name.as_str(), unit.as_str())).collect();
    ensure!(types == [("faults", "count"), ("memory", "bytes")], "{types:?}");
    ensure!(counted > 900_000.0, "the program took {counted} faults");
    // The kernel adapts how many faults a sample stands for, and what remains between two of them is of no sample.
    let total = profile.total(0) as f64;
    ensure!((total / counted - 1.0).abs() < 0.05, "{total} faults, and the kernel counted {counted}");
    ensure!(profile.total(1) == 4096 * profile.total(0), "{}", profile.total(1));
    let share = |name: &str| profile.only(|sample| profile.names(sample).contains(&name)).total(0) as f64 / total;
    let (many, few) = (share("many"), share("few"));
    ensure!((many - 0.75).abs() < 0.05 && (few - 0.25).abs() < 0.05, "many {many:.3}, few {few:.3} of all faults");
    ensure!(profile.rooted()? >= 0.99, "{:?}", profile.endings()?);
    Ok(())
}
