//! `-e heap` of programs that nobody prepared for it: an interpreter, and programs that are linked with an allocator of their own.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::{Need, can_record, ready, skip};
use profiler_tests::subject::{Build, Subject, source};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// Records one round of a program that has done one before.
fn late(command: Command) -> Result<Profile> {
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut round = |subject: &mut Subject| -> Result<()> {
        stdin.write_all(b"go\n")?;
        subject.wait_for_line("done").map(drop)
    };
    round(&mut subject)?;
    let mut running = Profiler::record()?.pid(subject.pid()).args(["-e", "heap", "--sample-bytes", "1"]).start()?;
    running.wait_until_recording()?;
    round(&mut subject)?;
    let run = running.interrupt()?.success()?;
    let profile = Profile::read(&run.folder.join("heap.prof"))?;
    ensure!(profile.balance()?.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
    Ok(profile)
}

#[test]
fn an_allocator_that_a_program_is_linked_with_gives_the_same() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let folder = profiler_tests::manifest::root().join("target/profiler-tests/heap");
    std::fs::create_dir_all(&folder)?;
    for library in ["libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2.0"] {
        let path = Path::new("/usr/lib/x86_64-linux-gnu").join(library);
        if !path.exists() {
            skip(&format!("{library} is not there"));
            continue;
        }
        let program = folder.join(format!("linked-{library}"));
        let mut compiler = Command::new("gcc");
        compiler.args(["-O2", "-g", "-fno-optimize-sibling-calls", "-o"]).arg(&program).arg(source("blocks", Build::C));
        ensure!(compiler.arg("-Wl,--no-as-needed").arg(&path).status()?.success(), "linking with {library}");
        let profile = late(Command::new(program)).with_context(|| library.to_owned())?;
        let all: Vec<i64> = (0..4).map(|column| profile.total(column)).collect();
        ensure!(all == [3760, 4_007_880, 1450, 2_004_800], "{library}: {all:?}: {:#?}", profile.comments);
    }
    Ok(())
}

#[test]
fn the_objects_of_a_python_program_are_counted_by_their_size() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("python3")]) {
        return Ok(());
    }
    // Of 5,000 bytes and their head 300 stay; of 20,000 bytes 700 go at once. Nothing else that the interpreter makes is in those classes of size.
    let script = "import sys
kept = []
print('ready', flush=True)
for line in sys.stdin:
    kept.append([bytes(5000) for i in range(300)])
    for i in range(700): bytes(20000)
    print('done', flush=True)";
    let mut command = Command::new("python3");
    command.args(["-c", script]);
    let profile = late(command)?;
    let of_class = |bytes: i64| -> Vec<i64> {
        let mine = profile.only(|sample| sample.labels.iter().any(|label| label.key == "bytes" && label.number == bytes));
        [0, 2].map(|column| mine.total(column)).to_vec()
    };
    ensure!(of_class(5120) == [300, 300] && of_class(20480) == [700, 0], "{:?}", profile.label_values("bytes"));
    Ok(())
}
