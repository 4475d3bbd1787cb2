//! What real servers lose under `-e heap --max-overhead 3%`: their throughput in pairs, on and off, with what was recorded meanwhile. A budget that never armed a
//! probe would be easy to keep, so the steps and the samples stand beside it.

use super::mariadb::MariaDb;
use super::{Row, median};
use anyhow::{Context as _, Result, ensure};
use profiler_tests::postgres::{self, Postgres};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Outcome, Profiler};
use profiler_tests::subject::Subject;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Pairs of runs.
const PAIRS: usize = 5;
/// What may be lost.
const BUDGET: &str = "3%";
const KEPT_MIN: f64 = 0.97;
const SAMPLES_MIN: i64 = 1;
/// Of redis: requests of a run, some 20 s of them.
const REQUESTS: &str = "2500000";
const PORT: &str = "7391";
/// Of Python: seconds of a run, and what is done in it.
const SCRIPT: &str = "import json, sys, time
data = {str(i): list(range(20)) for i in range(200)}
print('ready', flush=True)
for line in sys.stdin:
    done, until = 0, time.monotonic() + 20
    while time.monotonic() < until:
        json.loads(json.dumps(data)); done += 1
    print('done', done, flush=True)
";

/// Of MariaDB and PostgreSQL: clients, and seconds of a run.
const CLIENTS: u32 = 2;
const SECONDS: u32 = 20;

/// All of it.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut rows = redis()?;
    rows.extend(mariadb()?);
    rows.extend(postgres()?);
    rows.extend(python()?);
    Ok(rows)
}

/// A server that is stopped when this is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn redis() -> Result<Vec<Row>> {
    let mut command = Command::new("redis-server");
    command.args(["--port", PORT, "--save", "", "--appendonly", "no"]).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server(command.spawn().context("redis-server, of Debian's package of that name")?);
    answers(PORT)?;
    let pid = server.0.id();
    pairs("redis SET, 200 bytes", pid, || {
        let words = ["-p", PORT, "-t", "set", "-d", "200", "-n", REQUESTS, "-q"];
        let output = Command::new("redis-benchmark").args(words).output().context("redis-benchmark, of Debian's package redis-tools")?;
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
        let line = text.lines().rev().find(|line| line.contains("requests per second")).with_context(|| text.clone())?;
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).with_context(|| line.to_owned())
    })
}

/// Waits until somebody listens.
fn answers(port: &str) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    while let Err(refused) = TcpStream::connect(format!("127.0.0.1:{port}")) {
        ensure!(Instant::now() < until, "nobody listens on port {port}: {refused}");
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A server in C++ that allocates for each query.
fn mariadb() -> Result<Vec<Row>> {
    let server = MariaDb::start()?;
    pairs("mariadbd, select by key", server.pid(), || server.queries(SECONDS))
}

/// A server whose clients have a process each, which begin while it is recorded.
fn postgres() -> Result<Vec<Row>> {
    let programs = postgres::programs().context("pgbench, of Debian's package postgresql-contrib")?;
    let server = Postgres::start(programs, 10)?;
    let script = format!("{} -S -c {CLIENTS} -j 1 -T {SECONDS} postgres", server.pgbench());
    pairs("PostgreSQL, pgbench -S", server.pid()?, || {
        let output = server.shell(&script).stdout(Stdio::piped()).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("tps = ")).with_context(|| text.clone())?;
        line.split_whitespace().next().and_then(|word| word.parse().ok()).with_context(|| line.to_owned())
    })
}

fn python() -> Result<Vec<Row>> {
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT]).env("PYTHONMALLOC", "malloc");
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    pairs("python3, JSON there and back", subject.pid(), || {
        stdin.write_all(b"go\n")?;
        let line = subject.wait_for_line("done")?;
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).with_context(|| line.clone())
    })
}

/// Throughput with and without, in turn.
fn pairs(what: &str, pid: u32, mut throughput: impl FnMut() -> Result<f64>) -> Result<Vec<Row>> {
    throughput()?; // Warm.
    let (mut kept, mut figures, mut recorded) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // Whatever gets faster or slower in time does so for both.
        let before = if pair % 2 == 0 { Some(throughput()?) } else { None };
        let mut running = Profiler::record()?.pid(pid).args(["-e", "heap", "--max-overhead", BUDGET]).start()?;
        running.wait_until_recording()?;
        let on = throughput()?;
        recorded.push(told(&running.interrupt()?.success()?)?);
        let off = before.map_or_else(&mut throughput, Ok)?;
        kept.push(on / off);
        figures.push(format!("{on:.0}/{off:.0}"));
    }
    let middle = median(&mut kept);
    let least = recorded.iter().map(|(_, samples)| *samples).min().unwrap_or(0);
    let recorded: Vec<String> = recorded.into_iter().map(|(text, _)| text).collect();
    Ok(vec![
        Row::goal(
            format!("{what}: throughput kept under -e heap --max-overhead {BUDGET}"),
            format!("{middle:.3} ({} a second)", figures.join(", ")),
            format!(">= {KEPT_MIN}"),
            middle >= KEPT_MIN,
        ),
        // One that never armed has not passed.
        Row::goal(
            format!("{what}: samples of calls in each recording, at the least"),
            least.to_string(),
            format!(">= {SAMPLES_MIN}"),
            least >= SAMPLES_MIN,
        ),
        Row::beside(format!("{what}: what was recorded"), recorded.join("; ")),
    ])
}

/// What needs no trap, and is no sign that one was ever armed.
const WITHOUT_TRAPS: [&str; 2] = ["faults.prof", "mmap.prof"];

/// The files of a recording: how long each is, and of how many samples; and those of calls together.
fn told(run: &Outcome) -> Result<(String, i64)> {
    let (mut told, mut all) = (Vec::new(), 0);
    for name in run.folder.names()? {
        let profile = Profile::read(&run.folder.join(&name))?;
        let taken = profile.comment("budget: ").map_or(String::new(), |note| format!(", {note}"));
        let samples = profile.balance()?.samples;
        all += if WITHOUT_TRAPS.contains(&name.as_str()) { 0 } else { samples };
        told.push(format!("{name} {:.1} s {samples} samples{taken}", profile.duration_ns as f64 / 1e9));
    }
    Ok((told.join(", "), all))
}
