//! Go's own table of functions and lines (`.gopclntab`): it survives stripping, and says what Go's own profiles say. Layouts: Go's `runtime/symtab.go` and
//! `runtime/symtabinl.go` of 1.18 (magic `0xfffffff0`) and of 1.20 to 1.27 (`0xfffffff1`), little endian, pointers of 8 bytes; of 1.16 and 1.17
//! (`0xfffffffa`).
//!
//! The table is the work of whoever made the file: each offset and each length is checked against the bytes that are there, each chain has an end.

use crate::model::answer::{LINES_MAX, LoadSegment, bounded};
use std::ops::Range;

/// Most steps that are taken through one table of a function: those of real functions are a few thousand.
const STEPS_MAX: usize = 1 << 16;

/// `PCDATA_InlTreeIndex` and `FUNCDATA_InlTree` of Go's `internal/abi`.
const PCDATA_INLINE_INDEX: usize = 2;
const FUNCDATA_INLINE_TREE: usize = 3;

/// Which layout.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Version {
    /// 1.16 and 1.17.
    Go116,
    /// 1.18 and 1.19.
    Go118,
    /// 1.20 and later.
    Go120,
}

/// The table of one file: where its parts are. The bytes of the file are handed in with each question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoTable {
    pub(super) version: Version,
    /// Unit in which the tables count program counters: 1, or 4 on arm64.
    quantum: u64,
    functions: usize,
    /// Parts of the file.
    function_names: Range<usize>,
    compile_units: Range<usize>,
    files: Range<usize>,
    values: Range<usize>,
    pub(super) lines: Range<usize>,
    /// The address that functions count from; 0 before 1.18.
    pub(super) text: u64,
    pub(super) inline_trees: InlineTrees,
    /// The id of functions that the compiler made to call another one.
    pub(super) wrapper: Option<u8>,
}

/// Where the trees of inlined functions are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum InlineTrees {
    /// Not found: functions are named, what is inlined into them is not.
    Unknown,
    /// Behind `go:func.*`, which is at this offset of the file (since 1.18).
    At(usize),
    /// Where the record of each function says, by address (1.16 and 1.17).
    ByAddress(Vec<LoadSegment>),
}

/// A place in a Go function.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GoLine {
    /// Its name as Go writes it.
    pub name: String,
    /// Source file.
    pub filename: String,
    /// Line, or 0.
    pub line: u32,
    /// Line of the function's declaration, or 0 (before 1.20).
    pub start_line: u32,
    /// Distance from the first byte of the function that is not inlined.
    pub offset: u32,
    /// The compiler made it to call another one.
    pub is_wrapper: bool,
    /// It is inlined there.
    pub is_inlined: bool,
}

/// The entry of one function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    /// Offset in the file.
    at: usize,
    pub(super) entry: u64,
}

/// A record of 1.20's inline tree, or what a record of 1.18's says.
struct Inlined {
    name: u32,
    parent_pc: u64,
    start_line: u32,
    id: u8,
}

impl GoTable {
    /// Reads the header of the table in a section.
    pub(super) fn parse(bytes: &[u8], section: Range<usize>) -> Option<Self> {
        let table = bytes.get(section.clone())?;
        let version = match u32_at(table, 0)? {
            0xffff_fffa => Version::Go116,
            0xffff_fff0 => Version::Go118,
            0xffff_fff1 => Version::Go120,
            _ => return None,
        };
        let [0, 0, quantum @ (1 | 2 | 4), 8] = *table.get(4..8)? else { return None };
        let word = |at: usize| usize::try_from(u64_at(table, 8 + 8 * at)?).ok();
        // Since 1.18 the address of the text stands between the counts and the offsets (since 1.26 only its place).
        let first = if version == Version::Go116 { 2 } else { 3 };
        let part = |at: usize| -> Option<Range<usize>> {
            let begin = section.start.checked_add(word(first + at)?)?;
            (begin <= section.end).then_some(begin..section.end)
        };
        let functions = word(0)?;
        let lines = part(4)?;
        let entry_bytes = if version == Version::Go116 { 16 } else { 8 };
        if functions.checked_mul(entry_bytes)? > lines.len() {
            return None;
        }
        Some(Self {
            version,
            quantum: u64::from(quantum),
            functions,
            function_names: part(0)?,
            compile_units: part(1)?,
            files: part(2)?,
            values: part(3)?,
            lines,
            text: 0,
            inline_trees: InlineTrees::Unknown,
            wrapper: None,
        })
    }

