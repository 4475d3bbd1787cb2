//! Call frame information (`.eh_frame`; `.debug_frame` when it is all there is) to an unwind table, by places in the file.

use super::elf::{self, ParseError};
use super::frame_rows::{Bytes, Common, Rows};
use super::go_frames::GoFrames;
use super::go_table;
use super::unwind_gaps::Gaps;
use super::unwind_parts::Parts;
use super::unwind_rule;
use super::{machine::Machine, unwind_rule_arm64};
use crate::model::answer::LoadSegment;
use crate::model::unwind::{Elsewhere, UnwindPart, UnwindTable};
use gimli::{BaseAddresses, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, LittleEndian, UnwindSection};
use object::{Object, ObjectSection};
use profiler_common::unwind::rule::{Cfa, Rule, Saved};
use std::borrow::Cow;
use std::cell::Cell;

/// Rows of one file: what fits into an answer. A compiler of 154 MB has 1.2 million.
const ROWS_MAX: u64 = 3_500_000;
/// Functions of one file: 32 bytes each while it is read. The compiler has 120,000.
const FUNCTIONS_MAX: usize = 1_000_000;
/// Bytes of a section that are looked at: what is behind them has no rows. The compiler's are 10 MB.
const SECTION_MAX_BYTES: usize = 64 << 20;
/// Bytes of a section that is compressed, once it is not.
const INFLATED_MAX_BYTES: u64 = 32 << 20;
/// Bytes of the entry that functions have in common: each of them executes it anew. Real ones have some 20.
const CIE_MAX_BYTES: usize = 1 << 10;
/// Bytes of code without rows that are looked at.
const CODE_MAX_BYTES: usize = 32 << 20;
/// Bytes of one function's entry.
const FDE_MAX_BYTES: usize = 1 << 20;

/// What the kernel laid down for a handler: the same word on every machine.
const SIGNAL: Rule = Rule::new(Cfa::Signal, Saved::Same, Saved::Same);

/// Reads what a file says of how to leave its code, if it is code of this machine.
///
/// # Errors
/// The bytes are no ELF file, or their sections cannot be read.
pub fn unwind_table(bytes: &[u8]) -> Result<UnwindTable, ParseError> {
    unwind_table_for(bytes, Machine::OWN)
}

/// The same for a machine, which need not be this one.
///
/// # Errors
/// As [`unwind_table`].
pub fn unwind_table_for(bytes: &[u8], machine: Machine) -> Result<UnwindTable, ParseError> {
    let file = object::File::parse(bytes).map_err(|error| ParseError::Elf(error.to_string()))?;
    let facts = elf::facts(bytes)?;
    let elsewhere = if facts.is_go { Elsewhere::Go } else { Elsewhere::FramePointers };
    let code: Vec<LoadSegment> = facts.segments.into_iter().filter(|segment| segment.executable).collect();
    if Machine::of(file.architecture()) != Some(machine) {
        return Ok(UnwindTable { elsewhere, ..UnwindTable::default() });
    }
    let bases = bases(&file);
    let default = if facts.is_go { Rule::GO_FRAME_POINTER } else { Rule::NONE };
    let go_table = if facts.is_go && machine == Machine::X86_64 { go_table::find(bytes) } else { None };
    let go = go_table.as_ref().map(|table| GoFrames::new(table, bytes, &code));
    let gaps = Gaps { default, go, ..gaps(bytes, &file, &code, machine) };
    let (parts, rows) = match (contents(&file, ".eh_frame")?, contents(&file, ".debug_frame")?) {
        (Some(data), _) if data.len() > 4 => {
            let mut section = EhFrame::new(&data, LittleEndian);
            section.set_address_size(8);
            section.set_vendor(machine.vendor());
            rows(&section, &data, &bases, (&code, &gaps))
        }
        // Go's own table says more, and is there in stripped programs too.
        _ if gaps.go.is_some() => between_nothing(&code, &gaps),
        (_, Some(data)) => {
            let mut section = DebugFrame::new(&data, LittleEndian);
            section.set_address_size(8);
            section.set_vendor(machine.vendor());
            rows(&section, &data, &bases, (&code, &gaps))
        }
        _ => (Vec::new(), 0),
    };
    Ok(UnwindTable { parts, elsewhere, rows })
}

