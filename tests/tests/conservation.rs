//! Every tick of the kernel's clock is accounted for: idle, filtered, in the profile, or lost for a reason that is named. Losses are provoked, and the
//! sum stays exact.

use anyhow::{Result, ensure};
use profiler_tests::profile::{Balance, Profile, Sample};
use profiler_tests::run::{Profiler, kept_from_processes, online_cpus};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build, source};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What must hold of every profile of the whole machine, whatever happened.
fn balanced(profile: &Profile) -> Result<Balance> {
    balanced_but(profile, 0)
}

/// The same of a profile of some processes: what was lost before anyone knew whose it was is counted, and no sample of theirs.
fn balanced_of_some(profile: &Profile) -> Result<Balance> {
    balanced_but(profile, lost(profile, "program not run")?)
}

fn balanced_but(profile: &Profile, unshown: i64) -> Result<Balance> {
    let balance = profile.balance()?;
    ensure!(balance.difference == 0, "{} ticks are unexplained: {balance:?}, {:?}", balance.difference, profile.losses()?);
    // Lost samples are a visible frame, so the total is what was taken and what was lost.
    assert_eq!(profile.total(0), balance.samples + balance.lost - unshown, "{balance:?}, {:?}", profile.losses()?);
    assert_eq!(
        profile.only(|sample| is_lost(profile, sample)).total(0),
        balance.lost - unshown,
        "the frame of the lost: {:?}",
        profile.flat()
    );
    Ok(balance)
}

/// Whether a sample stands for lost ones.
fn is_lost(profile: &Profile, sample: &Sample) -> bool {
    sample.label("pid").is_none() && profile.names(sample).first().is_some_and(|name| name.contains("lost"))
}

/// How many were lost for a reason.
fn lost(profile: &Profile, kind: &str) -> Result<i64> {
    Ok(profile.losses()?.get(kind).copied().unwrap_or(0))
}

/// A spinning program for each CPU.
fn busy() -> Result<Vec<Subject>> {
    let spin = build("spin", Build::C)?;
    (0..online_cpus()).map(|_| Subject::start(&spin, ["1000"])).collect()
}

#[test]
fn on_a_busy_machine_every_tick_is_found_and_none_is_lost() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let _load = busy()?;
    let [_, _, stolen_before] = kept_from_processes()?;
    let profile = Profiler::record()?.args(["-a", "-F", "997", "-d", "5"]).run()?.success()?.profile()?;
    let [_, _, stolen] = kept_from_processes()?;
    let balance = balanced(&profile)?;
    // The left side, by another way: the frequency, the CPUs, and the time that the profile covers.
    let expected = 997.0 * online_cpus() as f64 * profile.duration_ns as f64 / 1e9;
    ensure!((balance.ticks as f64 / expected - 1.0).abs() < 0.05, "{} ticks where about {expected:.0} belong", balance.ticks);
    assert_eq!(profile.own_losses()?, [].into());
    // Ticks of a CPU that the host runs something else on come late and merged into one.
    let stolen = 997.0 * (stolen - stolen_before);
    let lost_max = 0.05 * balance.ticks as f64 + stolen;
    ensure!(balance.lost as f64 <= lost_max, "{:?} of {} ticks, {stolen:.0} stolen", profile.losses()?, balance.ticks);
    ensure!(balance.samples as f64 > 0.9 * balance.ticks as f64 - stolen, "every CPU was busy: {balance:?}, {stolen:.0} stolen");
    Ok(())
}

#[test]
fn ticks_of_others_are_filtered_and_idle_ones_are_idle() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let spin = build("spin", Build::C)?;
    let (wanted, _other) = (Subject::start(&spin, ["1000"])?, Subject::start(&spin, ["1000"])?);
    let profile = Profiler::record()?.pid(wanted.pid()).args(["-F", "499", "-d", "3"]).run()?.success()?.profile()?;
    let balance = balanced_of_some(&profile)?;
    let others = profile.label_values("pid").into_keys().filter(|pid| *pid != wanted.pid().to_string() && !pid.is_empty()).count();
    assert_eq!(others, 0, "{:?}", profile.label_values("pid"));
    ensure!(balance.filtered > balance.samples / 2, "the other program ran as much as the wanted one: {balance:?}");
    drop((wanted, _other));
    let profile = Profiler::record()?.args(["--comm", "no-such-name", "-F", "499", "-d", "2"]).run()?.success()?.profile()?;
    let balance = balanced_of_some(&profile)?;
    ensure!(balance.samples == 0 && balance.filtered + balance.idle > 0, "{balance:?}");
    Ok(())
}

#[test]
fn a_ring_that_is_too_small_loses_samples_and_counts_every_one() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let deep = build("deep", Build::C)?;
    let _load = (0..online_cpus()).map(|_| Subject::start(&deep, ["200"])).collect::<Result<Vec<_>>>()?;
    let profile = Profiler::record()?.args(["-a", "-F", "9973", "-d", "3", "--ring-bytes", "4096"]).run()?.success()?.profile()?;
    let balance = balanced(&profile)?;
    let full = lost(&profile, "ring full")? + lost(&profile, "ring full for stack")?;
    ensure!(full > 0, "a ring of one page held everything: {balance:?}, {:?}", profile.losses()?);
    Ok(())
}

