//! Each kind of target is recorded, whole, and nothing else is.

use anyhow::{Context, Result, ensure};
use profiler_tests::cgroup::Group;
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler};
use profiler_tests::skip::{Need, can_record, ready, skip};
use profiler_tests::subject::{Build, Subject, build};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// A spinning program.
fn spinning() -> Result<Subject> {
    Subject::start(&build("spin", Build::C)?, ["1000"])
}

/// Records with these arguments for two seconds; the samples that were taken of a process.
fn recorded(args: &[&str]) -> Result<Profile> {
    Profiler::record()?.args(args).args(["-F", "199", "-d", "2"]).run()?.success()?.profile().map(|profile| profile.taken())
}

/// The profile's processes are these, each with a fair number of samples.
fn only(profile: &Profile, subjects: &[&Subject]) -> Result<()> {
    let pids = profile.label_values("pid");
    let seen: BTreeSet<String> = pids.keys().cloned().collect();
    let wanted: BTreeSet<String> = subjects.iter().map(|subject| subject.pid().to_string()).collect();
    ensure!(seen == wanted, "recorded were {pids:?}, asked for were {wanted:?}");
    ensure!(pids.values().all(|samples| *samples > 5), "{pids:?}");
    Ok(())
}

#[test]
fn several_processes_are_recorded_and_a_third_is_not() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let (one, two, _three) = (spinning()?, spinning()?, spinning()?);
    let profile = recorded(&["-p", &one.pid().to_string(), "-p", &two.pid().to_string()])?;
    only(&profile, &[&one, &two])
}

/// The pid of the profiler and what it recorded, at a frequency that meets whatever runs at all.
fn recorded_by(args: &[&str]) -> Result<(String, Profile)> {
    let running = Profiler::record()?.args(args).args(["-F", "9973", "-d", "2"]).start()?;
    let pid = running.pid().to_string();
    Ok((pid, running.finish()?.success()?.profile()?.taken()))
}

#[test]
fn all_is_everything_that_runs_but_ourselves() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let (one, two) = (spinning()?, spinning()?);
    for args in [&["-a"][..], &[]] {
        let (own, profile) = recorded_by(args)?;
        let pids = profile.label_values("pid");
        ensure!([&one, &two].iter().all(|subject| pids.get(&subject.pid().to_string()).is_some_and(|samples| *samples > 5)), "{pids:?}");
        ensure!(!pids.contains_key(&own), "the profiler is in its own profile");
    }
    let (own, with_self) = recorded_by(&["-a", "--include-self"])?;
    ensure!(with_self.label_values("pid").contains_key(&own), "--include-self: {:?}", with_self.label_values("comm"));
    Ok(())
}

/// A program under a name that no other process has, and its process.
fn renamed(folder: &Folder, program: &str, name: &str) -> Result<Subject> {
    let copy = folder.join(name);
    std::fs::copy(build(program, Build::C)?, &copy)?;
    Subject::start(&copy, ["1000"])
}

#[test]
fn names_match_by_pattern() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    // At most 15 bytes stay of a name.
    let [one, two] = ["a", "b"].map(|letter| format!("t{letter}-{}", std::process::id()));
    let (spin, threads) = (renamed(&folder, "spin", &one)?, renamed(&folder, "threads", &two)?);
    only(&recorded(&["--comm", &one])?, &[&spin])?;
    only(&recorded(&["--comm", &two.replace('b', "?")])?, &[&spin, &threads])?;
    only(&recorded(&["--comm", &format!("*b-{}", std::process::id())])?, &[&threads])?;
    only(&recorded(&["--comm", &one, "--comm", &two])?, &[&spin, &threads])
}

#[test]
fn a_group_of_a_v1_hierarchy_is_recorded_with_those_below_it() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let Some(group) = Group::v1("profiler-tests-v1")? else {
        skip("needs a cgroup v1 hierarchy");
        return Ok(());
    };
    // Which hierarchy the label shows is another question: a process is in a group of each.
    in_a_group(&group).map(|_| ())
}

