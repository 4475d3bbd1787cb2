//! Every row of every library and of the large programs of this machine, and of those for arm64 that it has: what our table leads to is what gimli's own
//! evaluation leads to.

mod bounded;
mod captured;
mod cfi;
#[cfg(target_arch = "x86_64")]
mod framehop;
mod go;
mod hostile;
#[cfg(target_arch = "x86_64")]
mod stopped;

use anyhow::{Context as _, Result, ensure};
use cfi::{Caller, Followed, Row, Says, memory, rows};
use profiler::model::unwind::{UnwindPart, UnwindTable};
use profiler::parse::eh_frame::unwind_table_for;
use profiler::parse::machine::Machine;
use profiler_common::ended::Ended;
use profiler_common::unwind::rule::{self, Cfa, Rule, Saved};
use profiler_common::unwind::table::BY_NUMBER;
use profiler_common::unwind::{Registers, arm64, table};
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Rows for which we have no form, of a thousand.
const UNKNOWN_MAX: f64 = 1.0;

fn look_up(table: &UnwindTable, offset: u64) -> Rule {
    let Some(part) = table.parts.partition_point(|part| part.first <= offset).checked_sub(1).map(|at| &table.parts[at]) else {
        return Rule::NONE;
    };
    table::find(|word| part.word(word), offset - part.first, |value| value)
}

fn ours(table: &UnwindTable, machine: Machine, offset: u64, bias: u64) -> Result<Registers, Ended> {
    let followed = Followed::of(machine);
    let register = |number: u16| followed.register(number);
    let from = Registers {
        ip: offset.wrapping_add(bias),
        sp: register(followed.sp.0),
        fp: register(followed.fp.0),
        bx: register(followed.beside.0),
    };
    let rule = look_up(table, offset);
    match machine {
        Machine::X86_64 => rule::step(rule, &from, |at| Some(memory(at)), |number| Some(register(number.into()))),
        Machine::Arm64 => arm64::step(rule, &from, |at| Some(memory(at)), |number| Some(register(number.into()))),
    }
}

/// Whether both lead to the same caller. A register that we call lost (0) is one that we do not follow; none may be wrong.
fn agree(machine: Machine, ours: Result<Registers, Ended>, says: Says) -> Option<bool> {
    let followed = Followed::of(machine);
    Some(match (ours, says) {
        (_, Says::Nothing) => return None,
        (Err(Ended::NoRule), _) => return None,
        // Some files have rows for what is no function at all. No frame begins there.
        (Err(Ended::BadFrame), Says::Caller(Caller { sp, .. })) => sp % 8 != 0 || sp <= followed.register(followed.sp.0),
        (Err(Ended::Root), Says::Root) => true,
        (Ok(ours), Says::Caller(Caller { ip, sp, fp, beside })) => {
            let kept = |ours: u64, theirs: Option<u64>| ours == 0 || theirs == Some(ours);
            // A caller's x30 is never known: its call has overwritten it.
            let is_beside_right = if machine == Machine::Arm64 { ours.bx == arm64::NO_LINK } else { kept(ours.bx, beside) };
            ours.ip == ip && ours.sp == sp && kept(ours.fp, fp) && is_beside_right
        }
        _ => false,
    })
}

/// Compares one file; gives rows, and those for which we have nothing.
fn compare(path: &Path, machine: Machine) -> Result<(u64, u64)> {
    let bytes = std::fs::read(path)?;
    let Ok(table) = unwind_table_for(&bytes, machine) else { return Ok((0, 0)) };
    if table.parts.is_empty() {
        return Ok((0, 0)); // For another machine, or without rows.
    }
    let (mut seen, mut unknown, mut wrong) = (0, 0, None);
    let mut compare_row = |row: Row| {
        seen += 1;
        for (offset, says) in [(row.first, row.says), (row.end - 1, row.says_last)] {
            let ours = ours(&table, machine, offset, row.bias);
            match agree(machine, ours, says) {
                Some(true) => {}
                Some(false) => {
                    wrong.get_or_insert((row, offset, ours));
                }
                None => unknown += u64::from(offset == row.first && says != Says::Nothing),
            }
        }
    };
    if rows(&bytes, machine, &mut compare_row).is_err() {
        return Ok((0, 0)); // Not one that gimli reads: nothing to agree with.
    }
    if let Some((row, offset, ours)) = wrong {
        anyhow::bail!(
            "{}: at {offset:#x} we have {ours:x?}, and gimli {row:x?}; the rule is {:x?}",
            path.display(),
            look_up(&table, offset)
        );
    }
    Ok((seen, unknown))
}