fn contents<'a>(file: &object::File<'a>, name: &str) -> Result<Option<Cow<'a, [u8]>>, ParseError> {
    let Some(section) = file.section_by_name(name) else { return Ok(None) };
    let data = section.compressed_data().map_err(|error| ParseError::Elf(error.to_string()))?;
    if data.format != object::CompressionFormat::None && data.uncompressed_size > INFLATED_MAX_BYTES {
        return Ok(None);
    }
    let data = data.decompress().map_err(|error| ParseError::Elf(error.to_string()))?;
    Ok(Some(match data {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..bytes.len().min(SECTION_MAX_BYTES)]),
        inflated @ Cow::Owned(_) => inflated,
    }))
}

fn bases(file: &object::File<'_>) -> BaseAddresses {
    let address = |name| file.section_by_name(name).map(|section| section.address());
    let mut bases = BaseAddresses::default();
    if let Some(address) = address(".eh_frame") {
        bases = bases.set_eh_frame(address);
    }
    if let Some(address) = address(".text") {
        bases = bases.set_text(address);
    }
    if let Some(address) = address(".got") {
        bases = bases.set_got(address);
    }
    bases
}

/// A function that has rows, by its place in the file. Small: a file may have a hundred thousand.
struct Function<O> {
    first: u64,
    end: u64,
    bias: u64,
    entry: O,
}

/// What lies between the functions. Go's code is known by other means.
fn gaps<'a>(bytes: &'a [u8], file: &object::File<'_>, code: &[LoadSegment], machine: Machine) -> Gaps<'a> {
    let place = |address: u64| elf::file_offset(code, address);
    let stub = |name: &str| {
        let section = file.section_by_name(name)?;
        let start = place(section.address())?;
        Some((start, start.checked_add(section.size())?))
    };
    Gaps {
        bytes,
        machine,
        default: Rule::NONE,
        entry: place(file.entry()).filter(|_| file.entry() != 0),
        go: None,
        stubs: [".init", ".fini"].into_iter().filter_map(stub).collect(),
        linkage: stub(".plt"),
        left: Cell::new(CODE_MAX_BYTES),
    }
}

fn rows<'a, S>(
    section: &'a S,
    data: &'a [u8],
    bases: &'a BaseAddresses,
    (code, gaps): (&[LoadSegment], &Gaps<'_>),
) -> (Vec<UnwindPart>, u64)
where
    S: UnwindSection<Bytes<'a>>,
    S::Offset: gimli::UnwindOffset<usize> + std::hash::Hash,
{
    let mut cies = Cies { data, machine: gaps.machine, held: None, common: None };
    let mut functions = functions(section, bases, code, &mut cies);
    if functions.is_empty() && gaps.go.is_none() {
        return (Vec::new(), 0);
    }
    // Linkers write them in the order of their input, which is not that of their addresses.
    functions.sort_by_key(|function| function.first);
    let (mut parts, mut count) = (Parts::default(), 0_u64);
    let mut end = code.iter().map(|segment| segment.file_offset).min().unwrap_or(0);
    for function in &functions {
        if function.first < end || count >= ROWS_MAX {
            continue; // Two functions in one place: the first one that was met holds.
        }
        if function.first > end {
            gaps.fill(&mut parts, end, function.first);
        }
        let fde = section.fde_from_offset(bases, function.entry, |_, bases, offset| cies.get(section, bases, offset));
        let Ok(fde) = fde else { continue };
        let is_signal = fde.is_signal_trampoline();
        let Some(common) = cies.common(section, bases, fde.cie()) else { continue };
        let mut table = Rows::new(&fde, section, bases, common);
        let mut from = function.first;
        while let Some((address, row)) = table.next() {
            let place = address.wrapping_sub(function.bias);
            if place < from || place >= function.end || count >= ROWS_MAX {
                break;
            }
            from = place;
            count += 1;
            let of_row = match gaps.machine {
                _ if is_signal => SIGNAL,
                Machine::X86_64 => unwind_rule::rule(row, section),
                Machine::Arm64 => unwind_rule_arm64::rule(row, section),
            };
            parts.push(place, of_row);
        }
        end = function.end;
    }
    let last = end_of(code).max(end);
    gaps.fill(&mut parts, end, last);
    parts.finish(last)
}

