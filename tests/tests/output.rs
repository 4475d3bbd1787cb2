//! What is written, and where: every format, every pattern of a name, every way in which writing can fail. Whatever happens, there is the old file or the
//! new one, whole.

use anyhow::{Context, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler, Running, binary};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use profiler_tests::waiting;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// A spinning program.
fn spinning() -> Result<Subject> {
    Subject::start(&build("spin", Build::C)?, ["1000"])
}

/// A short recording of a subject, ready for more arguments.
fn short(subject: &Subject) -> Result<Profiler> {
    Ok(Profiler::record()?.pid(subject.pid()).args(["-F", "199", "-d", "1"]))
}

/// Runs `profiler record` of everything for a second in a shell that has prepared the folder, as in a mount namespace of its own.
fn in_own_mounts(folder: &Folder, prepare: &str, more: &str) -> Result<(Option<i32>, String, String)> {
    let script = format!(
        "{prepare} && cd {0} && {1} record -a -d 1 {more}; status=$?; ls -A {0}; cat {0}/cpu.prof; exit $status",
        folder.path().display(),
        binary().display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

#[test]
fn the_ending_of_the_name_chooses_the_format_and_a_flag_overrides_it() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = spinning()?;
    let written = |args: &[&str], name: &str| -> Result<Vec<u8>> {
        let outcome = short(&subject)?.args(args).run()?.success()?;
        assert_eq!(outcome.folder.names()?, [name], "exactly the file that was asked for");
        fs::read(outcome.folder.join(name)).context("reading it")
    };
    ensure!(Profile::parse(&written(&["-o", "a.pb.gz"], "a.pb.gz")?)?.total(0) > 0, "no samples");
    ensure!(written(&["-o", "a.svg"], "a.svg")?.windows(4).any(|window| window == b"<svg"), "not an SVG");
    let folded = String::from_utf8(written(&["-o", "a.folded"], "a.folded")?)?;
    ensure!(folded.lines().any(|line| line.contains("main;outer;middle;spin_here ")), "{folded}");
    let text = String::from_utf8(written(&["-o", "a.txt"], "a.txt")?)?;
    ensure!(text.contains("spin_here") && text.lines().any(|line| line.contains(" @ 0x")), "{text}");
    ensure!(written(&["--format", "folded", "-o", "b.prof"], "b.prof")?.windows(9).any(|window| window == b"spin_here"), "not folded");
    ensure!(written(&["--format", "pprof", "-o", "b.txt"], "b.txt")?.starts_with(&[0x1f, 0x8b]), "not compressed");
    Ok(())
}

#[test]
fn folded_stacks_hold_every_sample() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let spin = build("spin", Build::C)?;
    let outcome =
        Profiler::record()?.args(["-F", "199", "-o", "a.folded", "--"]).args([spin.as_os_str(), "1".as_ref()]).run()?.success()?;
    let folded = fs::read_to_string(outcome.folder.join("a.folded"))?;
    let mut total = 0;
    for line in folded.lines() {
        let (stack, count) = line.rsplit_once(' ').with_context(|| format!("no count in `{line}`"))?;
        ensure!(!stack.is_empty() && !stack.split(';').any(str::is_empty), "an empty frame in `{line}`");
        total += count.parse::<i64>().with_context(|| format!("in `{line}`"))?;
    }
    // One second by the program's own CPU clock, and what it took to start it.
    ensure!((190..=240).contains(&total), "{total} samples of one second of CPU time at 199 Hz:\n{folded}");
    Ok(())
}

#[test]
fn a_flame_graph_is_well_formed_and_escapes_names() -> Result<()> {
    if !can_record(&[Build::Rust]) || !ready(&[Need::Program("python3")]) {
        return Ok(());
    }
    let subject = Subject::start(&build("rustspin", Build::Rust)?, [""; 0])?;
    let outcome = short(&subject)?.args(["-o", "a.svg"]).run()?.success()?;
    let check =
        "import sys, xml.dom.minidom as m; d = m.parse(sys.argv[1]); print(d.documentElement.tagName, len(d.getElementsByTagName('rect')))";
    let output = Command::new("python3").args(["-c", check]).arg(outcome.folder.join("a.svg")).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && said.starts_with("svg "), "not well formed: {}", String::from_utf8_lossy(&output.stderr));
    let svg = fs::read_to_string(outcome.folder.join("a.svg"))?;
    ensure!(svg.contains("rustspin::inner_module::spin_here"), "the hot function is not in the picture");
    Ok(())
}

