//! At a real terminal, typed by a person: a shell with job control, the profiler in the foreground, Ctrl-C.

use anyhow::{Context, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, as_pid, binary};
use profiler_tests::skip::{Need, ready};
use profiler_tests::waiting;
use rustix::process::{Signal, kill_process};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ctrl-C, as the terminal's driver reads it.
const INTERRUPT: &[u8] = b"\x03";
/// `SI_KERNEL` of sigaction(2): not sent by any process.
const BY_THE_TERMINAL: &str = "128";

/// Takes signals one by one, so that two are never taken for one; notes each with where it came from. USR1 ends it with status 42.
const COMMAND: &str = "
import os, signal, sys
taken = {signal.SIGINT, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, taken)
open('pid', 'w').write(str(os.getpid()))
os.rename('pid', 'ready')
while True:
    info = signal.sigwaitinfo(taken)
    with open('log', 'a') as log: log.write('%d %d\\n' % (info.si_signo, info.si_code))
    if info.si_signo == signal.SIGUSR1: sys.exit(42)
";

/// A shell at a pseudoterminal, which `script` holds for us.
struct Terminal {
    script: Child,
    keys: Option<std::process::ChildStdin>,
}

impl Terminal {
    /// Opens one in a folder; what it shows is kept in a file.
    fn open(folder: &Path) -> Result<Self> {
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", "bash --norc --noprofile -i", "/dev/null"]).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(File::create(folder.join("shown"))?).stderr(Stdio::inherit());
        let mut script = command.spawn().context("starting script")?;
        let keys = script.stdin.take();
        Ok(Self { script, keys })
    }

    /// Types keys.
    fn type_in(&mut self, keys: &[u8]) -> Result<()> {
        let terminal = self.keys.as_mut().context("the terminal is open")?;
        terminal.write_all(keys)?;
        Ok(terminal.flush()?)
    }

    /// Waits until the shell has left.
    fn finish(mut self) -> Result<()> {
        let ended = waiting::for_end("the shell", &mut self.script);
        drop(self.keys.take());
        ended.map(drop)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// What a file holds, once it is there and something holds of it.
fn once(path: &Path, holds: impl Fn(&str) -> bool) -> Result<String> {
    waiting::until(&format!("{}", path.display()), || Ok(fs::read_to_string(path).ok().filter(|text| holds(text))))
}

#[test]
fn an_interrupt_that_is_typed_reaches_the_command_once_and_the_profile_is_written() -> Result<()> {
    if !ready(&[Need::Root, Need::Program("script"), Need::Program("bash"), Need::Program("python3")]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    fs::write(folder.join("command.py"), COMMAND)?;
    let mut terminal = Terminal::open(folder.path())?;
    let line = format!("{} record -F 499 -- python3 command.py; echo $? > status; exit\n", binary().display());
    terminal.type_in(line.as_bytes())?;
    let command: u32 = once(&folder.join("ready"), |text| !text.is_empty())?.parse()?;
    terminal.type_in(INTERRUPT)?;
    let log = folder.join("log");
    once(&log, |text| text.contains('\n'))?;
    // Passed on by the profiler behind whatever it still has to pass on: when the command has this one, no other is under way.
    let profiler = fs::read_to_string(format!("/proc/{command}/stat"))?;
    let profiler: u32 = profiler.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).context("no parent")?.parse()?;
    kill_process(as_pid(profiler)?, Signal::USR1)?;
    let status = once(&folder.join("status"), |text| text.ends_with('\n'))?;
    let shown = || fs::read_to_string(folder.join("shown")).unwrap_or_default();
    assert_eq!(status.trim(), "42", "{}", shown());
    terminal.finish()?;
    let log = fs::read_to_string(&log)?;
    let (interrupt, passed_on) = (Signal::INT.as_raw(), Signal::USR1.as_raw());
    assert_eq!(log, format!("{interrupt} {BY_THE_TERMINAL}\n{passed_on} 0\n"), "{}", shown());
    let profile = Profile::read(&folder.join("cpu.prof"))?;
    ensure!(profile.total(0) > 0 && profile.duration_ns > 0, "{}", shown());
    let samples = profile.labelled("pid", &command.to_string()).total(0);
    ensure!(samples > 0, "nothing of the command: {:?}", profile.label_values("comm"));
    Ok(())
}

#[test]
fn an_interrupt_that_is_typed_ends_a_recording_without_a_command_and_writes_it() -> Result<()> {
    if !ready(&[Need::Root, Need::Program("script"), Need::Program("bash")]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    let mut terminal = Terminal::open(folder.path())?;
    terminal.type_in(format!("{} record -a; echo $? > status; exit\n", binary().display()).as_bytes())?;
    once(&folder.join("shown"), |text| text.contains("recording; Ctrl-C ends it"))?;
    terminal.type_in(INTERRUPT)?;
    let status = once(&folder.join("status"), |text| text.ends_with('\n'))?;
    terminal.finish()?;
    assert_eq!(status.trim(), "0");
    Profile::read(&folder.join("cpu.prof"))?;
    let shown = fs::read_to_string(folder.join("shown"))?;
    ensure!(shown.contains("finding names (Ctrl-C twice ends without a profile)"), "{shown}");
    Ok(())
}