#[test]
fn a_drain_that_stands_still_loses_samples_and_counts_every_one() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let spin = build("spin", Build::C)?;
    let _load = busy()?;
    let mut running = Profiler::record()?.args(["-a", "-F", "997", "--ring-bytes", "65536"]).start()?;
    running.wait_until_recording()?;
    running.signal(Signal::STOP)?;
    // Meanwhile a program uses two seconds of CPU time, whatever the clock on the wall says.
    Subject::start(&spin, ["2"])?.wait_for_line("cpu")?;
    running.signal(Signal::CONT)?;
    Subject::start(&spin, ["1"])?.wait_for_line("cpu")?;
    let profile = running.interrupt()?.success()?.profile()?;
    let balance = balanced(&profile)?;
    ensure!(lost(&profile, "ring full")? > 0, "a drain that stood still lost nothing: {balance:?}, {:?}", profile.losses()?);
    ensure!(balance.samples > 500, "after it went on, samples arrived again: {balance:?}");
    Ok(())
}

/// A command on CPU 0 alone.
fn on_one_cpu<A: AsRef<OsStr>>(words: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).args(words);
    command
}

/// Stops the drain, lets something happen, and ends the recording: at once, or after the drain has gone on. How many process events were lost, which the
/// profile states and the terminal shows.
fn lost_while_stopped(storm: impl FnOnce() -> Result<()>, goes_on: bool) -> Result<i64> {
    let mut running = Profiler::record()?.args(["-a", "-F", "99"]).start()?;
    running.wait_until_recording()?;
    running.signal(Signal::STOP)?;
    storm()?;
    if goes_on {
        running.signal(Signal::CONT)?;
        // After a drain there is room for a few more records, and with the first of them the kernel tells of those that had none.
        for _ in 0..20 {
            ensure!(on_one_cpu([build("short", Build::C)?.as_os_str(), "20".as_ref()]).stdout(Stdio::null()).status()?.success(), "short");
        }
    }
    running.signal(Signal::INT)?;
    running.signal(Signal::CONT)?;
    let outcome = running.finish()?.success()?;
    let profile = outcome.profile()?;
    balanced(&profile)?;
    let lost = lost(&profile, "process events dropped")?;
    ensure!(lost == 0 || outcome.stderr.contains("process events dropped"), "the terminal does not show it:\n{}", outcome.stderr);
    Ok(lost)
}

#[test]
fn process_events_that_found_no_room_are_counted_once_each() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("taskset")]) {
        return Ok(());
    }
    let maps = build("maps", Build::C)?;
    let mapping = || Subject::start_command(on_one_cpu([maps.as_os_str(), "60000".as_ref()])).map(drop);
    let forking = || {
        let ended = on_one_cpu(["sh", "-c", "i=0; while [ $i -lt 5000 ]; do (:); i=$((i+1)); done"]).status()?;
        ensure!(ended.success(), "{ended}");
        Ok(())
    };
    for goes_on in [false, true] {
        // 60,000 records of more than 64 bytes and a ring of 1 MiB, a quarter of it on a machine with many CPUs. Others run beside it;
        // what is counted twice is more than 87,000.
        let lost = lost_while_stopped(mapping, goes_on)?;
        ensure!((60_000 - (1 << 20) / 64..80_000).contains(&lost), "{lost} lost of 60,000 mappings; goes on: {goes_on}");
        // 10,000 records of 40 bytes in each of three rings: the kernel tells of forks wherever it tells of mappings or names. The rings hold 1 MiB, 128 KiB and
        // 32 KiB, or a quarter of it; counted twice, what is lost is more than 31,000.
        let lost = lost_while_stopped(forking, goes_on)?;
        ensure!((15_000..30_000).contains(&lost), "{lost} lost of 5,000 forks and exits; goes on: {goes_on}");
    }
    Ok(())
}

#[test]
fn each_file_of_a_split_recording_states_what_all_of_it_lost() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let deep = build("deep", Build::C)?;
    let load = (0..online_cpus()).map(|_| Subject::start(&deep, ["200"])).collect::<Result<Vec<_>>>()?;
    let args = ["-a", "-F", "9973", "-d", "2", "--ring-bytes", "4096", "--split", "process", "-o", "{pid}.prof"];
    let outcome = Profiler::record()?.args(args).run()?.success()?;
    let mut stated = Vec::new();
    for subject in &load {
        let part = Profile::read(&outcome.folder.join(format!("{}.prof", subject.pid())))?;
        assert_eq!(part.total(0), part.taken().total(0), "a loss is shown as this process's: {:?}", part.flat());
        let whole = |comment: &&String| comment.starts_with("of the whole recording, all processes together: ");
        let of_all: Vec<String> = part.comments.iter().filter(whole).cloned().collect();
        ensure!(of_all.iter().any(|comment| comment.contains("lost: ring full")), "no loss is stated: {:?}", part.comments);
        ensure!(of_all.iter().any(|comment| comment.contains("balance: ticks")), "no sum is stated: {:?}", part.comments);
        stated.push(of_all);
    }
    ensure!(stated.windows(2).all(|pair| pair[0] == pair[1]), "the files differ in what they state: {stated:?}");
    Ok(())
}

