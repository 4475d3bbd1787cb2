//! `-e mmap`: an address space grows and shrinks where the program asked for it, whichever way, and what is counted is what the kernel says at the end.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build};
use std::io::Write as _;
use std::process::Command;

const KB: i64 = 1 << 10;
const MB: i64 = 1 << 20;
/// Times that the subject does it all.
const TURNS: i64 = 3;
/// How often and by how much each function makes the space larger, and smaller.
const CHANGES: [(&str, [i64; 4]); 8] = [
    ("small", [100, 6400 * KB, 100, 6400 * KB]),
    ("by_malloc", [7, 7 * (40 * MB + 4 * KB), 7, 7 * (40 * MB + 4 * KB)]),
    ("by_break", [1, 3 * MB, 1, MB]),
    ("fixed", [1, 2 * MB, 0, 0]),
    ("with_hole", [0, 0, 2, 3 * MB]),
    ("moved", [2, 5 * MB, 2, 5 * MB]),
    ("refused", [0, 0, 0, 0]),
    ("in_child", [1, 6 * MB, 0, 0]),
];

fn of(profile: &Profile, function: &str) -> Vec<i64> {
    let mine = profile.only(|sample| profile.names(sample).contains(&function));
    (0..4).map(|column| mine.total(column)).collect()
}

/// Bytes of a process's address space, by the kernel's own account.
fn space(pid: u32) -> Result<i64> {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    Ok(pages.split(' ').next().context("pages")?.parse::<i64>()? * 4096)
}

#[test]
fn a_space_grows_and_shrinks_where_it_was_asked_for() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let (mut subject, mut stdin) = Subject::start_told(Command::new(build("mmaps", Build::CBare)?))?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["-e", "mmap,cpu"]).start()?;
    recording.wait_until_recording()?;
    let before = space(subject.pid())?;
    for _ in 0..TURNS {
        stdin.write_all(b"go\n")?;
        subject.wait_for_line("done")?;
    }
    let after = space(subject.pid())?;
    let run = recording.interrupt()?.success()?;
    let profile = Profile::read(&run.folder.join("mmap.prof"))?;
    let types: Vec<_> = profile.sample_types.iter().map(|(name, unit)| (name.as_str(), unit.as_str())).collect();
    ensure!(types == [("growths", "count"), ("grown_space", "bytes"), ("shrinks", "count"), ("shrunk_space", "bytes")], "{types:?}");
    for (function, changes) in CHANGES {
        ensure!(of(&profile, function) == changes.map(|number| TURNS * number), "{function}: {:?}", of(&profile, function));
    }
    let parent = profile.labelled("pid", &subject.pid().to_string());
    let grown = parent.total(1) - parent.total(3);
    ensure!(grown == after - before, "{grown} counted, {} by the kernel", after - before);
    ensure!(profile.rooted()? >= 0.99, "{:?}", profile.endings()?);
    ensure!(profile.balance()?.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
    Ok(())
}

#[test]
fn a_program_is_followed_through_its_execs_from_what_each_begins_with() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let script = "cat /proc/self/statm; exec sh -c 'cat /proc/self/statm; exec cat /proc/self/statm'";
    let run = Profiler::record()?.args(["-e", "mmap", "--", "sh", "-c", script]).run()?.success()?;
    let profile = Profile::read(&run.folder.join("mmap.prof"))?;
    // The last one reads its own size when it has grown to it, but for what it begins with and the buffer that it takes afterwards.
    let told: Vec<i64> = String::from_utf8_lossy(&run.stdout).lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
    let &[_, _, last] = &told[..] else { anyhow::bail!("{told:?}") };
    let cat = profile.labelled("comm", "cat");
    let mut spaces: Vec<i64> = cat
        .label_values("pid")
        .into_keys()
        .map(|pid| {
            let own = cat.labelled("pid", &pid);
            own.total(1) - own.total(3)
        })
        .collect();
    spaces.sort_unstable();
    ensure!(spaces.len() == 3 && spaces.iter().all(|bytes| (bytes - last * 4096).abs() < MB), "{spaces:?} beside {last} pages");
    ensure!(profile.balance()?.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
    Ok(())
}
