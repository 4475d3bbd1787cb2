//! Our heap beside heaptrack's and beside jemalloc's own profile, of a program that does the same at each run: the ten largest stacks agree, exactly where each
//! block is counted, and within the errors that both have where blocks are sampled.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, build};
use profiler_tests::symbols::Symbols;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
/// Sizes of the subject's blocks, by the function that asks for them.
const SIZES: [(&str, f64); 6] =
    [("leaf_a", 64.0), ("leaf_b", 320.0), ("leaf_c", 1024.0), ("leaf_d", 48.0), ("leaf_e", 2048.0), ("leaf_f", 5120.0)];

/// Bytes in use, by the subject's own functions on the stack, root first.
type Stacks = BTreeMap<Vec<String>, f64>;

fn is_of_subject(name: &str) -> bool {
    name == "main" || name.starts_with("path_") || name.starts_with("leaf_")
}

fn ten_largest(stacks: &Stacks) -> Vec<(&Vec<String>, f64)> {
    let mut all: Vec<(&Vec<String>, f64)> = stacks.iter().map(|(stack, bytes)| (stack, *bytes)).collect();
    all.sort_by(|one, other| other.1.total_cmp(&one.1));
    all.truncate(10);
    all
}

/// Ours, of a command.
fn ours(words: &[&str], sample_bytes: &str) -> Result<Stacks> {
    let run = Profiler::record()?.args(["-e", "heap", "--sample-bytes", sample_bytes, "--"]).args(words).run()?.success()?;
    let profile = Profile::read(&run.folder.join("heap.prof"))?;
    ensure!(profile.balance()?.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
    let mut stacks = Stacks::new();
    for sample in &profile.samples {
        let names = profile.names(sample);
        let stack: Vec<String> = names.into_iter().rev().filter(|name| is_of_subject(name)).map(str::to_owned).collect();
        *stacks.entry(stack).or_default() += sample.values[3] as f64;
    }
    Ok(only_of_subject(stacks))
}

/// Without what the C library and the like have for themselves.
fn only_of_subject(mut stacks: Stacks) -> Stacks {
    stacks.retain(|stack, bytes| stack.len() == 3 && *bytes > 0.0);
    stacks
}

/// What heaptrack says of the same program: lines of `main (file);path_1 (file);leaf_a (file); BYTES`.
fn of_heaptrack(program: &Path) -> Result<Stacks> {
    let folder = Folder::create()?;
    let tracked = Command::new("heaptrack").arg("-o").arg(folder.join("track")).arg(program).output()?;
    ensure!(tracked.status.success(), "heaptrack: {}", String::from_utf8_lossy(&tracked.stderr));
    let names = folder.names()?;
    let file = names.iter().find(|name| name.starts_with("track")).context("heaptrack wrote nothing")?;
    let printed = Command::new("heaptrack_print")
        .arg("-f")
        .arg(folder.join(file))
        .arg("-F")
        .arg(folder.join("folded"))
        .args(["--flamegraph-cost-type", "leaked"])
        .output()?;
    ensure!(printed.status.success(), "heaptrack_print: {}", String::from_utf8_lossy(&printed.stderr));
    let mut stacks = Stacks::new();
    for line in fs::read_to_string(folder.join("folded"))?.lines() {
        let (frames, bytes) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
        let names = frames.split(';').filter_map(|frame| frame.split_whitespace().next());
        let stack: Vec<String> = names.filter(|name| is_of_subject(name)).map(str::to_owned).collect();
        *stacks.entry(stack).or_default() += bytes.parse::<f64>().with_context(|| line.to_owned())?;
    }
    Ok(only_of_subject(stacks))
}

/// What jemalloc says of the same program at its end, with a sample about each 2^`lg_sample` bytes (`heap_v2`; jemalloc 5.3, prof_data.c), unsampled as jeprof
/// does it.
fn of_jemalloc(program: &Path, lg_sample: u32) -> Result<Stacks> {
    let folder = Folder::create()?;
    let conf = format!("prof:true,prof_final:true,lg_prof_sample:{lg_sample},prof_prefix:{}/je", folder.path().display());
    let status = Command::new(program).env("LD_PRELOAD", JEMALLOC).env("MALLOC_CONF", conf).status()?;
    ensure!(status.success(), "{status}");
    let names = folder.names()?;
    let text = fs::read_to_string(folder.join(names.first().context("jemalloc wrote no profile")?))?;
    let (rows, maps) = text.split_once("MAPPED_LIBRARIES:").context("no mappings")?;
    let number = |text: &str| u64::from_str_radix(text, 16);
    // The program's code: where it begins and ends, and where that is in the file.
    let (mut code, path) = (Vec::new(), program.canonicalize()?);
    for line in maps.lines().filter(|line| line.contains(" r-xp ") && line.ends_with(&*path.to_string_lossy())) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').context("a range")?;
        code.push((number(start)?, number(end)?, number(words[2])?));
    }
    let symbols = Symbols::read(program)?;
    let name = |address: u64| {
        let (start, _, offset) = *code.iter().find(|(start, end, _)| (*start..*end).contains(&address))?;
        symbols.at_offset(address - start + offset).into_iter().find(|name| is_of_subject(name)).map(str::to_owned)
    };
    let (mut stacks, mut stack) = (Stacks::new(), Vec::new());
    for line in rows.lines() {
        if let Some(addresses) = line.strip_prefix("@ ") {
            let calls = addresses.split_whitespace().filter_map(|word| Some(number(word.strip_prefix("0x")?).ok()? - 1));
            stack = calls.filter_map(name).collect();
            stack.reverse();
        } else if let Some(counts) = line.trim().strip_prefix("t*: ").filter(|_| !stack.is_empty()) {
            let counts: Vec<f64> = counts.split([':', '[']).take(2).map(|word| word.trim().parse()).collect::<Result<_, _>>()?;
            let scale = if lg_sample == 0 { 1.0 } else { 1.0 / -(-(counts[1] / counts[0]) / f64::from(1 << lg_sample)).exp_m1() };
            *stacks.entry(std::mem::take(&mut stack)).or_default() += if counts[0] > 0.0 { counts[1] * scale } else { 0.0 };
        }
    }
    Ok(only_of_subject(stacks))
}