#[test]
fn a_full_map_of_targets_is_counted() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    // Forty children at once, of one target, where sixteen have room.
    let script = "for i in $(seq 40); do sleep 2 & done; echo ready; wait";
    let outcome = Profiler::record()?.args(["-F", "99", "--target-entries", "16", "--", "sh", "-c", script]).run()?.success()?;
    let profile = outcome.profile()?;
    balanced_of_some(&profile)?;
    ensure!(lost(&profile, "target map full")? > 0, "{:?}", profile.losses()?);
    Ok(())
}

#[test]
fn ticks_at_which_the_kernel_skipped_our_program_are_counted() -> Result<()> {
    // An empty folder until someone mounts it; where nobody has, the test does so for itself alone.
    const TRACING: &str = "/sys/kernel/tracing";
    if !can_record(&[Build::C]) || !ready(&[Need::Program("/usr/bin/python3"), Need::Program("unshare"), Need::Path(TRACING)]) {
        return Ok(());
    }
    let script = source("tracepoint_storm", Build::C).with_extension("py");
    let mut running = Profiler::record()?.args(["-a", "-F", "997"]).start()?;
    running.wait_until_recording()?;
    let mount =
        format!("{{ mountpoint -q {TRACING} || mount -t tracefs none {TRACING}; }} && exec /usr/bin/python3 {} 3", script.display());
    let mut storm = Subject::start(Path::new("unshare"), ["-m", "sh", "-c", &mount])?;
    storm.wait_for_line("cpu")?;
    let profile = running.interrupt()?.success()?.profile()?;
    balanced(&profile)?;
    // Three seconds of CPU time, nearly all of it inside of another program.
    let skipped = lost(&profile, "program not run")?;
    ensure!(skipped > 1000, "the kernel hardly skipped us: {skipped}, {:?}", profile.balance()?);
    Ok(())
}

/// A setting of the kernel that has its old value again when this goes.
struct Setting {
    path: &'static str,
    before: String,
}

impl Setting {
    fn set(path: &'static str, value: &str) -> Result<Self> {
        let before = std::fs::read_to_string(path)?;
        std::fs::write(path, value)?;
        Ok(Self { path, before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = std::fs::write(self.path, self.before.trim());
    }
}

#[test]
fn ticks_that_the_kernel_throttles_are_counted_as_lost() -> Result<()> {
    const RATE: &str = "/proc/sys/kernel/perf_event_max_sample_rate";
    if !can_record(&[Build::C]) || !ready(&[Need::Path(RATE)]) {
        return Ok(());
    }
    let _busy = busy()?;
    let setting = Setting::set(RATE, "500")?;
    let profile = Profiler::record()?.args(["-a", "-F", "4999", "-d", "2"]).run();
    drop(setting);
    let profile = profile?.success()?.profile()?;
    let balance = balanced(&profile)?;
    let due = online_cpus() as f64 * 4999.0 * profile.duration_ns as f64 / 1e9;
    ensure!((balance.ticks as f64 / due - 1.0).abs() < 0.1, "{balance:?}: {due:.0} were due");
    ensure!(lost(&profile, "program not run")? as f64 > due / 2.0, "{balance:?}, {:?}", profile.losses()?);
    Ok(())
}

#[test]
fn a_cpu_that_goes_for_good_or_comes_late_is_not_taken_for_lost() -> Result<()> {
    const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";
    if !can_record(&[Build::C]) || !ready(&[Need::Path(SWITCH)]) {
        return Ok(());
    }
    let back = Setting { path: SWITCH, before: "1".to_owned() };
    for (first, then) in [("1", "0"), ("0", "1")] {
        std::fs::write(SWITCH, first)?;
        let mut running = Profiler::record()?.args(["-a", "-F", "499"]).start()?;
        running.wait_until_recording()?;
        std::thread::sleep(Duration::from_millis(1500));
        std::fs::write(SWITCH, then)?;
        std::thread::sleep(Duration::from_millis(1500));
        let profile = running.interrupt()?.success()?.profile()?;
        let balance = balanced(&profile)?;
        // A machine that does nothing: nearly all is idle, and nothing may look like the second and a half in which there was no CPU: half of its 748 ticks.
        ensure!(lost(&profile, "program not run")? < 374, "CPU 1 from {first} to {then}: {balance:?}, {:?}", profile.losses()?);
    }
    drop(back);
    Ok(())
}
