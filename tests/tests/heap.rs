//! `-e heap` and `-e allocs`: a program with a known pattern of allocations, attached late, is counted to the block, whatever its allocator.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::cgroup::Group;
use profiler_tests::pprof_tool::{pprof, total};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler};
use profiler_tests::skip::{Need, can_record, ready, skip};
use profiler_tests::subject::{Build, Subject, build, source};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};

/// What a round of the subject allocates, by function: blocks and bytes, and those of them that stay.
const ROUND: [(&str, [i64; 4]); 5] = [
    ("kept", [1000, 100_000, 1000, 100_000]),
    ("dropped", [2000, 2_000_000, 0, 0]),
    ("zeroed", [100, 200_000, 100, 200_000]),
    ("grown", [600, 1_503_000, 300, 1_500_000]),
    ("aligned", [50, 204_800, 50, 204_800]),
];
/// The calls that fail, and what is around them.
const REFUSED: [i64; 4] = [10, 80, 0, 0];

/// The subject, waiting for its next round.
struct Blocks {
    subject: Subject,
    stdin: ChildStdin,
}

impl Blocks {
    fn start(command: Command) -> Result<Self> {
        let (subject, stdin) = Subject::start_told(command)?;
        Ok(Self { subject, stdin })
    }

    fn round(&mut self) -> Result<()> {
        self.stdin.write_all(b"go\n")?;
        self.subject.wait_for_line("done")?;
        Ok(())
    }
}

/// Records the rounds of a program that has done one before, and waits for its end by a signal.
fn late(command: Command, rounds: i64, options: &[&str]) -> Result<Profile> {
    let mut blocks = Blocks::start(command)?;
    blocks.round()?;
    let kind = options[1];
    let mut recording = Profiler::record()?.pid(blocks.subject.pid()).args(options).args(["-o", &format!("{kind}.prof")]).start()?;
    recording.wait_until_recording()?;
    for _ in 0..rounds {
        blocks.round()?;
    }
    let run = recording.interrupt()?.success()?;
    Profile::read(&run.folder.join(format!("{kind}.prof")))
}

/// The columns of all samples that have a function on their stack.
fn of(profile: &Profile, function: &str) -> Vec<i64> {
    let mine = profile.only(|sample| profile.names(sample).contains(&function));
    (0..profile.sample_types.len()).map(|column| mine.total(column)).collect()
}

fn times(figures: [i64; 4], rounds: i64) -> Vec<i64> {
    figures.iter().map(|figure| figure * rounds).collect()
}

/// Each function has its blocks, and nothing else is there.
fn is_exact(profile: &Profile, rounds: i64) -> Result<()> {
    for (function, figures) in ROUND.into_iter().chain([("refused", REFUSED)]) {
        ensure!(of(profile, function) == times(figures, rounds), "{function}: {:?} in {rounds} rounds", of(profile, function));
    }
    let all: Vec<i64> = (0..4).map(|column| profile.total(column)).collect();
    let sums: Vec<i64> =
        (0..4).map(|column| rounds * (ROUND.iter().map(|(_, figures)| figures[column]).sum::<i64>() + REFUSED[column])).collect();
    ensure!(all == sums, "{all:?} instead of {sums:?} in {rounds} rounds: {:#?}", profile.comments);
    ensure!(profile.balance()?.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
    Ok(())
}

#[test]
fn a_late_look_counts_what_was_allocated_since_to_the_block() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let profile = late(Command::new(build("blocks", Build::CBare)?), 3, &["-e", "heap", "--sample-bytes", "1"])?;
    is_exact(&profile, 3)?;
    ensure!(profile.rooted()? > 0.999, "{:?}", profile.endings()?);
    let types: Vec<_> = profile.sample_types.iter().map(|(name, unit)| (name.as_str(), unit.as_str())).collect();
    let expected = [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")];
    ensure!(types == expected, "{types:?}");
    ensure!(profile.period == 1 && profile.period_type == ("space".to_owned(), "bytes".to_owned()), "{:?}", profile.period_type);
    // Nothing was given back that is older.
    let noted = |beginning: &str| profile.comment(beginning).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
    ensure!(noted("frees of blocks that were never seen, such as older ones:") == Some("0".to_owned()), "{:#?}", profile.comments);
    let is_of_memory = |comment: &String| comment.contains(" kB in use as recorded; in the end RSS ") && comment.contains(" kB, PSS ");
    ensure!(profile.comments.iter().any(is_of_memory), "{:#?}", profile.comments);
    // Rows are told apart by size class: 100 bytes are in that of 112.
    let kept = profile.only(|sample| profile.names(sample).contains(&"kept"));
    ensure!(kept.label_values("bytes") == BTreeMap::from([("112".to_owned(), 3000)]), "{:?}", kept.label_values("bytes"));
    Ok(())
}

#[test]
fn allocations_alone_have_two_columns() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let profile = late(Command::new(build("blocks", Build::CBare)?), 2, &["-e", "allocs", "--sample-bytes", "1"])?;
    ensure!(profile.sample_types.len() == 2, "{:?}", profile.sample_types);
    for (function, figures) in ROUND {
        ensure!(of(&profile, function) == times(figures, 2)[..2], "{function}: {:?}", of(&profile, function));
    }
    Ok(())
}

