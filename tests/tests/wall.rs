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
fn who_sleeps_all_the_while_sleeps_as_long_as_the_recording_takes() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("parked", Build::C)?, ["20"])?;
    // CPUs begin to tick one after the other, for up to 10 ms in all. What is shorter than that may be put off by others now and then.
    let mut excess = Vec::new();
    for _ in 0..5 {
        let run = Profiler::record()?.pid(subject.pid()).args(["-e", "wall", "-d", "0.02"]).run()?.success()?;
        let profile = Profile::read(&run.folder.join("wall.prof"))?;
        let asleep = profile.only(|sample| sample.label("state").is_some_and(|label| label.shown() == "blocked"));
        let longest = asleep.samples.iter().map(|sample| sample.values[1] / sample.values[0].max(1)).max().unwrap_or(0);
        excess.push(longest as f64 / profile.duration_ns as f64);
    }
    ensure!(excess.iter().any(|of| (0.5..1.1).contains(of)), "each thread has {excess:?} of the time that it took");
    Ok(())
}

#[test]
fn without_the_clock_of_the_cpu_it_is_refused() -> Result<()> {
    let refused = Profiler::new("record")?.args(["-e", "wall", "--clock", "cycles", "-d", "1"]).run()?;
    refused.failed(2, "leave --clock cycles out")?;
    Ok(())
}
