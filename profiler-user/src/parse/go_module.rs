//! `runtime.firstmoduledata` of a Go program: the structure that says which address the table of functions counts from, and where the trees of inlined
//! functions are. A stripped program has no symbol for it; it is known by its first word, which points to the table, and by what follows.

use super::pclntab::{GoTable, u64_at};
use object::{Object, ObjectSection, RelocationFlags};
use std::collections::HashMap;
use std::ops::Range;

/// Index of the word `minpc`, and behind it `maxpc`, `text` and `etext`: the same since 1.16.
const MIN_PC: usize = 20;

/// Where `gofunc` may stand: word 38 in 1.18, 40 since 1.20; its neighbours for versions to come.
const INLINE_TREES: [usize; 8] = [40, 38, 39, 41, 42, 43, 44, 37];

/// Words of the structure that are looked at.
const WORDS: usize = 48;

/// What the table begins at a multiple of, if it has no section.
const TABLE_ALIGNMENT: usize = 16;

/// Most places that are tried.
const CANDIDATES_MAX: usize = 64;

/// Where the table of functions lies.
pub(super) struct TableSection {
    /// In the file.
    pub range: Range<usize>,
    /// The file's own address of it.
    pub address: u64,
}

/// Where the table may be: in its section, or in a program that another linker finished, where it has none, wherever its first bytes stand.
pub(super) fn table_sections<'a>(file: &'a object::File<'_>, bytes: &'a [u8]) -> impl Iterator<Item = TableSection> + 'a {
    let place = |name: &str| {
        let section = file.section_by_name(name)?;
        let (offset, size) = section.file_range()?;
        let begin = usize::try_from(offset).ok()?;
        let range = begin..begin.checked_add(usize::try_from(size).ok()?)?;
        (range.end <= bytes.len()).then(|| TableSection { range, address: section.address() })
    };
    let known = file.is_little_endian() && file.is_64();
    let own = [".gopclntab", ".data.rel.ro.gopclntab"].into_iter().filter_map(place).find(|_| known);
    let shared = if own.is_none() && known { [".data.rel.ro", ".rodata"].into_iter().filter_map(place).collect() } else { Vec::new() };
    let found = shared.into_iter().flat_map(move |TableSection { range, address }| {
        let begins = range.clone().step_by(TABLE_ALIGNMENT).filter(|at| looks_like_table(bytes, *at));
        begins.map(move |at| TableSection { range: at..range.end, address: address.wrapping_add((at - range.start) as u64) })
    });
    own.into_iter().chain(found.take(CANDIDATES_MAX))
}

/// The first eight bytes of the header: a magic number, two zeros, the unit of program counters, the size of a pointer.
fn looks_like_table(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(at..).and_then(|bytes| bytes.first_chunk()), Some([0xf0 | 0xf1 | 0xfa, 0xff, 0xff, 0xff, 0, 0, 1 | 2 | 4, 8]))
}

/// What the structure says.
pub(super) struct Module {
    /// Address that functions count from.
    pub text: u64,
    words: Vec<u64>,
}

/// Finds the structure: in its own section (since 1.26), or wherever in the data a word points to the table.
pub(super) fn find(file: &object::File<'_>, bytes: &[u8], table_address: u64, table: &GoTable) -> Option<Module> {
    let relocated = relocated_words(file, table_address);
    for name in [".go.module", ".noptrdata", ".data", ".data.rel.ro"] {
        let Some(section) = file.section_by_name(name) else { continue };
        let Some((offset, size)) = section.file_range() else { continue };
        let Some(data) = usize::try_from(offset).ok().and_then(|from| bytes.get(from..)?.get(..usize::try_from(size).ok()?)) else {
            continue;
        };
        let word = |at: usize| match u64_at(data, at)? {
            0 => Some(relocated.get(&section.address().checked_add(at as u64)?).copied().unwrap_or(0)),
            value => Some(value),
        };
        let candidates = (0..data.len()).step_by(8).filter(|at| word(*at) == Some(table_address)).take(CANDIDATES_MAX);
        for at in candidates {
            let words: Vec<u64> = (0..WORDS).map_while(|index| word(at + 8 * index)).collect();
            if let Some(module) = Module::check(words, bytes, table) {
                return Some(module);
            }
        }
    }
    None
}

/// In a program that can be moved, words that point somewhere may stand in the relocations alone. Kept are those behind a word that points to the table.
fn relocated_words(file: &object::File<'_>, table_address: u64) -> HashMap<u64, u64> {
    const X86_64_RELATIVE: u32 = object::elf::R_X86_64_RELATIVE;
    const AARCH64_RELATIVE: u32 = object::elf::R_AARCH64_RELATIVE;
    let relative = || {
        file.dynamic_relocations().into_iter().flatten().filter_map(|(address, relocation)| match relocation.flags() {
            RelocationFlags::Elf { r_type: X86_64_RELATIVE | AARCH64_RELATIVE } => Some((address, relocation.addend() as u64)),
            _ => None,
        })
    };
    let begins: Vec<u64> = relative().filter(|(_, points_to)| *points_to == table_address).map(|(at, _)| at).take(CANDIDATES_MAX).collect();
    let near = |at: u64| begins.iter().any(|begin| at.checked_sub(*begin).is_some_and(|distance| distance < 8 * WORDS as u64));
    relative().filter(|(at, _)| near(*at)).collect()
}

impl Module {
    /// Believes the words if its bounds of the code are those of the table.
    fn check(words: Vec<u64>, bytes: &[u8], table: &GoTable) -> Option<Self> {
        let [min_pc, max_pc, text, end_text] = *words.get(MIN_PC..)?.first_chunk::<4>()?;
        let module = Self { text, words };
        let first = table.function(bytes, 0)?.entry.checked_add(text)?;
        let end = table.end(bytes)?.checked_add(text)?;
        (text <= min_pc && min_pc == first && min_pc < max_pc && max_pc == end && text < end_text).then_some(module)
    }

    /// Offsets in the file that the trees of inlined functions may be at, the likeliest first.
    pub(super) fn inline_trees<'a>(&'a self, file: &object::File<'_>) -> impl Iterator<Item = usize> + 'a {
        let segments = super::elf::segments(file);
        let in_file = move |address: u64| usize::try_from(super::elf::file_offset(&segments, address)?).ok();
        INLINE_TREES.into_iter().filter_map(move |index| in_file(*self.words.get(index)?))
    }
}
