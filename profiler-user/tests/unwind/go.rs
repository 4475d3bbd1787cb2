//! Go's functions: the rules from Go's own table of stack sizes against the call frame information that Go's linker writes for debuggers.

use super::{Numbers, bounded, look_up, ours};
use crate::cfi::Followed;
use anyhow::{Context as _, Result, ensure};
use gimli::{BaseAddresses, CfaRule, CieOrFde, DebugFrame, LittleEndian, UnwindContext, UnwindSection as _, X86_64};
use object::{Object as _, ObjectSection as _, ObjectSegment as _};
use profiler::parse::eh_frame::unwind_table;
use profiler::parse::machine::Machine;
use profiler_common::unwind::rule::Rule;
use std::path::PathBuf;
use std::process::Command;

const SUBJECT: &str = r#"package main

import (
	"encoding/json"
	"fmt"
	"net/http"
)

func main() {
	text, err := json.Marshal(http.Header{"a": {"b"}})
	fmt.Println(string(text), err)
}
"#;

/// Builds the subject; None where there is no Go.
fn subject(name: &str, flags: &[&str]) -> Result<Option<PathBuf>> {
    let folder = std::env::temp_dir().join(format!("profiler-unwind-go-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("main.go"), SUBJECT)?;
    std::fs::write(folder.join("go.mod"), "module example.com/subject\n\ngo 1.20\n")?;
    let mut build = Command::new("go");
    build.current_dir(&folder).env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0").args(["build", "-o", name]).args(flags).arg(".");
    match build.status() {
        Ok(status) => ensure!(status.success(), "go build"),
        Err(_) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: needs go");
            return Ok(None);
        }
        Err(error) => return Err(error).context("starting go"),
    }
    Ok(Some(folder.join(name)))
}

/// What the rows say: where each begins and ends in the file, the address of its first byte, and the CFA's distance from rsp.
fn rows(bytes: &[u8]) -> Result<Vec<(u64, u64, u64, i64)>> {
    let file = object::File::parse(bytes)?;
    let data = file.section_by_name(".debug_frame").context("a section .debug_frame")?.uncompressed_data()?;
    let mut frames = DebugFrame::new(&data, LittleEndian);
    frames.set_address_size(8);
    let text = file.segments().find(|segment| matches!(segment.flags(), object::SegmentFlags::Elf { p_flags } if p_flags & 1 != 0));
    let bias = text.map(|text| text.address() - text.file_range().0).context("a segment of code")?;
    let bases = BaseAddresses::default();
    let (mut entries, mut context, mut rows) = (frames.entries(&bases), UnwindContext::new(), Vec::new());
    while let Some(entry) = entries.next()? {
        let CieOrFde::Fde(fde) = entry else { continue };
        let fde = fde.parse(|_, bases, offset| frames.cie_from_offset(bases, offset))?;
        let mut table = fde.rows(&frames, &bases, &mut context)?;
        while let Some(row) = table.next_row()? {
            let CfaRule::RegisterAndOffset { register: X86_64::RSP, offset } = row.cfa() else { continue };
            let (first, end) = (row.start_address(), row.end_address().min(fde.end_address()));
            if first < end {
                rows.push((first - bias, end - bias, first, *offset));
            }
        }
    }
    Ok(rows)
}

#[test]
fn go_functions_are_left_as_their_debug_information_says() -> Result<()> {
    let Some(program) = subject("whole", &[])? else { return Ok(()) };
    let bytes = std::fs::read(&program)?;
    let table = unwind_table(&bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
    let sp = Followed::of(Machine::X86_64).register(X86_64::RSP.0);
    let (mut same, mut chained, mut other) = (0, 0, Vec::new());
    for (first, end, address, cfa) in rows(&bytes)? {
        for offset in [first, end - 1] {
            match ours(&table, Machine::X86_64, offset, address - first) {
                _ if look_up(&table, offset) == Rule::GO_FRAME_POINTER => chained += 1,
                Ok(caller) if caller.sp == sp.wrapping_add(cfa as u64) => same += 1,
                ours => other.push(format!("{address:#x}: {ours:x?}, Go says rsp + {cfa}")),
            }
        }
    }
    println!("{same} the same, {chained} by frame pointers, {other:?}");
    // Other are `goexit`, which nothing called, the return from a signal, which leads to what was interrupted, and assembly that ends on another stack.
    ensure!(same > 20_000 && chained * 100 < same && other.len() <= 12, "{same} the same, {chained} by frame pointers, others: {other:?}");
    Ok(())
}

#[test]
fn a_stripped_program_has_the_same_table() -> Result<()> {
    let (Some(whole), Some(stripped)) = (subject("twin", &[])?, subject("stripped", &["-ldflags=-s -w"])?) else { return Ok(()) };
    let table = |path: PathBuf| -> Result<_> { unwind_table(&std::fs::read(path)?).map_err(|error| anyhow::anyhow!("{error}")) };
    let (whole, stripped) = (table(whole)?, table(stripped)?);
    ensure!(whole.rows == stripped.rows && whole.rows > 20_000, "{} rows, stripped {}", whole.rows, stripped.rows);
    Ok(())
}

/// Go's own table, broken in every way: each offset in it is the stranger's.
#[test]
fn broken_go_tables_are_bounded() -> Result<()> {
    let Some(program) = subject("broken", &["-ldflags=-s -w"])? else { return Ok(()) };
    let mut bytes = std::fs::read(&program)?;
    std::fs::remove_dir_all(program.parent().context("a folder")?)?;
    let section = |file: &object::File<'_>| file.section_by_name(".gopclntab").and_then(|section| section.file_range());
    let (at, length) = section(&object::File::parse(&*bytes)?).context(".gopclntab")?;
    let (mut numbers, mut tables, mut rows) = (Numbers(3), 0, 0);
    for round in 0..400 {
        // The header, the beginning of the table of functions, or anywhere.
        let extent = [72, 4096, length][round % 3];
        let broken: Vec<(usize, u8)> = (0..1 + round % 20).map(|_| ((at + numbers.below(extent)) as usize, numbers.next() as u8)).collect();
        let honest: Vec<(usize, u8)> = broken.iter().map(|(place, _)| (*place, bytes[*place])).collect();
        broken.iter().for_each(|(place, byte)| bytes[*place] = *byte);
        let found = bounded::file(&bytes, Machine::X86_64);
        tables += u64::from(found.is_some());
        rows += found.unwrap_or(0);
        honest.iter().rev().for_each(|(place, byte)| bytes[*place] = *byte);
    }
    ensure!(tables > 300 && rows > 100_000, "{tables} tables with {rows} rows");
    Ok(())
}

/// Every function has the same long table of stack sizes: rows without end out of a small file.
#[test]
fn go_functions_that_share_one_long_table_are_bounded() -> Result<()> {
    let Some(program) = subject("shared", &["-ldflags=-s -w"])? else { return Ok(()) };
    let mut bytes = std::fs::read(&program)?;
    std::fs::remove_dir_all(program.parent().context("a folder")?)?;
    let file = object::File::parse(&*bytes)?;
    let (at, length) = file.section_by_name(".gopclntab").and_then(|section| section.file_range()).context(".gopclntab")?;
    let (at, length) = (at as usize, length as usize);
    let word = |place: usize| bytes.get(place..).and_then(|rest| rest.first_chunk().copied()).map(u64::from_le_bytes);
    // `runtime.pcHeader`: the number of functions, and where the values of all tables and the table of functions begin.
    let functions = word(at + 8).context("a count")? as usize;
    let (values, lines) = (word(at + 56).context("values")? as usize, word(at + 64).context("lines")? as usize);
    let records: Vec<usize> = (0..functions)
        .filter_map(|index| bytes.get(at + lines + 8 * index + 4..)?.first_chunk().copied().map(u32::from_le_bytes))
        .map(|record| at + lines + record as usize + 16)
        .collect();
    for place in records {
        if let Some(field) = bytes.get_mut(place..place + 4) {
            field.copy_from_slice(&1_u32.to_le_bytes());
        }
    }
    // Up by eight bytes, and down by eight, a byte of code each; it ends where other parts of the table begin, which are needed.
    let room = (lines - values).min(length).min(1 << 15);
    for step in 0..room / 2 - 4 {
        bytes[at + values + 1 + 2 * step] = if step % 2 == 0 { 18 } else { 15 };
        bytes[at + values + 2 + 2 * step] = 1;
    }
    let rows = bounded::file(&bytes, Machine::X86_64).context("a table")?;
    ensure!(functions > 2_000 && rows > 1_000, "{functions} functions, {rows} rows");
    Ok(())
}
