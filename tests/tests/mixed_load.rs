//! Everything at once, as a machine has it: servers, interpreters, programs with a compiler of their own, compilers and short tools, most of them without frame
//! pointers. Nearly every stack of each is walked to its root.

use anyhow::{Result, ensure};
use profiler_tests::manifest::root;
use profiler_tests::nginx::{self, Nginx};
use profiler_tests::postgres::{self, Postgres};
use profiler_tests::run::{Folder, Profiler, as_pid};
use profiler_tests::skip::{Need, can_record, ready, skip};
use profiler_tests::subject::{Build, Subject, build, java, source};
use rustix::process::{Signal, kill_process_group};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

/// The share of user stacks that must reach their root, of all together.
const ROOTED_MIN: f64 = 0.995;
/// Samples of each program at the least.
const SAMPLES_MIN: i64 = 20;
const SECONDS: &str = "30";
/// Recordings at most. Each begins without a table; how long the first stacks wait for theirs depends on what else the machine does.
const LOOKS: u32 = 3;

const NODE: &str = "console.log('ready'); for (;;) { const o = {}; for (let i = 0; i < 3000; i++) o['k' + i] = [i, String(i)]; \
    JSON.parse(JSON.stringify(o)); require('zlib').gzipSync(JSON.stringify(o)); }";

/// A child and its own children, ended with the value.
struct Group(Child);

impl Group {
    fn start(script: &str, folder: &Folder) -> Result<Self> {
        Ok(Self(Command::new("sh").args(["-c", script]).current_dir(folder.path()).process_group(0).spawn()?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(group) = as_pid(self.0.id()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// Compiles and shows a history for ever.
fn tools(folder: &Folder) -> Result<Group> {
    let (templates, spin) = (root().join("tests/subjects/templates.cpp"), root().join("tests/subjects/rustspin.rs"));
    let history = "git init -q . && for i in $(seq 1 30); do seq $i $((i * 300)) > f$i; git add .; git -c user.name=x -c user.email=x commit -qm $i; done";
    ensure!(Command::new("sh").args(["-c", history]).current_dir(folder.path()).status()?.success(), "git cannot make a history");
    let script = format!(
        "(while :; do g++ -O1 -c -o t.o {0}; done) & (while :; do rustc -O --crate-type lib --emit obj -A warnings -o r.o {1}; done) & \
         while :; do git log -p --stat > log; done",
        templates.display(),
        spin.display()
    );
    Group::start(&script, folder)
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// The share of user stacks that reach their root, and how many samples each program has.
fn look<'a>(busy: &[(&'a str, Subject)]) -> Result<(f64, Vec<(&'a str, i64)>)> {
    let profile = Profiler::record()?.args(["-a", "-F", "199", "-d", SECONDS]).run()?.success()?.profile()?;
    let mut seen: Vec<_> =
        busy.iter().map(|(name, subject)| (*name, profile.labelled("pid", &subject.pid().to_string()).total(0))).collect();
    seen.extend(["nginx", "postgres", "cc1plus", "rustc", "git"].map(|comm| (comm, profile.labelled("comm", comm).total(0))));
    let (rooted, endings) = (profile.rooted()?, profile.endings()?);
    println!("{:.2} %: {endings:?}; {seen:?}", 100.0 * rooted);
    Ok((rooted, seen))
}

#[test]
fn nearly_every_stack_reaches_its_root() -> Result<()> {
    let programs = ["/usr/bin/python3", "node", "java", "javac", "g++", "rustc", "git", nginx::PROGRAM, "runuser"];
    if !can_record(&[Build::Go, Build::Rust]) || !ready(&programs.map(Need::Program)) {
        return Ok(());
    }
    let Some(bin) = postgres::programs() else {
        skip("needs PostgreSQL");
        return Ok(());
    };
    let (classes, python, folder) = (java("JvmLoad")?, source("pyspin", Build::C).with_extension("py"), Folder::create()?);
    let database = Postgres::start(bin, 1)?;
    let mut transactions = database.shell(&format!("{} -n -c 2 -T 600 postgres", database.pgbench())).spawn()?;
    let tools = tools(&folder)?;
    let nginx = Nginx::under_load(1)?;
    let (classes, python) = (classes.to_string_lossy(), python.to_string_lossy());
    // What a JVM compiles keeps frame pointers when it is asked to.
    let jvm = ["java", "-XX:+PreserveFramePointer", "-Xmx128m", "-cp", &classes, "JvmLoad"];
    let mut busy = Vec::new();
    for words in [&["/usr/bin/python3", &*python][..], &["node", "-e", NODE], &jvm] {
        busy.push((words[0], Subject::start_command(command(words))?));
    }
    busy.push(("go", Subject::start(&build("gospin", Build::Go)?, [""; 0])?));
    busy.push(("rust", Subject::start(&build("rustspin", Build::Rust)?, [""; 0])?));
    let mut looked = look(&busy)?;
    for _ in 1..LOOKS {
        if looked.0 >= ROOTED_MIN {
            break;
        }
        looked = look(&busy)?;
    }
    drop(tools);
    nginx.stop()?;
    transactions.kill()?;
    transactions.wait()?;
    let (rooted, seen) = looked;
    ensure!(seen.iter().all(|(_, samples)| *samples >= SAMPLES_MIN), "not all of them ran: {seen:?}");
    ensure!(rooted >= ROOTED_MIN, "{rooted:.4} of the user stacks reach their root");
    Ok(())
}