/// Compiles a subject otherwise than `build` does.
fn compiled(name: &str, words: &[&str], source: &Path) -> Result<PathBuf> {
    let folder = profiler_tests::manifest::root().join("target/profiler-tests/heap");
    fs::create_dir_all(&folder)?;
    let out = folder.join(name);
    let status = Command::new(words[0]).args(&words[1..]).arg("-o").arg(&out).arg(source).status()?;
    ensure!(status.success(), "{words:?}");
    Ok(out)
}

#[test]
fn other_allocators_give_the_same() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let folder = Path::new("/usr/lib/x86_64-linux-gnu");
    for library in ["libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2.0"] {
        let path = folder.join(library);
        if !path.exists() {
            skip(&format!("{library} is not there"));
            continue;
        }
        let mut command = Command::new(build("blocks", Build::CBare)?);
        command.env("LD_PRELOAD", &path);
        let profile = late(command, 2, &["-e", "heap", "--sample-bytes", "1"])?;
        is_exact(&profile, 2).with_context(|| library.to_owned())?;
    }
    Ok(())
}

/// Blocks and bytes that are allocated, and those of them that stay, whose stack has a function with such a name.
fn like(profile: &Profile, function: &str) -> Vec<i64> {
    let is_it = |name: &&str| *name == function || name.ends_with(&format!("::{function}")) || name.starts_with(&format!("{function}("));
    let mine = profile.only(|sample| profile.names(sample).iter().any(is_it));
    (0..profile.sample_types.len()).map(|column| mine.total(column)).collect()
}

#[test]
fn operators_of_other_languages_are_seen_as_well() -> Result<()> {
    if !can_record(&[Build::Rust]) || !ready(&[Need::Program("g++")]) {
        return Ok(());
    }
    // A vector doubles: 1, 2, 4 ... 1,024 longs; Rust's begins with 4.
    let of_cpp = [
        ("kept", [1000, 100_000, 1000, 100_000]),
        ("aligned", [500, 32_000, 500, 32_000]),
        ("dropped", [11, 8 * 2047, 0, 0]),
        ("strings", [400, 200 * (32 + 201), 400, 200 * (32 + 201)]),
    ];
    let of_rust = [("kept", [1000, 100_000, 1000, 100_000]), ("dropped", [9, 8 * 2044, 0, 0]), ("zeroed", [100, 200_000, 100, 200_000])];
    let cpp = compiled("cpp", &["g++", "-std=c++17", "-O2", "-g"], &source("blocks", Build::C).with_extension("cpp"))?;
    for library in ["", "libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2.0"] {
        let mut command = Command::new(&cpp);
        if !library.is_empty() {
            command.env("LD_PRELOAD", format!("/usr/lib/x86_64-linux-gnu/{library}"));
        }
        let profile = late(command, 2, &["-e", "heap", "--sample-bytes", "1"])?;
        for (function, figures) in of_cpp {
            ensure!(like(&profile, function) == times(figures, 2), "{library} {function}: {:?}", like(&profile, function));
        }
    }
    let profile = late(Command::new(build("blocks", Build::Rust)?), 2, &["-e", "heap", "--sample-bytes", "1"])?;
    for (function, figures) in of_rust {
        ensure!(like(&profile, function) == times(figures, 2), "Rust {function}: {:?}", like(&profile, function));
    }
    Ok(())
}

#[test]
fn a_leak_is_first_among_what_comes_and_goes() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let leak = Subject::start(&build("leak", Build::CBare)?, [""; 0])?;
    // 10 MB are forgotten in 10 s while 1 GB comes and goes.
    let run = Profiler::record()?.pid(leak.pid()).args(["-e", "heap", "--sample-bytes", "64K", "-d", "10"]).run()?.success()?;
    let profile = Profile::read(&run.folder.join("heap.prof"))?;
    let paths: BTreeMap<String, i64> =
        (0..50).map(|path| format!("path_{path}")).map(|path| (path.clone(), of(&profile, &path)[3])).collect();
    let first = paths.iter().max_by_key(|(_, bytes)| **bytes).context("no path")?;
    ensure!(first.0 == "path_17" && *first.1 > 5_000_000, "{paths:?}");
    ensure!(paths.iter().filter(|(path, _)| *path != "path_17").all(|(_, bytes)| *bytes < first.1 / 10), "{paths:?}");
    ensure!(profile.total(1) > 50_000_000, "{} bytes were allocated", profile.total(1));
    Ok(())
}

