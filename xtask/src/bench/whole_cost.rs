//! P3: CPU time from capture to a symbolized profile, a sample, against `perf record -g` + `perf script`: 997 Hz, 20 s; one hot stack of depth 50, and a
//! cold mix of three compilers, Python and Node over many libraries. The mix is cold only if it is wide: that is a goal of its own; its width comes from Go's
//! compiler, linker and assembler over the whole standard library, and the kernel. The goal holds where both walk by frame pointers. What whole stacks take,
//! which the peer has no cheap way to, stands beside it.
//!
//! Agent CPU is user + system time of the tool and of all processes that it starts and waits for, as `wait4` gives it (here by a shell's `times`).

use super::{Row, median};
use anyhow::{Context, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, as_pid, binary};
use profiler_tests::skip::find;
use profiler_tests::subject::{Build, Subject, build};
use rustix::process::{Signal, kill_process_group};
use std::collections::HashSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// Rounds, ours and the peer's in turn; the ratio of the medians counts.
const ROUNDS: usize = 3;
/// What one round records, seconds.
const SECONDS: u32 = 20;
/// What we may use of the peer's CPU time.
const RATIO_MAX: f64 = 0.4;

/// Return addresses and files below which a mix is not cold.
pub(super) const LOCATIONS_MIN: usize = 20_000;
pub(super) const MAPPINGS_MIN: usize = 30;

/// Go's standard library, every package of it anew each time; its cache lies in the folder that the shell is given.
pub(super) const GO_BUILDS: &str =
    "export GOCACHE=$1 GOFLAGS=-p=2 GOTOOLCHAIN=local GOTMPDIR=$1; while :; do go build -a -o /dev/null std cmd/vet; done";
/// Compiles of a second and more each.
pub(super) const COMPILES: &str = "while :; do
    g++ -O3 -g -c -o /dev/null tests/subjects/templates.cpp
    rustc -O --crate-type lib --emit obj -A warnings -o /dev/null tests/subjects/rustspin.rs
done";
/// Compiles that are over in 30 ms: as much fork, exec and mapping as compiling.
const SHORT_COMPILES: &str = "while :; do gcc -O2 -c -o /dev/null tests/subjects/forks.c; done";

/// One tool's cost in one round.
struct Cost {
    cpu_seconds: f64,
    samples: i64,
}

/// Measures all loads.
pub(super) fn run() -> Result<Vec<Row>> {
    let deep = build("deep", Build::C)?;
    let hot = Subject::start(&deep, ["50"])?;
    let mut rows = compare("one hot stack of depth 50", Walk::Whole)?.rows;
    drop(hot);
    let mix = Mix::start(&[GO_BUILDS, COMPILES])?;
    let cold = compare("cold mix", Walk::FramePointers)?;
    rows.extend(compare("cold mix, whole stacks", Walk::Whole)?.rows.into_iter().map(Row::without_goal));
    drop(mix);
    rows.extend(cold.rows);
    rows.push(Row::goal(
        "cold mix: return addresses",
        cold.locations.to_string(),
        format!(">= {LOCATIONS_MIN}"),
        cold.locations >= LOCATIONS_MIN,
    ));
    rows.push(Row::goal("cold mix: mappings", cold.mappings.to_string(), format!(">= {MAPPINGS_MIN}"), cold.mappings >= MAPPINGS_MIN));
    let mix = Mix::start(&[SHORT_COMPILES])?;
    rows.extend(compare("cold mix of short compiles", Walk::FramePointers)?.rows);
    drop(mix);
    Ok(rows)
}

/// What was found under one load; the widths are the least of the rounds.
struct Compared {
    rows: Vec<Row>,
    locations: usize,
    mappings: usize,
}

/// How our side walks user stacks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// As the peer.
    FramePointers,
    /// By the files' tables.
    Whole,
}

/// Interleaved rounds under the load that runs.
fn compare(load: &str, walk: Walk) -> Result<Compared> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut stacks, mut locations, mut mappings) = (usize::MAX, usize::MAX, usize::MAX);
    for _ in 0..ROUNDS {
        let folder = Folder::create()?;
        let cost = profiler(&folder, walk)?;
        let profile = Profile::read(&folder.join("cpu.prof"))?;
        stacks = stacks.min(profile.samples.iter().map(|sample| &sample.locations).collect::<HashSet<_>>().len());
        locations = locations.min(profile.locations.len());
        mappings = mappings.min(profile.mappings.len());
        ours.push(1e6 * cost.cpu_seconds / cost.samples as f64);
        let cost = perf(&folder)?;
        theirs.push(1e6 * cost.cpu_seconds / cost.samples as f64);
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    let ratio = ours / theirs;
    let rows = vec![
        Row::goal(format!("{load}: ratio to perf -g"), format!("{ratio:.3}"), format!("<= {RATIO_MAX}"), ratio <= RATIO_MAX),
        Row::beside(format!("{load}: us a sample, ours and perf's"), format!("{ours:.1}, {theirs:.1}")),
        Row::beside(format!("{load}: distinct stacks, locations, mappings"), format!("{stacks}, {locations}, {mappings}")),
    ];
    Ok(Compared { rows, locations, mappings })
}