/// Rows for a file that has no functions but Go's.
fn between_nothing(code: &[LoadSegment], gaps: &Gaps<'_>) -> (Vec<UnwindPart>, u64) {
    let first = code.iter().map(|segment| segment.file_offset).min().unwrap_or(0);
    let last = end_of(code);
    let mut parts = Parts::default();
    gaps.fill(&mut parts, first, last);
    parts.finish(last)
}

/// Where the code ends, in the file.
fn end_of(code: &[LoadSegment]) -> u64 {
    code.iter().map(|segment| segment.file_offset.saturating_add(segment.file_size)).max().unwrap_or(0)
}

fn functions<'a, S>(section: &'a S, bases: &'a BaseAddresses, code: &[LoadSegment], cies: &mut Cies<'a, S>) -> Vec<Function<S::Offset>>
where
    S: UnwindSection<Bytes<'a>>,
    S::Offset: gimli::UnwindOffset<usize>,
{
    let (mut functions, mut entries) = (Vec::new(), section.entries(bases));
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(entry) = entry else { continue };
        if !is_short(cies.data, entry.offset(), FDE_MAX_BYTES) {
            continue;
        }
        let Ok(fde) = entry.parse(|_, bases, offset| cies.get(section, bases, offset)) else { continue };
        let (start, length) = (fde.initial_address(), fde.len());
        let holds = |segment: &&LoadSegment| start.checked_sub(segment.virtual_address).is_some_and(|at| at < segment.file_size);
        let Some(segment) = code.iter().find(holds) else { continue };
        let bias = segment.virtual_address.wrapping_sub(segment.file_offset);
        let Some(end) = start.checked_add(length) else { continue };
        let last = segment.file_offset.saturating_add(segment.file_size);
        let first = segment.file_offset.saturating_add(start - segment.virtual_address);
        let end = first.saturating_add(end - start).min(last);
        if first < end && functions.len() < FUNCTIONS_MAX {
            functions.push(Function { first, end, bias, entry: S::Offset::from(entry.offset()) });
        }
    }
    functions
}

/// The entry that many functions have in common, read once in a row.
struct Cies<'a, S: UnwindSection<Bytes<'a>>> {
    data: &'a [u8],
    machine: Machine,
    held: Option<(S::Offset, CommonInformationEntry<Bytes<'a>>)>,
    /// What its instructions lead to, by its place.
    common: Option<(usize, Option<Common>)>,
}

impl<'a, S: UnwindSection<Bytes<'a>>> Cies<'a, S>
where
    S::Offset: gimli::UnwindOffset<usize>,
{
    /// What the instructions of an entry lead to; None if they make no sense.
    fn common(&mut self, section: &'a S, bases: &'a BaseAddresses, cie: &CommonInformationEntry<Bytes<'a>>) -> Option<&Common> {
        if self.common.as_ref().is_none_or(|(offset, _)| *offset != cie.offset()) {
            let followed = match self.machine {
                Machine::X86_64 => unwind_rule::REGISTERS,
                Machine::Arm64 => unwind_rule_arm64::REGISTERS,
            };
            self.common = Some((cie.offset(), Common::new(cie, section, bases, followed)));
        }
        self.common.as_ref()?.1.as_ref()
    }

    fn get(&mut self, section: &S, bases: &BaseAddresses, offset: S::Offset) -> gimli::Result<CommonInformationEntry<Bytes<'a>>> {
        match &self.held {
            Some((held, cie)) if *held == offset => Ok(cie.clone()),
            _ if !is_short(self.data, gimli::UnwindOffset::into(offset), CIE_MAX_BYTES) => {
                Err(gimli::Error::UnexpectedEof(gimli::ReaderOffsetId(0)))
            }
            _ => {
                let cie = section.cie_from_offset(bases, offset)?;
                self.held = Some((offset, cie.clone()));
                Ok(cie)
            }
        }
    }
}

/// Whether an entry says that it is no longer than that; its length stands first.
fn is_short(data: &[u8], at: usize, bytes_max: usize) -> bool {
    let length = data.get(at..).and_then(|rest| rest.first_chunk().copied()).map(u32::from_le_bytes);
    length.is_some_and(|length| length as usize <= bytes_max)
}