#[test]
fn static_programs_give_the_same() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("musl-gcc")]) {
        return Ok(());
    }
    for (name, words) in [("glibc", ["gcc", "-static", "-O2", "-g"]), ("musl", ["musl-gcc", "-static", "-O2", "-g"])] {
        let program = compiled(name, &words, &source("blocks", Build::C))?;
        let profile = late(Command::new(program), 2, &["-e", "heap", "--sample-bytes", "1"])?;
        is_exact(&profile, 2).with_context(|| name.to_owned())?;
    }
    Ok(())
}

#[test]
fn a_sample_stands_for_what_was_not_sampled() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    // 400 rounds allocate 1.6 GB: 100,000 samples of 16 KiB each.
    let rounds = 400;
    let profile = late(Command::new(build("blocks", Build::CBare)?), rounds, &["-e", "heap", "--sample-bytes", "16K"])?;
    for (function, figures) in ROUND {
        let found = of(&profile, function);
        for column in [1, 3] {
            let truth = (figures[column] * rounds) as f64;
            // The standard error of n samples of 16 KiB is 1/sqrt(n).
            let most = 5.0 * (truth / 16384.0).sqrt().recip();
            let is_near = if truth == 0.0 { found[column] == 0 } else { (found[column] as f64 / truth - 1.0).abs() < most };
            ensure!(is_near, "{function}, column {column}: {} instead of {truth}, beyond {most:.3}", found[column]);
        }
    }
    let samples = profile.balance()?.samples;
    ensure!((80_000..120_000).contains(&samples), "{samples} samples");
    Ok(())
}

/// The number of a program's runs that `--self-cost` prints.
fn runs_of(stderr: &str, program: &str) -> Result<i64> {
    let line = stderr.lines().find_map(|line| line.strip_prefix(&format!("program {program}: ")));
    let runs = line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("no runs of {program} in:\n{stderr}"))?;
    Ok(runs.parse()?)
}

#[test]
fn only_a_sampled_call_is_met_at_its_return() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut blocks = Blocks::start(Command::new(build("blocks", Build::CBare)?))?;
    let recording = Profiler::record()?.pid(blocks.subject.pid()).args(["-e", "heap", "--sample-bytes", "1M", "--self-cost"]);
    let mut recording = recording.args(["-o", "heap.prof"]).start()?;
    recording.wait_until_recording()?;
    for _ in 0..20 {
        blocks.round()?;
    }
    let run = recording.interrupt()?.success()?;
    if run.stderr.contains("program heap_entry: ") {
        skip("a kernel without uprobe sessions (before 6.13) meets every call at its return");
        return Ok(());
    }
    let balance = Profile::read(&run.folder.join("heap.prof"))?.balance()?;
    let runs = runs_of(&run.stderr, "heap_session")?;
    // One run a call, and a second one for those that are sampled, or fail: they ask for so much that they are always taken. (Each `realloc` may give back a
    // block that is sampled, but those of 10 bytes hardly ever are.)
    let expected = balance.ticks + balance.samples + 20 * 20;
    ensure!(balance.ticks == 20 * 3780 && balance.samples > 20, "{balance:?}");
    ensure!((expected..expected + 10).contains(&runs), "{runs} runs instead of {expected}: {balance:?}");
    Ok(())
}

#[test]
fn a_command_shows_what_it_left() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let program = build("blocks", Build::CBare)?;
    let run = Profiler::record()?.args(["-e", "heap", "--sample-bytes", "1", "--", "sh", "-c"]);
    let run = run.args([format!("{{ sleep 3; echo go; echo quit; }} | {}", program.display())]).run()?.success()?;
    let profile = Profile::read(&run.folder.join("heap.prof"))?;
    for (function, figures) in ROUND {
        ensure!(of(&profile, function) == figures, "{function}: {:?}", of(&profile, function));
    }
    Ok(())
}

#[test]
fn other_readers_see_the_same_sums() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("go")]) {
        return Ok(());
    }
    let mut blocks = Blocks::start(Command::new(build("blocks", Build::CBare)?))?;
    for (form, name) in [("pprof", "heap.prof"), ("text", "heap.txt")] {
        let mut recording =
            Profiler::record()?.pid(blocks.subject.pid()).args(["-e", "heap", "--sample-bytes", "1", "-o", name]).start()?;
        recording.wait_until_recording()?;
        blocks.round()?;
        let run = recording.interrupt()?.success()?;
        for (column, sum) in [("inuse_space", 2_004_800), ("alloc_space", 4_007_880), ("inuse_objects", 1450), ("alloc_objects", 3760)] {
            let total = total(&run.folder.join(name), column)?;
            ensure!(total == sum, "{form}, {column}: {total} instead of {sum}");
        }
        // The allocator's own functions are left out.
        let text = pprof(["-top".into(), run.folder.join(name)])?.text;
        ensure!(!text.contains("malloc") && text.contains("kept"), "{form}: {text}");
    }
    Ok(())
}