impl Walk {
    const fn option(self) -> &'static str {
        match self {
            Self::FramePointers => "--frame-pointers",
            Self::Whole => "",
        }
    }
}

/// Our recording of everything.
fn profiler(folder: &Folder, walk: Walk) -> Result<Cost> {
    let output = folder.join("cpu.prof");
    let script = format!("{} record -a -q -F 997 {} -d {SECONDS} -o {}", binary().display(), walk.option(), output.display());
    let cpu_seconds = timed(&script)?;
    Ok(Cost { cpu_seconds, samples: Profile::read(&output)?.balance()?.samples })
}

/// The peer's recording of everything, and its symbolization.
fn perf(folder: &Folder) -> Result<Cost> {
    ensure!(find("perf").is_some(), "the peer is missing: apt-get install linux-perf");
    let (data, text) = (folder.join("perf.data"), folder.join("script"));
    let script = format!(
        "perf record -q -a -g -e cpu-clock -F 997 -o {0} -- sleep {SECONDS}; perf script -F comm,pid,ip,sym,dso -i {0} > {1}",
        data.display(),
        text.display()
    );
    let cpu_seconds = timed(&script)?;
    let printed = fs::read_to_string(&text).context("what perf script printed")?;
    // Idle ticks are samples to perf; they cost it time as well, so they count.
    Ok(Cost { cpu_seconds, samples: printed.split("\n\n").filter(|stack| !stack.trim().is_empty()).count() as i64 })
}

/// User and system seconds of a script and all that it ran.
fn timed(script: &str) -> Result<f64> {
    let output = Command::new("bash").args(["-c", &format!("{{ {script}; }} 2>&1; echo; times")]).output()?;
    ensure!(output.status.success(), "`{script}` failed: {}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // The last line: user and system time of the children, `0m1.234s 0m0.567s`.
    let last = text.lines().last().context("no times")?;
    last.split_whitespace().map(seconds).sum::<Option<f64>>().with_context(|| format!("times printed `{last}`"))
}

/// `1m2.345s` in seconds.
fn seconds(text: &str) -> Option<f64> {
    let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
    Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
}

/// Programs over many libraries, each in a loop; ended with the value, with all that they have started.
pub(super) struct Mix {
    loops: Vec<Child>,
    /// For what they keep between two rounds.
    folder: Folder,
}

impl Mix {
    /// Starts these scripts of the shell, which get a folder for their files, and Python and Node beside them.
    pub(super) fn start(scripts: &[&str]) -> Result<Self> {
        let python = "import json, re, decimal, ssl, sqlite3, ctypes, lzma, bz2, hashlib, random
while True:
    d = {str(i): [random.random() for _ in range(20)] for i in range(300)}
    t = json.dumps(d); json.loads(t); re.sub(r'[0-9]+', 'x', t); sorted(d); hashlib.sha256(t.encode()); bz2.compress(t.encode()[:20000])
    c = sqlite3.connect(':memory:'); c.execute('create table t(a)'); c.executemany('insert into t values(?)', [(k,) for k in d]); c.execute('select count(*) from t where a like \"%3%\"').fetchall()";
        let node = "for (;;) { const o = {}; for (let i = 0; i < 3000; i++) o['k' + i] = [i, String(i)]; JSON.parse(JSON.stringify(o)); require('zlib').gzipSync(JSON.stringify(o)); require('crypto').createHash('sha256').update(JSON.stringify(o)).digest(); }";
        let mut mix = Self { loops: Vec::new(), folder: Folder::create()? };
        let at = mix.folder.path().to_string_lossy().into_owned();
        let shells = scripts.iter().map(|script| ("sh", vec!["-c", script, "sh", &at]));
        for (program, args) in shells.chain([("python3", vec!["-c", python]), ("node", vec!["-e", node])]) {
            ensure!(find(program).is_some(), "the cold mix needs {program}");
            let mut command = Command::new(program);
            command.args(args).current_dir(profiler_tests::manifest::root()).process_group(0);
            mix.loops.push(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        }
        Ok(mix)
    }
}

impl Drop for Mix {
    fn drop(&mut self) {
        for child in &mut self.loops {
            // Its group: a shell's compile goes on without the shell.
            let _ = as_pid(child.id()).map(|group| kill_process_group(group, Signal::KILL));
            let _ = child.wait();
        }
    }
}
