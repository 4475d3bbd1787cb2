//! The peer with tables: lightswitch 0.7, which walks by `.eh_frame` in eBPF as we do. What its program costs comes from the kernel's statistics; that it
//! walks at all, from the stack that its program keeps of the last sample of each CPU.

use super::median;
use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Map, MapData, PerCpuArray, loaded_maps};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use profiler_tests::run::Folder;
use profiler_tests::skip::find;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What to do where it is missing.
pub(super) const HOW_TO_GET: &str = "not found in PATH nor by the variable LIGHTSWITCH: apt-get install clang-19 libclang-19-dev libelf-dev zlib1g-dev \
protobuf-compiler pkg-config; PATH=/usr/lib/llvm-19/bin:$PATH cargo install lightswitch --version 0.7.0 --locked --no-default-features --features \
deadlock-detector";
/// Its entry program; the time of those that it calls behind its back (tail calls) counts as its own.
const ENTRY: &str = "on_event";
/// The map with the state of a walk, one for each CPU (`unwind_state_t` of its profiler.h), and where in it the result and the frames stand.
const STATE: &str = "heap";
const STATE_WORDS: usize = 409;
const RESULT_AT: usize = 6;
const FRAMES_AT: usize = 8;
/// `SAMPLE_SUCCESS`: it has reached the root.
const SUCCESS: u32 = 1;
/// How long it may take until it walks.
const START_MAX: Duration = Duration::from_secs(30);
/// It asks for the mount of the tracing files in one place only; a mount name space of its own has it there.
const SCRIPT: &str = "mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null; exec \"$0\" \"$@\"";

/// Where it is.
pub(super) fn program() -> Option<PathBuf> {
    std::env::var_os("LIGHTSWITCH").map(PathBuf::from).or_else(|| find("lightswitch"))
}

/// What a run of it showed.
pub(super) struct Seen {
    /// Nanoseconds a run of its program.
    pub(super) ns: f64,
    /// Frames of a sample, the median of those that were looked at.
    pub(super) frames: f64,
    /// The share of those that reached the root.
    pub(super) rooted: f64,
}

/// It takes prime frequencies only.
fn prime(frequency_hz: u32) -> u32 {
    if frequency_hz == 99 { 97 } else { frequency_hz }
}

/// Runs it until it walks, and then for so long under the load that runs.
///
/// # Errors
/// It does not start, or never walks.
pub(super) fn cost(program: &Path, frequency_hz: u32, time: Duration) -> Result<Seen> {
    let _statistics: OwnedFd = enable_stats(Stats::RunTime).context("turning the statistics of programs on")?;
    let running = Running::start(program, prime(frequency_hz))?;
    let states = running.wait_until_walking()?;
    let before = running.totals()?;
    let (mut frames, mut rooted, begun) = (Vec::new(), 0, Instant::now());
    while begun.elapsed() < time {
        sleep(Duration::from_millis(50));
        for (result, count) in walks(&states)? {
            frames.push(f64::from(count));
            rooted += usize::from(result == SUCCESS);
        }
    }
    let after = running.totals()?;
    ensure!(after.0 > before.0, "lightswitch's program did not run");
    let rooted = rooted as f64 / frames.len() as f64;
    Ok(Seen { ns: (after.1 - before.1) / (after.0 - before.0) as f64, frames: median(&mut frames), rooted })
}

/// What each CPU's last walk came to: result and user frames.
fn walks(states: &PerCpuArray<MapData, [u64; STATE_WORDS]>) -> Result<Vec<(u32, u32)>> {
    let states = states.get(&0, 0).context("reading lightswitch's state")?;
    Ok(states.iter().map(|state| (state[RESULT_AT] as u32, state[FRAMES_AT] as u32)).collect())
}

/// The running peer; killed with the value.
struct Running {
    child: Child,
    /// Programs and maps that were there before it.
    programs_before: HashSet<u32>,
    maps_before: HashSet<u32>,
    _folder: Folder,
}

impl Running {
    fn start(program: &Path, frequency_hz: u32) -> Result<Self> {
        let programs_before = loaded_programs().flatten().map(|info| info.id()).collect();
        let maps_before = loaded_maps().flatten().map(|info| info.id()).collect();
        let folder = Folder::create()?;
        let (frequency, cache) = (frequency_hz.to_string(), folder.path().to_string_lossy().into_owned());
        let args = ["--sample-freq", &frequency, "-D", "600", "--sender", "none", "--profile-format", "none"];
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c", SCRIPT])
            .arg(program)
            .args(args)
            .args(["--symbolizer", "none", "--logging", "error", "--cache-dir-base", &cache])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting lightswitch by unshare")?;
        Ok(Self { child, programs_before, maps_before, _folder: folder })
    }

    /// Runs and nanoseconds of its program so far.
    fn totals(&self) -> Result<(u64, f64)> {
        let entries = loaded_programs().flatten().filter(|info| !self.programs_before.contains(&info.id()));
        let entries: Vec<_> = entries.filter(|info| info.name_as_str() == Some(ENTRY)).collect();
        ensure!(!entries.is_empty(), "lightswitch has no program {ENTRY}");
        let runs = entries.iter().map(|info| info.run_count()).sum();
        Ok((runs, entries.iter().map(|info| info.run_time().as_nanos() as f64).sum()))
    }

    fn wait_until_walking(&self) -> Result<PerCpuArray<MapData, [u64; STATE_WORDS]>> {
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            sleep(Duration::from_millis(100));
            let Ok(states) = self.states() else { continue };
            if walks(&states)?.iter().any(|(result, _)| *result == SUCCESS) {
                sleep(Duration::from_secs(1)); // What it still has to read of what runs.
                return Ok(states);
            }
        }
        bail!(
            "lightswitch has not walked any stack to its root in {START_MAX:?}; it runs by hand with: unshare -m sh -c '{SCRIPT}' lightswitch"
        )
    }

    fn states(&self) -> Result<PerCpuArray<MapData, [u64; STATE_WORDS]>> {
        let is_states = |name: &str, id: u32| name == STATE && !self.maps_before.contains(&id);
        let info = loaded_maps().flatten().find(|info| info.name_as_str().is_some_and(|name| is_states(name, info.id())));
        let data = MapData::from_id(info.context("no map yet")?.id())?;
        Ok(PerCpuArray::try_from(Map::PerCpuArray(data))?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its programs go when the kernel has closed its descriptors: the next measurement must not have them beside it.
        let gone =
            || loaded_programs().flatten().all(|info| self.programs_before.contains(&info.id()) || info.name_as_str() != Some(ENTRY));
        for _ in 0..50 {
            if gone() {
                return;
            }
            sleep(Duration::from_millis(100));
        }
    }
}
