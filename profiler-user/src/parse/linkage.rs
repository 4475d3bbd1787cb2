//! The procedure linkage table: short code without symbols that jumps to a function of another file. Each entry jumps through a word that the dynamic linker
//! fills, and the file's relocations say with which function; so an entry is named after it, as disassemblers and debuggers do: `puts@plt`.

use crate::model::answer::bounded;
use object::{Architecture, Object, ObjectSection, ObjectSymbol, ObjectSymbolTable, RelocationTarget, SymbolIndex};
use std::collections::HashMap;

/// Sections with entries: those of 16 bytes, and `.plt.got`, whose are shorter where they need no landing pad for indirect branches.
const SECTIONS: [&str; 3] = [".plt", ".plt.sec", ".plt.got"];
/// `endbr64`.
const LANDING_PAD: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
/// `jmp *DISTANCE(%rip)`, and how long it is.
const JUMP: &[u8] = &[0xff, 0x25];
const JUMP_BYTES: usize = 6;
/// Relocations of one file that are looked at.
const RELOCATIONS_MAX: usize = 1 << 20;

/// The tables of one file.
#[derive(Debug, Default)]
pub struct Linkage {
    entries: Vec<Entries>,
    /// What the dynamic linker writes to which address.
    words: HashMap<u64, SymbolIndex>,
}

/// Entries of one size: where they are in the file, and at which of its own addresses.
#[derive(Debug)]
struct Entries {
    first: u64,
    end: u64,
    bytes_each: u64,
    offset: usize,
}

impl Linkage {
    /// Finds the tables of an x86-64 file; of another there are none.
    pub fn find(bytes: &[u8]) -> Self {
        let Ok(file) = object::File::parse(bytes) else { return Self::default() };
        if file.architecture() != Architecture::X86_64 {
            return Self::default();
        }
        let entries: Vec<Entries> = SECTIONS.into_iter().filter_map(|name| Entries::of(&file, bytes, name)).collect();
        if entries.is_empty() {
            return Self::default();
        }
        let relocations = file.dynamic_relocations().into_iter().flatten().take(RELOCATIONS_MAX);
        let words = relocations.filter_map(|(at, relocation)| match relocation.target() {
            RelocationTarget::Symbol(symbol) => Some((at, symbol)),
            _ => None,
        });
        Self { entries, words: words.collect() }
    }

    /// The function that the entry around one of the file's own addresses leads to.
    pub fn name(&self, bytes: &[u8], address: u64) -> Option<String> {
        let entries = self.entries.iter().find(|entries| (entries.first..entries.end).contains(&address))?;
        let symbol = self.words.get(&entries.word(bytes, address)?)?;
        let file = object::File::parse(bytes).ok()?;
        let symbol = file.dynamic_symbol_table()?.symbol_by_index(*symbol).ok()?;
        let name = symbol.name().ok().filter(|name| !name.is_empty())?;
        Some(bounded(name).to_owned())
    }
}

impl Entries {
    fn of(file: &object::File<'_>, bytes: &[u8], name: &str) -> Option<Self> {
        let section = file.section_by_name(name)?;
        let (offset, size) = section.file_range()?;
        let offset = usize::try_from(offset).ok()?;
        let has_landing_pads = bytes.get(offset..)?.starts_with(LANDING_PAD);
        let bytes_each = if name == ".plt.got" && !has_landing_pads { 8 } else { 16 };
        Some(Self { first: section.address(), end: section.address().checked_add(size)?, bytes_each, offset })
    }

    /// The address of the word through which the entry around an address jumps.
    fn word(&self, bytes: &[u8], address: u64) -> Option<u64> {
        let begins = (address - self.first) / self.bytes_each * self.bytes_each;
        let at = self.offset.checked_add(usize::try_from(begins).ok()?)?;
        let entry = bytes.get(at..)?.get(..self.bytes_each as usize)?;
        let jump = entry.windows(JUMP_BYTES).position(|code| code.starts_with(JUMP))?;
        let distance = i32::from_le_bytes(*entry.get(jump + JUMP.len()..)?.first_chunk()?);
        let next = self.first.checked_add(begins)?.checked_add((jump + JUMP_BYTES) as u64)?;
        next.checked_add_signed(distance.into())
    }
}