#[test]
fn a_group_of_the_unified_hierarchy_is_recorded_with_those_below_it() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let group = Group::v2("profiler-tests-v2")?;
    let label = in_a_group(&group)?;
    ensure!(label.ends_with(&*group.name().to_string_lossy()), "the label cgroup is `{label}`, the group is {}", group.name().display());
    Ok(())
}

/// A process in the group, one in a group below it, and one outside; gives the label of the first.
fn in_a_group(group: &Group) -> Result<String> {
    let (inside, below, _outside) = (spinning()?, spinning()?, spinning()?);
    group.add(inside.pid())?;
    group.add_to("below/deeper", below.pid())?;
    let profile = recorded(&["--cgroup", &group.path().to_string_lossy()])?;
    only(&profile, &[&inside, &below])?;
    let label = profile.labelled("pid", &inside.pid().to_string()).label_values("cgroup").into_keys().next().context("no label")?;
    let deeper = recorded(&["--cgroup", &group.path().join("below").to_string_lossy()])?;
    only(&deeper, &[&below])?;
    Ok(label)
}

#[test]
fn a_container_is_found_by_the_beginning_of_its_id_and_labelled() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let id = "3f5a9c1e7b2d4f6081a3c5e7092b4d6f8a1c3e5079b2d4f6183a5c7e9f0b2d4f";
    let Some(group) = Group::v1(&format!("docker/{id}"))? else {
        skip("needs a cgroup v1 hierarchy");
        return Ok(());
    };
    let (inside, _outside) = (spinning()?, spinning()?);
    group.add(inside.pid())?;
    for prefix in [&id[..12], id] {
        let profile = recorded(&["--container", prefix])?;
        only(&profile, &[&inside])?;
        assert_eq!(profile.label_values("container_id").into_keys().collect::<Vec<_>>(), [id]);
    }
    Ok(())
}

#[test]
fn a_unit_is_found_by_its_name_and_labelled() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let Some(group) = Group::v1("system.slice/profiler-tests.service")? else {
        skip("needs a cgroup v1 hierarchy");
        return Ok(());
    };
    let (inside, _outside) = (spinning()?, spinning()?);
    group.add(inside.pid())?;
    let profile = recorded(&["--unit", "profiler-tests.service"])?;
    only(&profile, &[&inside])?;
    assert_eq!(profile.label_values("unit").into_keys().collect::<Vec<_>>(), ["profiler-tests.service"]);
    Ok(())
}

/// A shell that starts two children only after it was told that the recording runs, and its recording.
fn tree(more: &[&str]) -> Result<Profile> {
    let spin = build("spin", Build::C)?;
    let folder = Folder::create()?;
    let go = folder.join("go");
    let script = format!(
        "echo ready; while [ ! -e {0} ]; do sleep 0.01; done; {1} 1 & ({1} 1; true) & wait; echo done; exec sleep 1000",
        go.display(),
        spin.display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let mut shell = Subject::start_command(command)?;
    let mut running = Profiler::record()?.pid(shell.pid()).args(["-F", "199"]).args(more).start()?;
    running.wait_until_recording()?;
    std::fs::write(&go, "")?;
    shell.wait_for_line("done")?;
    running.interrupt()?.success()?.profile().map(|profile| profile.taken())
}

#[test]
fn children_and_grandchildren_that_start_later_belong_to_the_target() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let profile = tree(&[])?;
    let spins = profile.labelled("comm", "spin").label_values("pid");
    ensure!(spins.len() == 2 && spins.values().all(|samples| *samples > 20), "the two that started later: {spins:?}");
    let profile = tree(&["--no-inherit"])?;
    ensure!(profile.labelled("comm", "spin").samples.is_empty(), "--no-inherit: {:?}", profile.label_values("comm"));
    Ok(())
}