#[test]
fn what_an_ended_process_leaves_takes_no_room() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    // Each of six leaves 1,450 blocks when it ends, and 4,000 may live at once.
    let program = build("blocks", Build::CBare)?;
    let script = format!("for i in 1 2 3 4 5 6; do {{ sleep 3; echo go; sleep 0.5; }} | {}; sleep 0.5; done", program.display());
    let run = Profiler::record()?
        .args(["-e", "heap", "--sample-bytes", "1", "--live-entries", "4000", "--", "sh", "-c", &script])
        .run()?
        .success()?;
    let profile = Profile::read(&run.folder.join("heap.prof"))?;
    ensure!(of(&profile, "kept") == [6000, 600_000, 6000, 600_000], "{:?}: {:#?}", of(&profile, "kept"), profile.comments);
    ensure!(profile.losses()?.is_empty(), "{:#?}", profile.comments);
    Ok(())
}

#[test]
fn what_does_not_go_together_is_said() -> Result<()> {
    if !can_record(&[]) {
        return Ok(());
    }
    Profiler::record()?.args(["-e", "heap", "-d", "1"]).run()?.failed(2, "each allocation of a recorded process costs it a trap")?;
    Profiler::record()?.pid(1).args(["-e", "heap", "--per-thread"]).run()?.failed(2, "--per-thread")?;
    Profiler::record()?.pid(1).args(["-e", "heap", "--sample-bytes", "0"]).run()?.failed(2, "1 records every block")?;
    Ok(())
}

/// Records a round of each of two programs, by what is asked for.
fn both(options: &[&str], inside: &mut Blocks, outside: &mut Blocks) -> Result<Profile> {
    let mut recording = Profiler::record()?.args(["-e", "heap", "--sample-bytes", "1"]).args(options).start()?;
    recording.wait_until_recording()?;
    inside.round()?;
    outside.round()?;
    Profile::read(&recording.interrupt()?.success()?.folder.join("heap.prof"))
}

#[test]
fn a_group_and_a_name_mean_their_processes_and_children() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let group = Group::v2("profiler-heap")?;
    // Of a name of its own: other tests run the same program at the same time.
    let folder = Folder::create()?;
    let program = folder.join("blocks-by-name");
    fs::copy(build("blocks", Build::CBare)?, &program)?;
    // A shell in the group whose child is the program; and one like it outside, which has another name.
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("echo $$ > {}/cgroup.procs; {}; exit 0", group.path().display(), program.display())]);
    let mut inside = Blocks::start(shell)?;
    let mut outside = Blocks::start(Command::new(&program))?;
    let profile = both(&["--cgroup", &group.path().display().to_string()], &mut inside, &mut outside)?;
    is_exact(&profile, 1).context("by control group")?;
    let pids = profile.label_values("pid");
    ensure!(pids.len() == 1 && !pids.contains_key(&outside.subject.pid().to_string()), "{pids:?}");
    is_exact(&both(&["--comm", "blocks-by-name"], &mut inside, &mut outside)?, 2).context("by name")?;
    Ok(())
}

#[test]
fn a_container_and_a_unit_are_counted_to_the_block() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let id = "9d1c3e5079b2d4f6183a5c7e9f0b2d4f3f5a9c1e7b2d4f6081a3c5e7092b4d6f";
    let program = build("blocks", Build::CBare)?;
    for (path, options) in [
        (format!("docker/{id}"), ["--container", &id[..12]]),
        ("system.slice/profiler-heap.service".into(), ["--unit", "profiler-heap.service"]),
    ] {
        let Some(group) = Group::v1(&path)? else {
            skip("needs a cgroup v1 hierarchy");
            return Ok(());
        };
        let (mut inside, mut outside) = (Blocks::start(Command::new(&program))?, Blocks::start(Command::new(&program))?);
        group.add(inside.subject.pid())?;
        let profile = both(&options, &mut inside, &mut outside)?;
        is_exact(&profile, 1).with_context(|| path.clone())?;
        let pids = profile.label_values("pid");
        ensure!(pids.keys().collect::<Vec<_>>() == [&inside.subject.pid().to_string()], "{path}: {pids:?}");
    }
    Ok(())
}
