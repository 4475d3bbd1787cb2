//! Runs the built `profiler` as a user does: by its command line, in a folder of its own, and never longer than a hang may last.

use crate::manifest::root;
use crate::profile::Profile;
use crate::waiting;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

/// The binary under test: `PROFILER_BIN`, else the newer of the release and the debug build, else it is built.
///
/// # Panics
/// There is none and it does not build: no test can go on.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| locate().expect("a profiler to test"))
}

/// Finds or builds the binary.
fn locate() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PROFILER_BIN") {
        ensure!(Path::new(&path).is_file(), "PROFILER_BIN names {}, which is not there", Path::new(&path).display());
        return Ok(path.into());
    }
    let target = root().join("target");
    if let Some(found) = newest(&target) {
        return Ok(found);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built =
        Command::new(cargo).current_dir(root()).args(["build", "--release", "--package", "profiler-user", "--bin", "profiler"]).status()?;
    ensure!(built.success(), "building the profiler failed: {built}");
    newest(&target).context("cargo built no profiler")
}

/// The newer one of the two builds.
fn newest(target: &Path) -> Option<PathBuf> {
    let built = ["release/profiler", "debug/profiler"].map(|name| target.join(name));
    let time = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    built.into_iter().filter(|path| path.is_file()).max_by_key(time)
}

/// A folder of its own for each run, removed with the value.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("profiler-tests-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// The names in it, sorted.
    ///
    /// # Errors
    /// It cannot be listed.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How a run ended and what it left.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: String,
    /// Where it ran.
    pub folder: Folder,
}

impl Outcome {
    /// The exit code, as a shell has it.
    ///
    /// # Errors
    /// It was ended by a signal.
    pub fn code(&self) -> Result<i32> {
        self.status.code().with_context(|| format!("ended by a signal: {}\n{}", self.status, self.stderr))
    }

    /// Itself, if it ended with 0.
    ///
    /// # Errors
    /// It ended otherwise; with what it said.
    pub fn success(self) -> Result<Self> {
        ensure!(self.status.success(), "the profiler ended with {}:\n{}", self.status, self.stderr);
        Ok(self)
    }

    /// Checks a failure: this code, said in words that hold `word`, without a panic, and without leaving a file.
    ///
    /// # Errors
    /// Any of it is not so.
    pub fn failed(&self, code: i32, word: &str) -> Result<()> {
        ensure!(self.code()? == code, "exit code {} instead of {code}:\n{}", self.code()?, self.stderr);
        ensure!(!self.stderr.contains("panicked"), "it panicked:\n{}", self.stderr);
        ensure!(self.stderr.to_lowercase().contains(&word.to_lowercase()), "its message does not name `{word}`:\n{}", self.stderr);
        ensure!(self.folder.names()?.is_empty(), "it left {:?}", self.folder.names()?);
        Ok(())
    }

    /// The profile that it left under its default name, decoded.
    ///
    /// # Errors
    /// There is none, or it is not valid.
    pub fn profile(&self) -> Result<Profile> {
        Profile::read(&self.folder.join("cpu.prof")).with_context(|| self.stderr.clone())
    }
}

/// A `profiler` command line that is being put together.
#[derive(Debug)]
pub struct Profiler {
    command: Command,
    folder: Folder,
}

impl Profiler {
    /// `profiler SUBCOMMAND`, in a folder of its own.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(subcommand: &str) -> Result<Self> {
        let folder = Folder::create()?;
        let mut command = Command::new(binary());
        command.current_dir(folder.path()).arg(subcommand).stdin(Stdio::null());
        Ok(Self { command, folder })
    }

    /// A script of the shell, in a folder of its own; it ends in an `exec` of the profiler.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn shell(script: &str) -> Result<Self> {
        let folder = Folder::create()?;
        let mut command = Command::new("sh");
        command.current_dir(folder.path()).args(["-c", script]).stdin(Stdio::null());
        Ok(Self { command, folder })
    }

    /// `profiler record`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn record() -> Result<Self> {
        Self::new("record")
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// `-p PID`.
    pub fn pid(self, pid: u32) -> Self {
        self.args(["-p".to_owned(), pid.to_string()])
    }

    /// Changes the command itself: environment, user, descriptors.
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Where it will run.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It cannot be started, or it hangs.
    pub fn run(self) -> Result<Outcome> {
        self.start()?.finish()
    }

    /// Starts it. What it prints goes to files beside its folder, so that a full pipe can never block it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut self) -> Result<Running> {
        let spool = Folder::create()?;
        self.command.stdout(File::create(spool.join("stdout"))?).stderr(File::create(spool.join("stderr"))?);
        // A group of its own: a signal that the test sends to its group does not reach us.
        self.command.process_group(0);
        let child = self.command.spawn().with_context(|| format!("starting {}", binary().display()))?;
        Ok(Running { child, spool, folder: Some(self.folder) })
    }
}

/// A running `profiler`; killed with the value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    spool: Folder,
    folder: Option<Folder>,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(as_pid(self.pid())?, signal).context("signalling the profiler")
    }

    /// Waits until it says that it records. Not for runs with `--quiet`.
    ///
    /// # Errors
    /// It ends or hangs before that.
    pub fn wait_until_recording(&mut self) -> Result<()> {
        let (child, said) = (&mut self.child, self.spool.join("stderr"));
        let begun = waiting::until("the profiler to record", || {
            if let Some(status) = child.try_wait()? {
                bail!("the profiler ended before it recorded: {status}");
            }
            Ok(fs::read_to_string(&said)?.contains("recording; ").then_some(()))
        });
        begun.with_context(|| self.stderr_so_far())
    }

    /// What it has written to its standard error by now.
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.spool.join("stderr")).unwrap_or_default()).into_owned()
    }

    /// Where it runs.
    pub fn folder(&self) -> Result<&Folder> {
        self.folder.as_ref().context("still running")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It hangs.
    pub fn finish(mut self) -> Result<Outcome> {
        let status = waiting::for_end("the profiler", &mut self.child).with_context(|| self.stderr_so_far())?;
        let stdout = fs::read(self.spool.join("stdout"))?;
        let stderr = self.stderr_so_far();
        let folder = self.folder.take().context("a run ends once")?;
        Ok(Outcome { status, stdout, stderr, folder })
    }

    /// Ctrl-C, then its end.
    ///
    /// # Errors
    /// It hangs, or was gone.
    pub fn interrupt(self) -> Result<Outcome> {
        self.signal(Signal::INT)?;
        self.finish()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A process id as the system calls want it.
///
/// # Errors
/// It is 0.
pub fn as_pid(pid: u32) -> Result<Pid> {
    Pid::from_raw(i32::try_from(pid)?).context("a process id is not 0")
}

/// Seconds since boot, of all CPUs, that no process's clock holds: interrupts, what they leave to be done later, and what the host took.
///
/// # Errors
/// The kernel does not say.
pub fn kept_from_processes() -> Result<[f64; 3]> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields = stat.lines().next().context("no line")?.split_ascii_whitespace();
    // user nice system idle iowait irq softirq steal, in units of 10 ms.
    let seconds: Vec<f64> = fields.skip(6).take(3).map(|field| field.parse().unwrap_or(0.0) / 100.0).collect();
    seconds.try_into().ok().context("too few numbers")
}

/// How many CPUs are on line.
pub fn online_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