#[test]
fn a_mode_leaves_the_other_one_out() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    // `dd` lives in the kernel, the spinning program outside of it.
    let (spin, kernel) = (spinning()?, Command::new("dd").args(["if=/dev/zero", "of=/dev/null", "bs=1M", "status=none"]).spawn()?);
    let mut kernel = Killed(kernel);
    let both = ["-p".to_owned(), spin.pid().to_string(), "-p".to_owned(), kernel.0.id().to_string()];
    let both: Vec<&str> = both.iter().map(String::as_str).collect();
    let in_kernel = |profile: &Profile| {
        profile.only(|sample| profile.leaf_mapping(sample).is_some_and(|mapping| mapping.filename.starts_with("[kernel"))).total(0)
    };
    let any = recorded(&both)?;
    let user = recorded(&[&both[..], &["--user-only"]].concat())?;
    let only_kernel = recorded(&[&both[..], &["--kernel-only"]].concat())?;
    kernel.0.kill()?;
    ensure!(in_kernel(&any) > 5 && any.total(0) - in_kernel(&any) > 5, "both modes: {:?}", any.flat());
    ensure!(in_kernel(&user) == 0 && user.total(0) > 5, "--user-only: {:?}", user.flat());
    ensure!(in_kernel(&only_kernel) == only_kernel.total(0) && only_kernel.total(0) > 5, "--kernel-only: {:?}", only_kernel.flat());
    Ok(())
}

/// A child that is killed with the value.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn kernel_frames_have_names_and_no_slide() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let kernel = Killed(Command::new("dd").args(["if=/dev/zero", "of=/dev/null", "bs=1M", "status=none"]).spawn()?);
    let profile = recorded(&["-p", &kernel.0.id().to_string()])?;
    let total = profile.total(0) as f64;
    let cumulative = profile.cumulative();
    let reads = cumulative
        .iter()
        .filter(|(name, _)| name.contains("read_zero") || name.contains("read_iter_zero"))
        .map(|(_, samples)| *samples)
        .max();
    ensure!(reads.unwrap_or(0) as f64 > 0.5 * total, "reading /dev/zero is hardly seen: {cumulative:?}");
    let kernel = profile.mappings.iter().find(|mapping| mapping.filename.starts_with("[kernel.kallsyms]")).context("no kernel mapping")?;
    ensure!(kernel.has_functions, "{kernel:?}");
    // Where x86-64 links its kernel: without the slide its text begins at the same address on every machine.
    if cfg!(target_arch = "x86_64") {
        assert_eq!(kernel.start, 0xffff_ffff_8100_0000, "the kernel's text is shown where this boot put it");
    }
    Ok(())
}

#[test]
fn inside_a_pid_namespace_nothing_is_recorded_and_it_is_said() -> Result<()> {
    if !ready(&[Need::Root, Need::Program("unshare")]) {
        return Ok(());
    }
    for what in ["-a", "-- true"] {
        let script = format!("exec unshare -pf --mount-proc {} record -d 1 {what}", profiler_tests::run::binary().display());
        let outcome = Profiler::shell(&script)?.start()?.finish()?;
        outcome.failed(1, "pid namespace")?;
    }
    Ok(())
}

#[test]
fn children_are_recorded_beyond_the_end_of_the_process_that_was_named() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let spin = build("spin", Build::C)?;
    let folder = Folder::create()?;
    let go = folder.join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.01; done; {} 2 >/dev/null & sleep 1; echo gone", go.display(), spin.display());
    let parent = Subject::start(Path::new("/bin/sh"), ["-c", &format!("echo ready; {script}")])?;
    let mut running = Profiler::record()?.pid(parent.pid()).args(["-F", "199"]).start()?;
    running.wait_until_recording()?;
    std::fs::write(&go, "")?;
    let run = running.finish()?.success()?;
    let seconds = run.profile()?.labelled("comm", "spin").total(1) as f64 / 1e9;
    ensure!((1.9..2.3).contains(&seconds), "{seconds} s of 2: {}", run.stderr);
    Ok(())
}
