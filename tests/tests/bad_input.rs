//! What a user can get wrong, and what a machine can lack: a message that says what to do, the right exit code, nothing left behind, no hang.

use anyhow::{Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler, binary};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::fs;
use std::process::{Command, Stdio};

/// `profiler record ARGS` is refused as misuse, in words that hold `word`.
fn misused(args: &[&str], word: &str) -> Result<()> {
    Profiler::record()?.args(args).run()?.failed(2, word)
}

/// `profiler record ARGS` fails, in words that hold `word`.
fn fails(args: &[&str], word: &str) -> Result<()> {
    Profiler::record()?.args(args).run()?.failed(1, word)
}

#[test]
fn misuse_is_refused_before_anything_happens() -> Result<()> {
    misused(&["-F", "0"], "frequency")?;
    misused(&["-F", "many"], "many")?;
    misused(&["-F", "1000000"], "1000000")?;
    misused(&["-d", "0"], "duration")?;
    misused(&["-d", "soon"], "soon")?;
    misused(&["-d", "-5"], "-5")?;
    misused(&["--format", "jpeg"], "jpeg")?;
    misused(&["-e", "no-such-kind"], "no-such-kind")?;
    misused(&["--clock", "sundial"], "sundial")?;
    misused(&["--split", "moon"], "moon")?;
    misused(&["--memory-limit", "lots"], "lots")?;
    misused(&["-p", "nginx"], "nginx")?;
    misused(&["-p", "1,x"], "1234,5678")?;
    misused(&["-o", "x.json"], ".json")?;
    misused(&["-o", "x.folded.gz"], "--format")?;
    misused(&["--user-only", "--kernel-only"], "--kernel-only")?;
    misused(&["-o", "{moon}.prof"], "moon")?;
    misused(&["--comm", ""], "--comm <GLOB>")?;
    misused(&["--no-such-flag"], "--no-such-flag")
}

#[test]
fn what_is_not_there_is_named() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    let beyond = fs::read_to_string("/proc/sys/kernel/pid_max")?.trim().parse::<u32>()? + 1;
    fails(&["-p", &beyond.to_string(), "-d", "1"], &beyond.to_string())?;
    fails(&["--cgroup", "/no/such/group", "-d", "1"], "/no/such/group")?;
    fails(&["--container", "0123456789abcdef", "-d", "1"], "0123456789abcdef")?;
    fails(&["--unit", "no-such.service", "-d", "1"], "no-such.service")?;
    fails(&["-o", "no/such/folder/cpu.prof", "-d", "1"], "no/such/folder")?;
    fails(&["-o", "/proc/x", "-d", "1"], "/proc: no file can be made")?;
    fails(&["--debug-dir", "/no/such/debug", "-d", "1"], "/no/such/debug")
}

#[test]
fn a_folder_under_the_name_of_the_profile_is_refused_before_anything_is_recorded() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    let profiler = Profiler::record()?;
    fs::create_dir(profiler.folder().join("cpu.prof"))?;
    let outcome = profiler.args(["-d", "1"]).run()?;
    assert_eq!(outcome.code()?, 1, "{}", outcome.stderr);
    ensure!(outcome.stderr.contains("cpu.prof is a directory"), "{}", outcome.stderr);
    ensure!(!outcome.stderr.contains("recording;"), "it recorded first: {}", outcome.stderr);
    Ok(())
}

#[test]
fn a_format_that_is_said_beats_an_ending_that_means_another() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    let outcome = Profiler::record()?.args(["-d", "0.2", "-o", "x.json", "--format", "pprof"]).run()?.success()?;
    Profile::read(&outcome.folder.join("x.json"))?;
    Ok(())
}

#[test]
fn several_processes_can_be_given_as_pidof_prints_them() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let spin = build("spin", Build::C)?;
    let (one, two) = (Subject::start(&spin, ["1000"])?, Subject::start(&spin, ["1000"])?);
    for between in [" ", ", "] {
        let pids = format!("{}{between}{}", one.pid(), two.pid());
        let profile = Profiler::record()?.args(["-d", "1", "-p", &pids]).run()?.success()?.profile()?;
        assert_eq!(profile.taken().label_values("pid").len(), 2, "-p \"{pids}\"");
    }
    Ok(())
}

#[test]
fn too_few_open_files_are_said_so_with_what_suffices() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    for limit in [8, 16, 24, 32, 48] {
        let script = format!("ulimit -n {limit}; exec {} record -d 1", binary().display());
        Profiler::shell(&script)?.run()?.failed(1, "(ulimit -n ")?;
    }
    let script = format!("ulimit -n 16; exec {} check", binary().display());
    let check = Profiler::shell(&script)?.run()?;
    let text = String::from_utf8_lossy(&check.stdout);
    ensure!(check.code()? == 1 && text.contains("it lacks: open files"), "{text}");
    Ok(())
}