fn files(folders: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.extend(entries.map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    let mut seen = HashSet::new();
    files.retain(|file| std::fs::metadata(file).is_ok_and(|facts| seen.insert(facts.ino())));
    files.sort();
    files
}

/// Compares all files for a machine; gives files, and rows.
fn compare_all(folders: &[&str], machine: Machine) -> Result<(u64, u64)> {
    let (mut total, mut unknown, mut compared) = (0, 0, 0);
    for file in files(folders) {
        let (rows, not_ours) = compare(&file, machine)?;
        total += rows;
        unknown += not_ours;
        compared += u64::from(rows > 0);
    }
    println!("{compared} files for {machine:?}, {total} rows, {unknown} without a form of ours");
    ensure!(unknown as f64 <= total as f64 * UNKNOWN_MAX / 1000.0, "{unknown} of {total} rows have no form of ours");
    Ok((compared, total))
}

#[test]
fn every_row_of_this_machine_leads_where_gimli_says() -> Result<()> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/bin", "/usr/sbin", "/usr/lib/postgresql/15/bin", "/usr/lib/gcc/x86_64-linux-gnu/12"];
    let (compared, total) = compare_all(&folders, Machine::X86_64)?;
    ensure!(compared > 100 && total > 1_000_000, "{compared} files and {total} rows are too few to say anything");
    Ok(())
}

/// Says what is missing; an error with `CI=true`.
fn skip(needs: &str) -> Result<()> {
    eprintln!("SKIPPED: needs {needs}");
    ensure!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "with CI=true a skipped test is a failure");
    Ok(())
}

/// Debian's libraries for cross compilers; without them there is nothing to compare, and that is said.
#[test]
fn every_row_for_arm64_leads_where_gimli_says() -> Result<()> {
    let (compared, total) = compare_all(&["/usr/aarch64-linux-gnu/lib"], Machine::Arm64)?;
    if compared == 0 {
        return skip("/usr/aarch64-linux-gnu/lib (Debian: libstdc++6-arm64-cross)");
    }
    ensure!(compared > 5 && total > 50_000, "{compared} files and {total} rows are too few to say anything");
    Ok(())
}

/// Makes the rule of every second row eight bytes wrong, if it is in the row.
fn spoil(part: &mut UnwindPart) {
    let rows = part.words[2] as usize;
    for row in part.words[rows..].iter_mut().step_by(2).filter(|row| **row & BY_NUMBER == 0) {
        *row = *row & !0xff | (*row + 1) & 0xff;
    }
}

#[test]
fn a_wrong_rule_is_noticed() -> Result<()> {
    let libc = std::fs::read("/usr/lib/x86_64-linux-gnu/libc.so.6")?;
    let table = unwind_table_for(&libc, Machine::X86_64).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut other = table.clone();
    spoil(other.parts.first_mut().context("libc has a table")?);
    let (mut right, mut wrong) = (0, 0);
    let machine = Machine::X86_64;
    rows(&libc, machine, |row| match agree(machine, ours(&other, machine, row.first, row.bias), row.says) {
        Some(true) => right += 1,
        Some(false) => wrong += 1,
        None => {}
    })?;
    ensure!(wrong > 1_000 && right > 1_000, "{wrong} wrong rows noticed, {right} right ones left");
    Ok(())
}

/// glibc's rows leave out what its `clone` and `clone3` go on with behind the system call, in parent and child.
#[test]
fn the_system_calls_that_make_threads_have_a_rule() -> Result<()> {
    let libc = std::fs::read("/usr/lib/x86_64-linux-gnu/libc.so.6")?;
    let table = unwind_table_for(&libc, Machine::X86_64).map_err(|error| anyhow::anyhow!("{error}"))?;
    // `syscall; test %rax,%rax; jl; je; ret`
    let is_clone = |code: &[u8]| code.starts_with(&[0x0f, 0x05, 0x48, 0x85, 0xc0, 0x7c]) && code[7] == 0x74 && code[9] == 0xc3;
    let places: Vec<u64> = libc.windows(10).zip(0..).filter(|(code, _)| is_clone(code)).map(|(_, place)| place).collect();
    ensure!(!places.is_empty(), "no `clone` is found");
    for place in places {
        let rules = [place - 1, place, place + 9, place + 10].map(|place| look_up(&table, place));
        let clone = Rule::new(Cfa::Clone, Saved::Same, Saved::Same);
        ensure!(rules[1..3] == [clone; 2] && rules[0] != clone && rules[3] != clone, "at {place:#x}: {rules:x?}");
    }
    Ok(())
}

/// A generator that gives the same numbers in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 11
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// What a broken file makes of itself is some table or none, in bounded room: never a panic, never a part that does not fit, never a row without a rule.
#[test]
fn broken_tables_are_bounded() -> Result<()> {
    use object::{Object as _, ObjectSection as _};
    let whole = std::fs::read("/lib64/ld-linux-x86-64.so.2")?;
    let frames =
        object::File::parse(&*whole)?.section_by_name(".eh_frame").and_then(|section| section.file_range()).context(".eh_frame")?;
    let mut numbers = Numbers(42);
    let (mut tables, mut others) = (0, 0);
    for round in 0..2_000 {
        let mut bytes = whole.clone();
        for _ in 0..=round % 50 {
            let at = frames.0 + numbers.next() % frames.1;
            bytes[at as usize] = numbers.next() as u8;
        }
        if round % 7 == 0 {
            bytes.truncate((frames.0 + numbers.next() % frames.1) as usize);
        }
        match bounded::file(&bytes, Machine::X86_64) {
            Some(_) => tables += 1,
            None => others += 1,
        }
    }
    ensure!(tables > 1_000 && others > 0, "{tables} tables and {others} refusals");
    Ok(())
}
