//! P5: what we hold while a compiler of 150 MB, Node, a JVM and 200 short processes run, at the end of the recording with names for all of it, and at rest
//! when all of them stand still, mapped as they are.

use super::Row;
use super::footprint::Footprint;
use super::memory::MEMORY_MB_MAX;
use anyhow::{Result, ensure};
use profiler_tests::run::{Folder, Profiler, as_pid};
use profiler_tests::skip::find;
use profiler_tests::subject::{Build, build};
use rustix::process::{Signal, kill_process_group};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the load runs, and how long it then rests: a reader without work ends after 5 s.
const LOAD: Duration = Duration::from_secs(25);
const REST: Duration = Duration::from_secs(10);
/// The default of --memory-limit.
const LIMIT_MB: f64 = 128.0;
/// Short processes, each of a few milliseconds.
const SHORT: usize = 200;

const JAVA: &str = "public class Load { public static void main(String[] a) { long n = 0; while (true) { \
    var map = new java.util.TreeMap<String, Integer>(); for (int i = 0; i < 5000; i++) map.merge(\"k\" + i % 700, i, Integer::sum); n += map.size(); } } }";
const NODE: &str = "for (;;) { const o = {}; for (let i = 0; i < 3000; i++) o['k' + i] = [i, String(i)]; JSON.parse(JSON.stringify(o)); }";
const RUST: &str = "while :; do rustc -O --crate-type lib --emit obj -A warnings -o /dev/null tests/subjects/rustspin.rs; done";

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let folder = Folder::create()?;
    let java = folder.join("Load.java");
    std::fs::write(&java, JAVA)?;
    let short = build("short", Build::CBare)?;
    let mut running = Profiler::record()?.args(["-a"]).start()?;
    running.wait_until_recording()?;
    let load = Load::start(&[
        ("sh", vec!["-c", RUST]),
        ("node", vec!["-e", NODE]),
        ("java", vec!["-XX:+UseSerialGC", "-Xmx64m", &java.to_string_lossy()]),
    ])?;
    let (begun, mut peak) = (Instant::now(), Footprint::default());
    for _ in 0..SHORT {
        Command::new(&short).arg("5").stdout(Stdio::null()).status()?;
        peak = larger(peak, Footprint::of(running.pid())?);
    }
    while begun.elapsed() < LOAD {
        peak = larger(peak, Footprint::of(running.pid())?);
        std::thread::sleep(Duration::from_millis(10));
    }
    load.signal(Signal::STOP);
    std::thread::sleep(REST);
    let rest = Footprint::of(running.pid())?;
    running.signal(Signal::INT)?;
    let mut finish = Footprint::default();
    // One that has ended has no descriptors any more, before it is waited for.
    while let Ok(now) = Footprint::of(running.pid()) {
        if now.processes == 0 {
            break;
        }
        finish = larger(finish, now);
        std::thread::sleep(Duration::from_millis(2));
    }
    let profile = running.finish()?.success()?.profile()?;
    ensure!(profile.balance()?.difference == 0, "{:?}", profile.balance()?);
    let row = |what: &str, held: Footprint, goal: &str, most: f64| Row::goal(what, format!("{:.1} MB", held.mb()), goal, held.mb() <= most);
    Ok(vec![
        row("at rest, all of it mapped", rest, "<= 48 MB", MEMORY_MB_MAX),
        Row::beside("of that", rest.parts()),
        row("peak while it runs", peak, "<= 128 MB, the limit", LIMIT_MB),
        Row::beside("of that", peak.parts()),
        row("peak while names are found", finish, "<= 128 MB, the limit", LIMIT_MB),
        Row::beside("of that", finish.parts()),
        Row::beside("user stacks that reached the root", format!("{:.2} %", 100.0 * profile.rooted()?)),
    ])
}

fn larger(one: Footprint, other: Footprint) -> Footprint {
    if one.mb() >= other.mb() { one } else { other }
}

/// Programs in groups of their own; killed with the value, with all that they have started.
struct Load(Vec<Child>);

impl Load {
    fn start(commands: &[(&str, Vec<&str>)]) -> Result<Self> {
        let mut load = Self(Vec::new());
        for (program, args) in commands {
            ensure!(find(program).is_some(), "the load needs {program}");
            let mut command = Command::new(program);
            command.args(args).current_dir(profiler_tests::manifest::root()).process_group(0);
            load.0.push(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        }
        Ok(load)
    }

    fn signal(&self, signal: Signal) {
        for child in &self.0 {
            let _ = as_pid(child.id()).map(|group| kill_process_group(group, signal));
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.0.iter_mut().for_each(|child| drop(child.wait()));
    }
}
