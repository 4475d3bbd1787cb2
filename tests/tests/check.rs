//! `profiler check` says what this machine allows, and a recording needs no more than that: six capabilities are enough, and a missing one is named.

use anyhow::{Context, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler, binary};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// What recording needs, as setpriv names it.
const CAPABILITIES: [&str; 6] = ["bpf", "perfmon", "sys_ptrace", "dac_read_search", "checkpoint_restore", "syslog"];

/// A copy of the binary where anyone can start it, and a folder that anyone can write.
fn open_to_all() -> Result<Folder> {
    let folder = Folder::create()?;
    fs::copy(binary(), folder.join("profiler"))?;
    fs::create_dir(folder.join("work"))?;
    for path in [folder.path().to_path_buf(), folder.join("work")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    }
    Ok(folder)
}

/// Runs the copy as nobody with these capabilities.
fn as_nobody(folder: &Folder, capabilities: &[&str], args: &[&str]) -> Result<Output> {
    let set: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    for which in ["inh-caps", "ambient-caps", "bounding-set"] {
        command.arg(format!("--{which}=-all{set}"));
    }
    Ok(command.arg(folder.join("profiler")).args(args).current_dir(folder.join("work")).output()?)
}

#[test]
fn check_shows_a_row_a_feature_and_agrees_with_record() -> Result<()> {
    if !ready(&[Need::Root]) {
        return Ok(());
    }
    let outcome = Profiler::new("check")?.run()?.success()?;
    let text = String::from_utf8(outcome.stdout)?.to_lowercase();
    for word in ["btf", "perf events", "uprobe", "tracepoint", "iterator", "lockdown", "paranoid", "cap_bpf", "cap_perfmon", "memlock"] {
        ensure!(text.contains(word), "`profiler check` has no row on {word}:\n{text}");
    }
    Ok(())
}

#[test]
fn check_fails_where_record_would_and_names_the_same() -> Result<()> {
    if !ready(&[Need::Root, Need::Program("setpriv")]) {
        return Ok(());
    }
    let folder = open_to_all()?;
    let output = as_nobody(&folder, &[], &["check"])?;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    ensure!(String::from_utf8_lossy(&output.stdout).contains("CAP_BPF"), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[test]
fn six_capabilities_are_enough_to_record() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("setpriv")]) {
        return Ok(());
    }
    let folder = open_to_all()?;
    let subject = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    let output = as_nobody(&folder, &CAPABILITIES, &["record", "-a", "-F", "199", "-d", "2"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let profile = Profile::read(&folder.join("work/cpu.prof"))?;
    let of_subject = profile.labelled("pid", &subject.pid().to_string());
    let named = of_subject.cumulative().get("spin_here").copied().unwrap_or(0);
    ensure!(named > 100 && named as f64 > 0.97 * of_subject.total(0) as f64, "another user's program: {:?}", of_subject.flat());
    Ok(())
}

#[test]
fn each_missing_capability_is_named() -> Result<()> {
    if !ready(&[Need::Root, Need::Program("setpriv")]) {
        return Ok(());
    }
    let folder = open_to_all()?;
    for missing in ["bpf", "perfmon"] {
        let rest: Vec<&str> = CAPABILITIES.into_iter().filter(|name| *name != missing).collect();
        let output = as_nobody(&folder, &rest, &["record", "-a", "-d", "1"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "without {missing}: {said}");
        ensure!(said.contains(&format!("CAP_{}", missing.to_uppercase())), "without {missing}: {said}");
    }
    Ok(())
}

/// Runs the profiler where this stands in the place of the kernel's types, in a mount namespace of its own.
fn with_types(folder: &Folder, hide: &str, args: &str) -> Result<Output> {
    let script = format!("{hide} && cd {} && exec {} {args}", folder.path().display(), binary().display());
    Ok(Command::new("unshare").args(["-m", "sh", "-c", &script]).output()?)
}

#[test]
fn a_kernel_without_types_is_refused_by_both_in_the_same_words() -> Result<()> {
    const FOLDER: &str = "/sys/kernel/btf";
    if !ready(&[Need::Root, Need::Program("unshare"), Need::Path(FOLDER)]) {
        return Ok(());
    }
    let gone = format!("mount -t tmpfs none {FOLDER}");
    let empty = format!("{gone} && touch {FOLDER}/vmlinux");
    let foreign = format!("{gone} && echo no types at all > {FOLDER}/vmlinux");
    for (hide, why) in [(gone, "No such file"), (empty, "it is empty"), (foreign, "it is not BTF")] {
        let folder = Folder::create()?;
        let (check, record) = (with_types(&folder, &hide, "check")?, with_types(&folder, &hide, "record -a -d 1")?);
        let (table, said) = (String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&record.stderr));
        assert_eq!((check.status.code(), record.status.code()), (Some(1), Some(1)), "{hide}: {table}\n{said}");
        ensure!(table.contains("it lacks: BTF."), "nothing else may be blamed: {table}");
        for word in ["BTF", "/sys/kernel/btf/vmlinux", why, "use a kernel built with CONFIG_DEBUG_INFO_BTF=y"] {
            ensure!(table.contains(word), "{hide}: `check` does not say `{word}`:\n{table}");
            ensure!(said.contains(word), "{hide}: `record` does not say `{word}`:\n{said}");
        }
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(folder.names()?, [""; 0]);
    }
    Ok(())
}

#[test]
fn a_cpu_that_goes_and_comes_back_is_recorded_again() -> Result<()> {
    const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";
    if !can_record(&[Build::C]) || !ready(&[Need::Path(SWITCH), Need::Program("taskset")]) {
        return Ok(());
    }
    let spin = build("spin", Build::C)?;
    let mut running = Profiler::record()?.args(["-a", "-F", "499"]).start()?;
    running.wait_until_recording()?;
    fs::write(SWITCH, "0").context("taking CPU 1 off line")?;
    let ran = Subject::start(&spin, ["0.5"])?.wait_for_line("cpu");
    fs::write(SWITCH, "1").context("bringing CPU 1 back")?;
    ran?;
    // Only on the CPU that was away.
    let mut command = Command::new("taskset");
    command.args(["-c", "1"]).arg(&spin).arg("3");
    let mut pinned = Subject::start_command(command)?;
    pinned.wait_for_line("cpu")?;
    let pid = pinned.pid();
    let profile = running.interrupt()?.success()?.profile()?;
    let samples = profile.labelled("pid", &pid.to_string()).total(0);
    // Three seconds at 499 Hz, less the moment until the CPU's return was noticed.
    ensure!((1000..=1560).contains(&samples), "three seconds on the CPU that came back gave {samples} samples");
    assert_eq!(profile.balance()?.difference, 0, "{:?}", profile.losses()?);
    Ok(())
}