    /// The function around one of the file's own addresses and what is inlined there, innermost first; empty where there is no Go code.
    pub fn look_up(&self, bytes: &[u8], address: u64) -> Vec<GoLine> {
        let Some(function) = self.function_around(bytes, address) else { return Vec::new() };
        let mut lines = Vec::new();
        let mut at = address;
        while lines.len() < LINES_MAX {
            match self.inlined_at(bytes, function, at) {
                Some(inlined) => {
                    lines.push(GoLine { is_inlined: true, ..self.line(bytes, (function, at), &inlined) });
                    at = inlined.parent_pc;
                }
                None => {
                    lines.push(self.line(bytes, (function, at), &self.itself(bytes, function)));
                    break;
                }
            }
        }
        lines.retain(|line| !line.name.is_empty());
        lines
    }

    /// What an inline tree would say of the function itself.
    fn itself(&self, bytes: &[u8], function: Function) -> Inlined {
        let name = self.field(bytes, function, 1).unwrap_or(0);
        Inlined { name, parent_pc: 0, start_line: self.start_line(bytes, function), id: self.id(bytes, function) }
    }

    fn line(&self, bytes: &[u8], (function, at): (Function, u64), of: &Inlined) -> GoLine {
        let line = self.value(bytes, function, 6, at).and_then(|line| u32::try_from(line).ok());
        GoLine {
            name: self.text_at(bytes, &self.function_names, of.name),
            filename: self.filename(bytes, function, at).unwrap_or_default(),
            line: line.unwrap_or(0),
            start_line: of.start_line,
            offset: u32::try_from(at.wrapping_sub(function.entry)).unwrap_or(0),
            is_wrapper: self.wrapper == Some(of.id),
            is_inlined: false,
        }
    }

    fn filename(&self, bytes: &[u8], function: Function, at: u64) -> Option<String> {
        let number = self.value(bytes, function, 5, at)?;
        let unit = u64::from(self.field(bytes, function, 8)?);
        let index = usize::try_from(unit.checked_add(u64::try_from(number).ok()?)?).ok()?;
        let offset = u32_at(bytes.get(self.compile_units.clone())?, index.checked_mul(4)?)?;
        (offset != u32::MAX).then(|| self.text_at(bytes, &self.files, offset))
    }

    /// The text of a part from an offset to its NUL, cut to what is handed on.
    fn text_at(&self, bytes: &[u8], part: &Range<usize>, offset: u32) -> String {
        let rest = bytes.get(part.clone()).and_then(|part| part.get(offset as usize..)).unwrap_or_default();
        let rest = &rest[..rest.len().min(crate::model::answer::TEXT_MAX_BYTES)];
        let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        bounded(&String::from_utf8_lossy(text)).to_owned()
    }

    /// An entry of the table of functions: where its code begins, and where its record is.
    pub(super) fn function(&self, bytes: &[u8], index: usize) -> Option<Function> {
        let table = bytes.get(self.lines.clone())?;
        let (entry, record) = match self.version {
            Version::Go116 => (u64_at(table, index.checked_mul(16)?)?, u64_at(table, index.checked_mul(16)? + 8)?),
            _ => {
                let at = index.checked_mul(8)?;
                (self.text.checked_add(u64::from(u32_at(table, at)?))?, u64::from(u32_at(table, at + 4)?))
            }
        };
        Some(Function { at: self.lines.start.checked_add(usize::try_from(record).ok()?)?, entry })
    }