/// The ten largest of one are those of the other, to the byte, where every block is counted. (How many of the small stacks a sample meets is chance.)
fn are_the_same(ours: &Stacks, theirs: &Stacks) -> Result<()> {
    ensure!(theirs.len() > 30, "{theirs:#?}");
    ensure!(ten_largest(ours) == ten_largest(theirs), "{:#?}\n{:#?}", ten_largest(ours), ten_largest(theirs));
    ensure!(ours == theirs, "beyond the ten largest: {ours:#?}\n{theirs:#?}");
    Ok(())
}

/// The variance of what is estimated of so many bytes of blocks of one size, with a sample about each `distance` bytes.
fn variance(stack: &[String], bytes: f64, distance: f64) -> Result<f64> {
    let leaf = stack.last().context("a stack without functions")?;
    let (_, size) = SIZES.iter().find(|(name, _)| name == leaf).with_context(|| leaf.clone())?;
    let odds = -(-size / distance).exp_m1();
    Ok(bytes * size * (1.0 - odds) / odds)
}

#[test]
fn heaptrack_says_the_same_to_the_byte() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Program("heaptrack"), Need::Program("heaptrack_print")]) {
        return Ok(());
    }
    let program = build("seeded", Build::CBare)?;
    are_the_same(&ours(&[&program.to_string_lossy()], "1")?, &of_heaptrack(&program)?)
}

#[test]
fn jemalloc_says_the_same_of_itself_exactly_and_sampled() -> Result<()> {
    if !can_record(&[Build::CBare]) || !ready(&[Need::Path(JEMALLOC)]) {
        return Ok(());
    }
    let program = build("seeded", Build::CBare)?;
    // Not in one process: its own walk of the stack ends where a return is probed.
    let preload = format!("LD_PRELOAD={JEMALLOC}");
    let words = ["env", preload.as_str(), &program.to_string_lossy()];
    let truth = of_jemalloc(&program, 0)?;
    are_the_same(&ours(&words, "1")?, &truth)?;
    let (sampled, theirs) = (ours(&words, "16K")?, of_jemalloc(&program, 14)?);
    for (stack, bytes) in ten_largest(&truth) {
        let of = |stacks: &Stacks| stacks.get(stack).copied().unwrap_or(0.0);
        let one = variance(stack, bytes, 16384.0)?.sqrt();
        let apart = (of(&sampled) - of(&theirs)).abs();
        ensure!(
            apart < 5.0 * one * 2_f64.sqrt(),
            "{stack:?}: {} and {}, of {bytes}; standard error of each {one:.0}",
            of(&sampled),
            of(&theirs)
        );
        ensure!((of(&sampled) - bytes).abs() < 5.0 * one, "{stack:?}: {} of {bytes}; standard error {one:.0}", of(&sampled));
    }
    Ok(())
}
