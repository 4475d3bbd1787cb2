//! Where the functions and the marks (USDT, `.note.stapsdt`) are that a custom profile names.

use super::elf::{self, ParseError};
use super::machine::Machine;
use super::machine_code::MachineCode;
use super::mark_arguments::arguments;
use super::probe_place::first_push;
use crate::model::answer::LoadSegment;
use crate::model::custom::nearest;
use crate::model::probe_points::{Found, FoundPoints, Mark, PLACES_MAX, WantedPoints};
use object::{Object, ObjectSection, ObjectSymbol, SymbolFlags};
use std::collections::BTreeSet;

/// Symbols of one table that are looked at.
const SYMBOLS_MAX: usize = 1 << 22;
/// Names that may have been meant.
const NEAR_MAX: usize = 1 << 16;
/// Marks of one file that are looked at.
const MARKS_MAX: usize = 1 << 16;
/// The `nop` of five bytes: newer kernels make a call of it, which writes over what the function keeps below its stack pointer.
const LONG_NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];
/// `NT_STAPSDT`.
const MARK_NOTE: u32 = 3;

/// Finds what is wanted.
///
/// # Errors
/// The bytes are no ELF file.
pub fn probe_points(bytes: &[u8], wanted: &WantedPoints) -> Result<FoundPoints, ParseError> {
    let file = object::File::parse(bytes).map_err(|error| ParseError::Elf(error.to_string()))?;
    if file.format() != object::BinaryFormat::Elf || !file.is_64() {
        return Err(ParseError::Elf("no ELF file of 64 bits".into()));
    }
    let code = MachineCode::new(&file, bytes);
    let is_x86 = Machine::of(file.architecture()) == Some(Machine::X86_64);
    let place = |entry: u64| {
        let offset = code.offset(entry)?;
        Some(if is_x86 { first_push(&code, entry, offset) } else { offset })
    };
    let functions = wanted.functions.iter().map(|name| function(&file, name, &place)).collect();
    let all = if wanted.marks.is_empty() { Vec::new() } else { marks(&file, bytes) };
    Ok(FoundPoints { functions, marks: wanted.marks.iter().map(|(provider, name)| mark(&all, provider, name)).collect() })
}

fn symbols<'a>(file: &'a object::File<'a>) -> impl Iterator<Item = (&'a str, u64)> {
    let of_function = |symbol: object::Symbol<'a, '_>| {
        let SymbolFlags::Elf { st_info, .. } = symbol.flags() else { return None };
        let is_function = st_info & 0xf == object::elf::STT_FUNC && !symbol.is_undefined() && symbol.address() != 0;
        let name = std::str::from_utf8(symbol.name_bytes().ok()?).ok()?;
        is_function.then(|| (name.split_once('@').map_or(name, |(name, _)| name), symbol.address()))
    };
    file.dynamic_symbols().take(SYMBOLS_MAX).chain(file.symbols().take(SYMBOLS_MAX)).filter_map(of_function)
}

fn function(file: &object::File<'_>, name: &str, place: &dyn Fn(u64) -> Option<u64>) -> Found<u64> {
    let entries: BTreeSet<u64> = symbols(file).filter(|(known, _)| *known == name).map(|(_, address)| address).collect();
    let places: BTreeSet<u64> = entries.into_iter().take(PLACES_MAX).filter_map(place).collect();
    if places.is_empty() {
        return Found::Nowhere(nearest(name, symbols(file).map(|(name, _)| name).take(NEAR_MAX)).map(str::to_owned));
    }
    Found::At(places.into_iter().collect())
}

/// A mark as its note has it.
pub(super) struct Noted<'a> {
    pub(super) provider: &'a str,
    pub(super) name: &'a str,
    pub(super) mark: Option<Mark>,
}