#[test]
fn names_are_filled_in_and_a_process_can_have_a_file_of_its_own() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let (one, two) = (spinning()?, Subject::start(&build("threads", Build::C)?, [""; 0])?);
    let both = ["-p".to_owned(), one.pid().to_string(), "-p".to_owned(), two.pid().to_string()];
    let outcome = Profiler::record()?
        .args(&both)
        .args(["-F", "199", "-d", "1", "--split", "process", "-o", "{kind}-{comm}-{pid}.prof"])
        .run()?
        .success()?;
    let mut expected = vec![format!("cpu-spin-{}.prof", one.pid()), format!("cpu-threads-{}.prof", two.pid())];
    expected.sort();
    assert_eq!(outcome.folder.names()?, expected);
    for (subject, comm) in [(&one, "spin"), (&two, "threads")] {
        let profile = Profile::read(&outcome.folder.join(format!("cpu-{comm}-{}.prof", subject.pid())))?;
        assert_eq!(profile.taken().label_values("pid").into_keys().collect::<Vec<_>>(), [subject.pid().to_string()]);
        let main = &profile.mappings.first().context("no mapping")?.filename;
        ensure!(main.ends_with(&format!("/{comm}")), "the first mapping of {comm} is {main}");
    }
    let one_file = Profiler::record()?.args(&both).args(["-F", "199", "-d", "1"]).run()?.success()?.profile()?.taken();
    assert_eq!(one_file.label_values("pid").len(), 2);
    assert_eq!(one_file.mappings[0].filename, "[system]", "several processes in one file have no main binary");
    Ok(())
}

#[test]
fn a_dash_is_standard_output() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = spinning()?;
    let outcome = short(&subject)?.args(["-o", "-"]).run()?.success()?;
    ensure!(Profile::parse(&outcome.stdout)?.total(0) > 20, "no profile on standard output");
    assert_eq!(outcome.folder.names()?, [""; 0]);
    let outcome = short(&subject)?.args(["-o", "-", "--format", "folded"]).run()?.success()?;
    ensure!(String::from_utf8(outcome.stdout)?.contains("spin_here"), "nothing folded on standard output");
    Ok(())
}

#[test]
fn a_closed_pipe_is_success() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = spinning()?;
    let mut command = Command::new(binary());
    command.args(["record", "-F", "199", "-d", "1", "-o", "-", "-p", &subject.pid().to_string()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_read_only_folder_is_said_so() -> Result<()> {
    if !ready(&[Need::Root, Need::Program("unshare")]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    let (code, _, said) = in_own_mounts(&folder, &format!("mount -t tmpfs -o ro none {}", folder.path().display()), "")?;
    assert_eq!(code, Some(1), "{said}");
    ensure!(said.contains("cpu.prof") && said.to_lowercase().contains("read-only"), "{said}");
    Ok(())
}

#[test]
fn a_full_disk_leaves_the_old_file() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("unshare")]) {
        return Ok(());
    }
    let _subject = spinning()?;
    let folder = Folder::create()?;
    // Two pages: one for the old file, and too little for a profile.
    let prepare = format!(
        "mount -t tmpfs -o size=8k none {0} && printf 'the old one' > {0}/cpu.prof && head -c 4096 /dev/zero > {0}/ballast",
        folder.path().display()
    );
    let (code, left, said) = in_own_mounts(&folder, &prepare, "")?;
    assert_eq!(code, Some(1), "{said}");
    ensure!(said.contains("cpu.prof") && said.to_lowercase().contains("no space"), "{said}");
    ensure!(left.ends_with("the old one"), "the old file is gone: {left}");
    assert_eq!(left.lines().count(), 3, "a temporary file stayed: {left}");
    Ok(())
}

#[test]
fn a_file_written_under_sudo_belongs_to_who_called_it_and_is_for_nobody_else() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = spinning()?;
    let mode_and_owner = |path: &Path| fs::metadata(path).map(|file| (file.permissions().mode() & 0o777, file.uid(), file.gid()));
    let sudo = |command: &mut Command| {
        command.env("SUDO_UID", "54321").env("SUDO_GID", "54322");
    };
    let outcome = short(&subject)?.with(sudo).run()?.success()?;
    assert_eq!(mode_and_owner(&outcome.folder.join("cpu.prof"))?, (0o600, 54321, 54322));
    let plain = |command: &mut Command| {
        command.env_remove("SUDO_UID").env_remove("SUDO_GID");
    };
    let outcome = short(&subject)?.with(plain).run()?.success()?;
    assert_eq!(mode_and_owner(&outcome.folder.join("cpu.prof"))?, (0o600, 0, 0));
    Ok(())
}