    /// All functions, each with the address where it ends.
    pub(super) fn functions<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (Function, u64)> + 'a {
        let end = move |index: usize| match self.function(bytes, index + 1) {
            Some(next) if index + 1 < self.functions => Some(next.entry),
            _ => self.end(bytes),
        };
        (0..self.functions).map_while(move |index| Some((self.function(bytes, index)?, end(index)?)))
    }

    /// A function's name as the linker knows it.
    pub(super) fn name(&self, bytes: &[u8], function: Function) -> String {
        self.text_at(bytes, &self.function_names, self.field(bytes, function, 1).unwrap_or(0))
    }

    /// How far the stack pointer is below where the function was entered, bytes: up to which address, and how far.
    pub(super) fn stack_sizes<'a>(&self, bytes: &'a [u8], function: Function) -> impl Iterator<Item = (u64, i32)> + use<'a> {
        self.field(bytes, function, 4).and_then(|offset| self.steps(bytes, offset, function.entry)).into_iter().flatten()
    }

    /// Whether a function sets the stack pointer to what is no offset from where it was: `abi.FuncFlagSPWrite`, since 1.17.
    pub(super) fn writes_stack_pointer(&self, bytes: &[u8], function: Function) -> bool {
        const SP_WRITE: u8 = 1 << 1;
        self.field(bytes, function, self.counts_field()).is_some_and(|counts| counts.to_le_bytes()[1] & SP_WRITE != 0)
    }

    /// Which of the functions that the runtime treats in its own way it is (`abi.FuncID`); 0: none.
    pub(super) fn id(&self, bytes: &[u8], function: Function) -> u8 {
        self.field(bytes, function, self.counts_field()).map_or(0, |counts| counts.to_le_bytes()[0])
    }

    /// The field that holds the function's id, its flags, and (last) how many tables of data it has.
    fn counts_field(&self) -> usize {
        if self.version == Version::Go120 { 10 } else { 9 }
    }

    /// Where the code ends: the entry behind the last function.
    pub(super) fn end(&self, bytes: &[u8]) -> Option<u64> {
        let table = bytes.get(self.lines.clone())?;
        match self.version {
            Version::Go116 => u64_at(table, self.functions.checked_mul(16)?),
            _ => self.text.checked_add(u64::from(u32_at(table, self.functions.checked_mul(8)?)?)),
        }
    }

    fn function_around(&self, bytes: &[u8], address: u64) -> Option<Function> {
        if address >= self.end(bytes)? {
            return None;
        }
        let (mut low, mut high) = (0, self.functions);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.function(bytes, middle)?.entry <= address { low = middle + 1 } else { high = middle }
        }
        self.function(bytes, low.checked_sub(1)?)
    }

    /// A field of a function's record, counted from its name (1): arguments, defer return, pcsp (4), pcfile (5), pcln (6), npcdata (7), unit (8), start line.
    pub(super) fn field(&self, bytes: &[u8], function: Function, number: usize) -> Option<u32> {
        let first = if self.version == Version::Go116 { 4 } else { 0 };
        u32_at(bytes, function.at.checked_add(first + 4 * number)?)
    }

    fn start_line(&self, bytes: &[u8], function: Function) -> u32 {
        match self.version {
            Version::Go120 => self.field(bytes, function, 9).filter(|line| *line <= i32::MAX as u32).unwrap_or(0),
            _ => 0,
        }
    }

    /// The number that a field's table has for an address.
    fn value(&self, bytes: &[u8], function: Function, field: usize, at: u64) -> Option<i32> {
        self.walk(bytes, self.field(bytes, function, field)?, function.entry, at)
    }

    /// Walks a table of (difference of value, difference of address) until the address is reached.
    fn walk(&self, bytes: &[u8], offset: u32, entry: u64, at: u64) -> Option<i32> {
        self.steps(bytes, offset, entry)?.find(|(end, _)| at < *end).map(|(_, value)| value)
    }

    /// The steps of such a table: up to which address, and what value.
    fn steps<'a>(&self, bytes: &'a [u8], offset: u32, entry: u64) -> Option<impl Iterator<Item = (u64, i32)> + use<'a>> {
        if offset == 0 {
            return None;
        }
        let (mut table, quantum) = (bytes.get(self.values.clone())?.get(offset as usize..)?, self.quantum);
        let (mut address, mut value) = (entry, -1_i32);
        let next = move |step: usize| {
            let difference = uvarint(&mut table)?;
            if difference == 0 && step > 0 {
                return None;
            }
            value = value.wrapping_add((difference >> 1) as i32 ^ -((difference & 1) as i32));
            address = address.checked_add(u64::from(uvarint(&mut table)?).checked_mul(quantum)?)?;
            Some((address, value))
        };
        Some((0..STEPS_MAX).map_while(next))
    }

    /// Where in the file a function's inline tree is, if it has one.
    fn inline_tree(&self, bytes: &[u8], function: Function) -> Option<usize> {
        let header = self.counts_field();
        let counts = self.field(bytes, function, header)?.to_le_bytes();
        let tables = self.field(bytes, function, 7)? as usize;
        if usize::from(counts[3]) <= FUNCDATA_INLINE_TREE || tables > usize::from(u16::MAX) {
            return None;
        }
        let first = header + 1 + tables;
        match &self.inline_trees {
            InlineTrees::Unknown => None,
            InlineTrees::At(base) => {
                let offset = self.field(bytes, function, first + FUNCDATA_INLINE_TREE).filter(|offset| *offset != u32::MAX)?;
                base.checked_add(offset as usize)
            }
            InlineTrees::ByAddress(segments) => {
                // Addresses, aligned in memory, and so in the file.
                let at = (function.at.checked_add(4 + 4 * first)?.checked_next_multiple_of(8)?).checked_add(8 * FUNCDATA_INLINE_TREE)?;
                let address = u64_at(bytes, at).filter(|address| *address != 0)?;
                usize::try_from(super::elf::file_offset(segments, address)?).ok()
            }
        }
    }

    /// The innermost function that is inlined at an address.
    fn inlined_at(&self, bytes: &[u8], function: Function, at: u64) -> Option<Inlined> {
        let tree = self.inline_tree(bytes, function)?;
        let header = self.counts_field();
        if self.field(bytes, function, 7)? as usize <= PCDATA_INLINE_INDEX {
            return None;
        }
        let table = self.field(bytes, function, header + 1 + PCDATA_INLINE_INDEX)?;
        let index = usize::try_from(self.walk(bytes, table, function.entry, at)?).ok()?;
        self.record(bytes, tree, index, function)
    }

    /// A record of an inline tree: 16 bytes (function id, name, parent, start line), or 20 before 1.20 (parent index and id, file, line, name, parent).
    fn record(&self, bytes: &[u8], tree: usize, index: usize, function: Function) -> Option<Inlined> {
        let (size, name, parent) = if self.version == Version::Go120 { (16, 4, 8) } else { (20, 12, 16) };
        let at = tree.checked_add(index.checked_mul(size)?)?;
        let start_line = match self.version {
            Version::Go120 => u32_at(bytes, at.checked_add(12)?)?,
            _ => 0,
        };
        let id = if self.version == Version::Go120 { *bytes.get(at)? } else { 0 };
        let parent_pc = function.entry.checked_add(u64::from(u32_at(bytes, at.checked_add(parent)?)?))?;
        Some(Inlined { name: u32_at(bytes, at.checked_add(name)?)?, parent_pc, start_line, id })
    }

    /// Whether the inline trees make sense: the first record of each of some functions names a function and a place in its own code.
    pub(super) fn inline_trees_fit(&self, bytes: &[u8]) -> bool {
        let (mut fitting, mut first_names) = (0, 0);
        for index in 0..self.functions {
            let (Some(function), Some(next)) = (self.function(bytes, index), self.function(bytes, index + 1)) else { return false };
            let Some(tree) = self.inline_tree(bytes, function) else { continue };
            let Some(record) = self.record(bytes, tree, 0, function) else { return false };
            // A name begins behind the NUL of another one, or is the first: and few functions have that one.
            let begins = record.name == 0 || self.text_at(bytes, &self.function_names, record.name - 1).is_empty();
            if !begins || self.text_at(bytes, &self.function_names, record.name).is_empty() || record.parent_pc >= next.entry {
                return false;
            }
            first_names += usize::from(record.name == 0);
            fitting += 1;
            if fitting >= 64 {
                break;
            }
        }
        fitting > 2 * first_names
    }
}

fn uvarint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}