fn mark(all: &[Noted<'_>], provider: &str, name: &str) -> Found<Mark> {
    let of_name = all.iter().filter(|noted| noted.provider == provider && noted.name == name);
    let places: Vec<Mark> = of_name.filter_map(|noted| noted.mark.clone()).take(PLACES_MAX).collect();
    if places.is_empty() {
        let near = nearest(name, all.iter().filter(|noted| noted.provider == provider).map(|noted| noted.name));
        let meant = near.map(|name| format!("{provider}:{name}"));
        return Found::Nowhere(
            meant.or_else(|| nearest(provider, all.iter().map(|noted| noted.provider)).map(|provider| format!("{provider}:..."))),
        );
    }
    Found::At(places)
}

/// All marks of a file.
pub(super) fn marks<'a>(file: &object::File<'a>, bytes: &'a [u8]) -> Vec<Noted<'a>> {
    let address_of = |name: &str| file.section_by_name(name).map(|section| section.address());
    let (Some(section), base) = (file.section_by_name(".note.stapsdt"), address_of(".stapsdt.base")) else { return Vec::new() };
    let Ok(mut data) = section.data() else { return Vec::new() };
    let segments = elf::segments(file);
    let mut found = Vec::new();
    while found.len() < MARKS_MAX {
        let Some((description, rest)) = next_note(data) else { break };
        found.extend(description.and_then(|description| noted(description, base, &segments, bytes)));
        data = rest;
    }
    found
}

/// The next note, if it is of a mark, and what is behind it.
fn next_note(data: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let word = |at: usize| Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?));
    let (name_bytes, bytes, sort) = (word(0)? as usize, word(4)? as usize, word(8)?);
    let begin = 12usize.checked_add(name_bytes.checked_next_multiple_of(4)?)?;
    let end = begin.checked_add(bytes)?;
    let is_mark = sort == MARK_NOTE && data.get(12..12 + name_bytes)? == b"stapsdt\0";
    let description = data.get(begin..end)?;
    Some((is_mark.then_some(description), data.get(end.checked_next_multiple_of(4)?..).unwrap_or_default()))
}

fn noted<'a>(description: &'a [u8], base: Option<u64>, segments: &[LoadSegment], bytes: &[u8]) -> Option<Noted<'a>> {
    let number = |at: usize| Some(u64::from_le_bytes(description.get(at..at + 8)?.try_into().ok()?));
    let (place, noted_base, semaphore) = (number(0)?, number(8)?, number(16)?);
    let mut texts = description.get(24..)?.split(|byte| *byte == 0).map(std::str::from_utf8);
    let (provider, name, written) = (texts.next()?.ok()?, texts.next()?.ok()?, texts.next()?.ok()?);
    // What was linked once more has moved by as much as its base.
    let moved = base.map_or(0, |base| base.wrapping_sub(noted_base));
    let in_file = |address: u64| elf::file_offset(segments, address.wrapping_add(moved));
    let semaphore = if semaphore == 0 { Some(0) } else { in_file(semaphore) };
    let offset = in_file(place).filter(|offset| {
        let there = bytes.get(*offset as usize..).unwrap_or_default();
        !there.is_empty() && !there.starts_with(&LONG_NOP)
    });
    let mark = offset.zip(semaphore).map(|(offset, semaphore)| Mark { offset, semaphore, arguments: arguments(written) });
    Some(Noted { provider, name, mark })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_this_program_is_found_and_one_that_is_not_there_is_guessed() {
        let bytes = std::fs::read("/proc/self/exe").expect("it runs");
        let wanted = WantedPoints { functions: vec!["main".into(), "mian".into()], marks: vec![("nobody".into(), "none".into())] };
        let found = probe_points(&bytes, &wanted).expect("an ELF file");
        assert!(matches!(&found.functions[0], Found::At(places) if places.len() == 1), "{:?}", found.functions);
        assert_eq!(found.functions[1], Found::Nowhere(Some("main".into())));
        assert_eq!(found.marks, [Found::Nowhere(None)]);
    }

    #[test]
    fn a_note_is_read_and_what_is_cut_off_is_none() {
        let mut description = Vec::new();
        for number in [0x1010u64, 0x500, 0] {
            description.extend(number.to_le_bytes());
        }
        description.extend(b"app\0begin\0-4@%edi 8@$7\0");
        let mut note: Vec<u8> = [8u32, description.len() as u32, 3].iter().flat_map(|word| word.to_le_bytes()).collect();
        note.extend(b"stapsdt\0");
        note.extend(&description);
        note.resize(note.len().next_multiple_of(4), 0);
        let (first, rest) = next_note(&note).expect("a note");
        assert!(rest.is_empty());
        let segments = [LoadSegment { file_offset: 0, file_size: 0x2000, virtual_address: 0x1000, executable: true }];
        let bytes = [0x90; 0x100];
        let noted = noted(first.expect("of a mark"), Some(0x510), &segments, &bytes).expect("readable");
        assert_eq!((noted.provider, noted.name), ("app", "begin"));
        let mark = noted.mark.expect("in the file");
        assert_eq!((mark.offset, mark.semaphore, mark.arguments.len()), (0x20, 0, 2));
        for length in 0..note.len() - 4 {
            assert!(next_note(&note[..length]).is_none_or(|(_, rest)| rest.is_empty()));
        }
    }
}
