//! `-e wall`: time on the CPU and off it on one scale, against a program that halves its time between them.

use anyhow::{Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build};

fn through(profile: &Profile, function: &str) -> f64 {
    profile.only(|sample| profile.names(sample).contains(&function)).total(1) as f64 / 1e9
}

#[test]
fn what_runs_and_what_sleeps_are_weighed_alike() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("halves", Build::C)?, [""; 0])?;
    let run = Profiler::record()?.pid(subject.pid()).args(["-e", "wall", "-d", "6", "-F", "497"]).run()?.success()?;
    let profile = Profile::read(&run.folder.join("wall.prof"))?;
    let state = |name: &str| profile.only(|sample| sample.label("state").is_some_and(|label| label.shown() == name));
    let (running, asleep) = (through(&state("running"), "burns"), through(&state("blocked"), "naps"));
    let all = profile.total(1) as f64 / 1e9;
    // One thread: all of its time, and no more; what goes on at the end is not seen, nor what began before.
    ensure!((5.7..6.3).contains(&all), "{all} s of 6");
    ensure!((running / (running + asleep) - 0.5).abs() < 0.03, "{running} s in burns, {asleep} s in naps");
    ensure!(profile.balance()?.difference == 0, "{:#?}", profile.comments);
    ensure!(!run.folder.join("cpu.prof").exists() && !run.folder.join("off-cpu.prof").exists(), "files that nobody asked for");
    Ok(())
}

#[test]
fn it_is_the_sum_of_the_two_that_are_recorded_beside_it() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("halves", Build::C)?, [""; 0])?;
    let run = Profiler::record()?.pid(subject.pid()).args(["-e", "cpu,off-cpu,wall", "-d", "2"]).run()?.success()?;
    let total = |kind: &str| -> Result<i64> { Ok(Profile::read(&run.folder.join(format!("{kind}.prof")))?.total(1)) };
    let (cpu, off_cpu, wall) = (total("cpu")?, total("off-cpu")?, total("wall")?);
    ensure!(cpu > 0 && off_cpu > 0 && cpu + off_cpu == wall, "{cpu} + {off_cpu} is not {wall}");
    Ok(())
}

#[test]
fn without_the_clock_of_the_cpu_it_is_refused() -> Result<()> {
    let refused = Profiler::new("record")?.args(["-e", "wall", "--clock", "cycles", "-d", "1"]).run()?;
    refused.failed(2, "leave --clock cycles out")?;
    Ok(())
}