#[test]
fn a_process_that_ends_at_once_gives_a_profile_all_the_same() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let mut subject = Subject::start(&build("spin", Build::C)?, ["0.3"])?;
    let mut running = Profiler::record()?.pid(subject.pid()).args(["-F", "499", "-d", "3"]).start()?;
    let outcome = match running.wait_until_recording() {
        Ok(()) => {
            subject.wait_for_line("cpu")?;
            running.finish()?
        }
        // It was gone before the recording began: that must be said, and nothing else.
        Err(_) => return running.finish()?.failed(1, &subject.pid().to_string()),
    };
    outcome.success()?.profile()?;
    Ok(())
}

#[test]
fn a_target_that_runs_nothing_is_an_empty_profile_and_a_warning() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    let mut sleeper = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn()?;
    let outcome = Profiler::record()?.pid(sleeper.id()).args(["-d", "1"]).run();
    sleeper.kill()?;
    sleeper.wait()?;
    let outcome = outcome?.success()?;
    let profile = outcome.profile()?;
    assert_eq!(profile.total(0), 0);
    assert_eq!(profile.sample_types.len(), 2, "an empty profile is a valid one");
    ensure!(outcome.stderr.to_lowercase().contains("no samples"), "nothing warns that nothing ran:\n{}", outcome.stderr);
    Ok(())
}

#[test]
fn a_name_that_nothing_has_is_an_empty_profile_and_a_warning() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let _others = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    // As a pattern the bracket that nothing closes stands for itself.
    for glob in ["no-such-name-*", "[spin"] {
        let outcome = Profiler::record()?.args(["--comm", glob, "-F", "199", "-d", "1"]).run()?.success()?;
        let profile = outcome.profile()?;
        assert_eq!(profile.taken().total(0), 0, "{glob}: {:?}", profile.label_values("comm"));
        let balance = profile.balance()?;
        ensure!(balance.filtered > 0 && balance.samples == 0, "{glob}: what others did was seen, and left out: {balance:?}");
        ensure!(outcome.stderr.contains("no samples: nothing that was asked for"), "{glob}: nothing warns of it:\n{}", outcome.stderr);
    }
    Ok(())
}

#[test]
fn without_rights_the_missing_capability_is_named_with_both_ways_to_get_it() -> Result<()> {
    if !ready(&[Need::Root, Need::Program("setpriv")]) {
        return Ok(());
    }
    // A copy where anyone can start it: the build folder may be closed to others.
    let folder = profiler_tests::run::Folder::create()?;
    let (copy, work) = (folder.join("profiler"), folder.join("work"));
    fs::copy(binary(), &copy)?;
    fs::create_dir(&work)?;
    for path in [folder.path(), &work] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    }
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"])
        .arg(&copy)
        .args(["record", "-a", "-d", "1"])
        .current_dir(&work)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in ["CAP_BPF", "CAP_PERFMON", "sudo", "setcap"] {
        ensure!(said.contains(word), "the message does not name {word}:\n{said}");
    }
    ensure!(fs::read_dir(&work)?.next().is_none(), "a run without rights left a file");
    Ok(())
}

#[test]
fn a_group_that_is_deleted_half_way_is_no_failure() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let Some(group) = profiler_tests::cgroup::Group::v1("profiler-tests-deleted")? else {
        profiler_tests::skip::skip("needs a cgroup v1 hierarchy");
        return Ok(());
    };
    let subject = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    group.add(subject.pid())?;
    let mut running = Profiler::record()?.args(["--cgroup", &group.path().to_string_lossy(), "-F", "199"]).start()?;
    running.wait_until_recording()?;
    Subject::start(&build("spin", Build::C)?, ["1"])?.wait_for_line("cpu")?;
    drop(subject);
    group.remove()?;
    let profile = running.interrupt()?.success()?.profile()?;
    ensure!(profile.labelled("comm", "spin").total(0) > 0, "what the group did before it was deleted is lost");
    Ok(())
}

#[test]
fn help_and_version_are_there_without_rights() -> Result<()> {
    let help = Profiler::new("--help")?.run()?.success()?;
    let text = String::from_utf8(help.stdout)?;
    for word in ["record", "check"] {
        ensure!(text.contains(word), "the help does not show `{word}`:\n{text}");
    }
    ensure!(Profiler::new("--version")?.run()?.success()?.stdout.starts_with(b"profiler "), "no version");
    Ok(())
}

#[test]
fn a_limit_on_file_sizes_leaves_nothing_half_written() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let _busy = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    let folder = Folder::create()?;
    // One block: no text of a whole machine is that short.
    let script = format!("ulimit -f 1; {} record -a -F 997 -d 1 -q -o {}/cpu.txt", binary().display(), folder.path().display());
    let output = Command::new("sh").args(["-c", &script]).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let left: Vec<_> = fs::read_dir(folder.path())?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    ensure!(output.status.code() == Some(1) && left.is_empty() && told.contains("File too large"), "{:?}, {left:?}: {told}", output.status);
    Ok(())
}
