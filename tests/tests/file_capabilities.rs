//! The second way that the profiler offers to whoever lacks rights, taken literally: the program gets its capabilities once, by setcap, and from then on anyone's
//! recording of anyone's processes has its names.

use anyhow::{Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, binary};
use profiler_tests::skip::{Need, can_record, find, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What README.md gives the program.
const ALL: [&str; 6] = ["cap_bpf", "cap_perfmon", "cap_sys_ptrace", "cap_dac_read_search", "cap_checkpoint_restore", "cap_syslog"];
/// A user without any right, `nobody`.
const NOBODY: u32 = 65534;

/// Where setcap is: not in everyone's PATH.
fn setcap() -> &'static str {
    if find("setcap").is_some() { "setcap" } else { "/usr/sbin/setcap" }
}

/// A copy of the profiler, and of a program, where anyone can start them, and a folder that anyone can write.
struct Place(Folder);

impl Place {
    fn make() -> Result<Self> {
        let folder = Folder::create()?;
        fs::copy(binary(), folder.join("profiler"))?;
        fs::copy(build("spin", Build::C)?, folder.join("spin"))?;
        fs::create_dir(folder.join("work"))?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        fs::set_permissions(folder.join("work"), fs::Permissions::from_mode(0o777))?;
        Ok(Self(folder))
    }

    fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// Gives the copy of the profiler these capabilities, and no other.
    fn give(&self, capabilities: &[&str]) -> Result<()> {
        let given = Command::new(setcap()).arg(format!("{}+ep", capabilities.join(","))).arg(self.0.join("profiler")).output()?;
        ensure!(given.status.success(), "setcap: {}", String::from_utf8_lossy(&given.stderr));
        Ok(())
    }

    /// `profiler ARGS` by nobody, who has no capability to hand on.
    fn profiler(&self, args: &[&str]) -> Result<Output> {
        Ok(by_nobody(&self.0.join("profiler")).args(args).current_dir(self.work()).output()?)
    }
}

/// A program, started by nobody.
fn by_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--inh-caps=-all"]).arg(program);
    command
}

fn is_ready() -> bool {
    can_record(&[Build::C]) && ready(&[Need::Program("setpriv"), Need::Program(setcap())])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn anyone_records_their_own_processes_and_those_of_others() -> Result<()> {
    if !is_ready() {
        return Ok(());
    }
    let place = Place::make()?;
    place.give(&ALL)?;
    let mut command = by_nobody(&place.0.join("spin"));
    command.arg("1000");
    let (own, other) = (Subject::start_command(command)?, Subject::start(&build("spin", Build::C)?, ["1000"])?);
    ensure!(fs::metadata(format!("/proc/{}", own.pid()))?.uid() == NOBODY, "nobody's process is somebody's");
    let pids = format!("{},{}", own.pid(), other.pid());
    let output = place.profiler(&["record", "-p", &pids, "-F", "199", "-d", "2"])?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    let written = place.work().join("cpu.prof");
    ensure!(fs::metadata(&written)?.uid() == NOBODY, "the profile is somebody else's");
    let profile = Profile::read(&written)?;
    assert_eq!(profile.balance()?.difference, 0);
    for subject in [&own, &other] {
        let of_subject = profile.labelled("pid", &subject.pid().to_string());
        let whole = of_subject.only(|sample| of_subject.names(sample).windows(2).any(|pair| pair == ["spin_here", "middle"])).total(0);
        ensure!(whole > 50 && whole as f64 > 0.95 * of_subject.total(0) as f64, "pid {}: {:?}", subject.pid(), of_subject.flat());
    }
    // A command is started with nothing of it.
    let output = place.profiler(&["record", "-q", "-F", "199", "--", "cat", "/proc/self/status"])?;
    let status = text(&output.stdout);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        let mask = status.lines().find_map(|line| line.strip_prefix(set)).map(str::trim);
        assert_eq!(mask, Some("0000000000000000"), "the command's {set} {}", text(&output.stderr));
    }
    Ok(())
}

#[test]
fn with_one_less_exactly_that_one_is_named() -> Result<()> {
    if !is_ready() {
        return Ok(());
    }
    let place = Place::make()?;
    for less in ALL {
        let rest: Vec<&str> = ALL.into_iter().filter(|name| *name != less).collect();
        place.give(&rest)?;
        let is_needed = ["cap_bpf", "cap_perfmon"].contains(&less);
        let check = place.profiler(&["check"])?;
        let table = text(&check.stdout);
        let missing: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("missing  capability ")).collect();
        let named: Vec<String> = missing.iter().filter_map(|line| Some(line.split(' ').next()?.to_lowercase())).collect();
        assert_eq!(named, [less], "{table}");
        assert_eq!(check.status.code(), Some(i32::from(is_needed)), "without {less}: {table}");
        let record = place.profiler(&["record", "-d", "0.2", "-o", "x.prof"])?;
        let said = text(&record.stderr);
        assert_eq!(record.status.code(), Some(i32::from(is_needed)), "without {less}: {said}");
        let written = place.work().join("x.prof").exists();
        ensure!(written != is_needed && !said.contains("panicked"), "without {less}: {said}");
        if is_needed {
            ensure!(said.contains(&format!("recording needs {}: ", less.to_uppercase())), "without {less}: {said}");
            let whole = format!("setcap {}+ep {}", ALL.join(","), place.0.join("profiler").display());
            ensure!(said.contains("(sudo ") && said.contains(&whole), "it does not offer `{whole}`: {said}");
        } else {
            fs::remove_file(place.work().join("x.prof"))?;
        }
    }
    Ok(())
}

#[test]
fn a_budget_is_refused_where_the_kernel_does_not_tell_what_is_spent() -> Result<()> {
    if !is_ready() {
        return Ok(());
    }
    let place = Place::make()?;
    place.give(&ALL)?;
    let record = |capabilities: &[&str]| -> Result<Output> {
        place.give(capabilities)?;
        place.profiler(&["record", "-e", "allocs", "--max-overhead", "3%", "-o", "{kind}.prof", "--", "true"])
    };
    let refused = record(&ALL)?;
    ensure!(
        refused.status.code() == Some(1) && text(&refused.stderr).contains("--max-overhead: the kernel does not tell"),
        "{}",
        text(&refused.stderr)
    );
    ensure!(!place.work().join("allocs.prof").exists(), "it wrote a profile");
    let with_rights: Vec<&str> = ALL.into_iter().chain(["cap_sys_admin"]).collect();
    let recorded = record(&with_rights)?;
    ensure!(recorded.status.success(), "{}", text(&recorded.stderr));
    Ok(())
}
