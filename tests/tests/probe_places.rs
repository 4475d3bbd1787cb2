//! `--self-cost` of a heap profile: what it says of the places of probes is what the kernel has put there, and what a disassembler reads there.
#![cfg(target_arch = "x86_64")]

use anyhow::{Context as _, Result, ensure};
use profiler_tests::probes::places;
use profiler_tests::run::Profiler;
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::Subject;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The kernel's breakpoint, `int3`.
const BREAKPOINT: u8 = 0xcc;

/// Files, and offsets in them.
type Places = BTreeSet<(String, u64)>;

/// A line of the table.
#[derive(Debug)]
struct Row {
    processes: u64,
    is_emulated: bool,
    /// The function's names, and how far behind its beginning.
    names: Vec<String>,
    distance: u64,
    file: String,
}

/// `PROCESSES  emulated|single-stepped  NAME+N [(NAME, ...)]  FILE`, behind a heading.
fn table(stderr: &str) -> Result<Vec<Row>> {
    let rows = stderr.lines().skip_while(|line| !line.starts_with("processes  instruction ")).skip(1);
    let row = |line: &str| {
        let (processes, rest) = line.trim_start().split_once("  ")?;
        let (instruction, rest) = rest.split_once("  ")?;
        let (probe, file) = rest.trim_start().split_once("  ")?;
        let (first, others) = probe.split_once(' ').unwrap_or((probe, ""));
        let (name, distance) = first.split_once('+')?;
        let others = others.trim_matches(['(', ')']).split(", ").filter(|other| !other.is_empty());
        Some(Row {
            processes: processes.parse().ok()?,
            is_emulated: instruction == "emulated",
            names: std::iter::once(name).chain(others).map(str::to_owned).collect(),
            distance: distance.parse().ok()?,
            file: file.to_owned(),
        })
    };
    rows.map(|line| row(line).with_context(|| format!("{line:?} is no row of the table"))).collect()
}

fn printed(program: &str, args: &[String], file: &str) -> Result<String> {
    let output = Command::new(program).args(args).arg(file).output().with_context(|| format!("starting {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The addresses of a file's functions, by name, and what an address is more than its offset in the file.
fn functions(file: &str) -> Result<(BTreeMap<String, u64>, u64)> {
    let hexadecimal = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let symbols = printed("nm", &["-D".into(), "--defined-only".into()], file)?;
    let symbol = |line: &str| {
        let [address, kind, name] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
        ("TtWi".contains(kind)).then_some(())?;
        Some((name.split('@').next()?.to_owned(), hexadecimal(address)?))
    };
    let headers = printed("readelf", &["-lW".into()], file)?;
    let code = headers.lines().find(|line| line.contains("LOAD") && line.contains(" R E ")).context("no segment of code")?;
    let words: Vec<u64> = code.split_whitespace().skip(1).take(2).filter_map(hexadecimal).collect();
    ensure!(words.len() == 2, "{code}");
    Ok((symbols.lines().filter_map(symbol).collect(), words[1] - words[0]))
}

/// Whether objdump reads an instruction there that the kernel emulates: a `push` of a register, a `nop`, a call or a branch to a distance.
fn is_emulated(file: &str, address: u64) -> Result<bool> {
    let range = [format!("--start-address={address}"), format!("--stop-address={}", address + 16)];
    let text = printed("objdump", &[&["-d".to_owned(), "--no-show-raw-insn".to_owned()][..], &range].concat(), file)?;
    let of = format!("{address:x}:");
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&of)).with_context(|| format!("nothing at {address:x}:\n{text}"))?;
    let (mnemonic, operands) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
    let operands = operands.trim();
    Ok(match mnemonic {
        "push" => operands.starts_with('%'),
        "nop" => operands.is_empty(),
        "call" => !operands.starts_with('*'),
        _ => mnemonic.starts_with('j') && !operands.starts_with('*'),
    })
}

/// Records a process until its probes are there; what the kernel has put into its code, and what `--self-cost` says.
fn recorded(kind: &str) -> Result<(Places, Vec<Row>)> {
    let mut subject = Command::new("sh");
    subject.args(["-c", "echo ready; read word"]);
    let (subject, _stdin) = Subject::start_told(subject)?;
    let mut running = Profiler::record()?.pid(subject.pid()).args(["-e", kind, "--self-cost"]).start()?;
    running.wait_until_recording()?;
    let places = places(subject.pid())?;
    let run = running.interrupt()?.success()?;
    ensure!(places.iter().all(|(_, _, byte)| *byte == BREAKPOINT), "{places:x?}");
    Ok((places.into_iter().map(|(file, at, _)| (file, at)).collect(), table(&run.stderr)?))
}

#[test]
fn self_cost_says_where_the_kernel_has_put_the_probes() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("objdump"), Need::Program("readelf"), Need::Program("nm")]) {
        return Ok(());
    }
    for kind in ["heap", "allocs"] {
        let (armed, rows) = recorded(kind)?;
        let mut told = BTreeSet::new();
        for row in &rows {
            let (functions, base) = functions(&row.file)?;
            let entries: BTreeSet<u64> = row.names.iter().filter_map(|name| functions.get(name).copied()).collect();
            ensure!(entries.len() == 1, "these names are of one function: {row:?}: {entries:x?}");
            let address = entries.first().context("one")? + row.distance;
            ensure!(row.is_emulated == is_emulated(&row.file, address)?, "{row:?}");
            ensure!(row.processes == 1, "{row:?}");
            told.insert((row.file.clone(), address - base));
        }
        ensure!(told == armed && !told.is_empty(), "{kind}: told {told:x?}, armed {armed:x?}");
        let named = |name: &str| rows.iter().find(|row| row.names.iter().any(|known| known == name));
        ensure!(named("malloc").is_some_and(|row| row.is_emulated), "{rows:?}");
        // Behind the check for a null pointer, where a `free` of nothing does not come.
        ensure!(named("free").is_some_and(|row| row.distance > 0 && row.is_emulated) == (kind == "heap"), "{rows:?}");
    }
    Ok(())
}

#[test]
fn every_process_is_counted_at_its_place() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("sleep")]) {
        return Ok(());
    }
    let mut subject = Command::new("sh");
    subject.args(["-c", "for i in 1 2 3; do sleep 60 >&- & all=\"$all $!\"; done; echo ready; read word; kill $all; echo over"]);
    let (mut subject, stdin) = Subject::start_told(subject)?;
    let mut running = Profiler::record()?.pid(subject.pid()).args(["-e", "heap", "--self-cost"]).start()?;
    running.wait_until_recording()?;
    let run = running.interrupt()?.success()?;
    drop(stdin);
    subject.wait_for_line("over")?;
    let rows = table(&run.stderr)?;
    let malloc = rows.iter().find(|row| row.names.iter().any(|name| name == "malloc")).with_context(|| format!("{rows:?}"))?;
    // The shell and what it has started.
    ensure!(malloc.processes == 4, "{rows:?}");
    ensure!(rows.is_sorted_by(|one, other| one.processes >= other.processes), "{rows:?}");
    Ok(())
}