#[test]
fn a_link_in_the_way_is_replaced_and_not_followed() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = spinning()?;
    let elsewhere = Folder::create()?;
    let victim = elsewhere.join("victim");
    fs::write(&victim, "untouched")?;
    let profiler = short(&subject)?;
    symlink(&victim, profiler.folder().join("cpu.prof"))?;
    let outcome = profiler.run()?.success()?;
    assert_eq!(fs::read_to_string(&victim)?, "untouched");
    ensure!(fs::symlink_metadata(outcome.folder.join("cpu.prof"))?.is_file(), "the link is still there");
    outcome.profile()?;
    Ok(())
}

#[test]
fn an_interrupt_or_a_termination_still_writes_everything() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = spinning()?;
    let spin = build("spin", Build::C)?;
    for signal in [Signal::INT, Signal::TERM] {
        let mut running: Running = Profiler::record()?.pid(subject.pid()).args(["-F", "199"]).start()?;
        running.wait_until_recording()?;
        // The other one runs beside it for a while, by its own clock.
        Subject::start(&spin, ["0.5"])?.wait_for_line("cpu")?;
        running.signal(signal)?;
        let outcome = running.finish()?.success()?;
        ensure!(outcome.profile()?.total(0) > 20, "{signal:?}: hardly a sample");
        assert_eq!(outcome.folder.names()?, ["cpu.prof"]);
    }
    Ok(())
}

#[test]
fn a_kill_leaves_no_half_of_a_file() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = spinning()?;
    for _ in 0..10 {
        let mut running = Profiler::record()?.pid(subject.pid()).args(["-F", "199"]).start()?;
        running.wait_until_recording()?;
        // The kill comes when the first name appears in the folder: while the file is written, or a moment later. What stands under the profile's name is
        // nothing or a whole profile.
        running.signal(Signal::INT)?;
        while running.folder()?.names()?.is_empty() && Path::new(&format!("/proc/{}/fd/0", running.pid())).exists() {
            std::thread::yield_now();
        }
        let _ = running.signal(Signal::KILL);
        let outcome = running.finish()?;
        match outcome.folder.names()?.contains(&"cpu.prof".to_owned()) {
            true => ensure!(outcome.profile()?.duration_ns > 0, "half a profile"),
            false => ensure!(!outcome.status.success(), "it ended well and left nothing"),
        }
    }
    Ok(())
}

#[test]
fn the_terminal_gets_the_hottest_functions_the_losses_and_the_next_command() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = spinning()?;
    let outcome = short(&subject)?.run()?.success()?;
    for word in ["spin_here", "lost", "go tool pprof", "cpu.prof"] {
        ensure!(outcome.stderr.contains(word), "the end of a recording does not show `{word}`:\n{}", outcome.stderr);
    }
    ensure!(
        !outcome.stderr.contains('\r') && !outcome.stderr.contains('\u{1b}'),
        "a progress line where there is no terminal: {:?}",
        outcome.stderr
    );
    let quiet = short(&subject)?.args(["--quiet"]).run()?.success()?;
    ensure!(!quiet.stderr.contains("spin_here"), "--quiet: {}", quiet.stderr);
    Ok(())
}

/// Records into a FIFO that nobody opens, until the profiler waits for somebody who does, and asks it to end.
fn ended_at_a_fifo(configure: impl FnOnce(Profiler) -> Profiler) -> Result<()> {
    let profiler = Profiler::record()?;
    let fifo = profiler.folder().join("fifo");
    ensure!(Command::new("mkfifo").arg(&fifo).status()?.success(), "mkfifo");
    let running = configure(profiler.args(["-o", "fifo"])).start()?;
    // `wait_for_partner` of fs/pipe.c: in open(2), for a reader.
    let waiting_for = format!("/proc/{}/wchan", running.pid());
    waiting::until("it to wait for a reader", || Ok(fs::read_to_string(&waiting_for)?.contains("partner").then_some(())))?;
    running.signal(Signal::TERM)?;
    let outcome = running.finish()?;
    ensure!(!outcome.status.success(), "it was ended");
    Ok(())
}

#[test]
fn a_fifo_that_nobody_reads_does_not_hold_us_for_ever() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = spinning()?;
    ended_at_a_fifo(|profiler| profiler.pid(subject.pid()).args(["-d", "0.2"]))
}

#[test]
fn nor_does_it_after_a_command_has_ended() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    ended_at_a_fifo(|profiler| profiler.args(["--", "true"]))
}

#[test]
fn threads_that_are_told_apart_are_so_in_every_format() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = spinning()?;
    let run =
        |output: &str| Profiler::record()?.pid(subject.pid()).args(["-F", "199", "-d", "1", "--per-thread", "-o", output]).run()?.success();
    let thread = format!("(thread {})", subject.pid());
    for output in ["x.folded", "x.svg"] {
        let outcome = run(output)?;
        let text = fs::read_to_string(outcome.folder.join(output))?;
        ensure!(text.contains(&thread), "{output} does not tell threads apart");
    }
    Ok(())
}
