//! Files whose tables were made to harm: entries that lie, point in circles, overlap, or ask for more work than there are bytes.

use super::{Numbers, bounded};
use anyhow::{Context as _, Result, ensure};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use profiler::parse::machine::Machine;
use std::io::Write as _;

/// Where the code of a made file begins, in it and in memory, and how long it is.
const CODE_AT: u64 = 0x1000;
const CODE_ADDRESS: u64 = 0x40_1000;
const CODE_BYTES: u64 = 0x1_0000;
/// `SHF_COMPRESSED`.
const COMPRESSED: u64 = 1 << 11;

/// A section of a made file.
struct Section<'a> {
    name: &'a str,
    flags: u64,
    bytes: &'a [u8],
    /// The size that the file claims.
    size: u64,
}

impl<'a> Section<'a> {
    fn new(name: &'a str, bytes: &'a [u8]) -> Self {
        Self { name, flags: 2, bytes, size: bytes.len() as u64 }
    }
}

/// An ELF file with one segment of code and some sections.
fn elf(sections: &[Section<'_>], machine: Machine) -> Vec<u8> {
    let number: u16 = if machine == Machine::X86_64 { 62 } else { 183 };
    let (mut names, mut body, mut headers) = (vec![0], vec![0; (CODE_AT + CODE_BYTES) as usize], vec![0; 64]);
    let header = |name: usize, kind: u32, words: [u64; 4], headers: &mut Vec<u8>| {
        headers.extend((name as u32).to_le_bytes());
        headers.extend(kind.to_le_bytes());
        words.iter().for_each(|word| headers.extend(word.to_le_bytes()));
        headers.extend([0; 8]);
        headers.extend(8_u64.to_le_bytes());
        headers.extend([0; 8]);
    };
    for section in sections {
        body.resize(body.len().next_multiple_of(8), 0);
        let at = body.len() as u64;
        body.extend(section.bytes);
        header(names.len(), 1, [section.flags, 0x40_0000 + at, at, section.size], &mut headers);
        names.extend(section.name.bytes().chain([0]));
    }
    let at = body.len() as u64;
    header(names.len(), 3, [0, 0, at, names.len() as u64 + 10], &mut headers);
    names.extend(b".shstrtab\0");
    body.extend(&names);
    body.resize(body.len().next_multiple_of(8), 0);
    let headers_at = body.len() as u64;
    let mut first = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    first.extend(2_u16.to_le_bytes());
    first.extend(number.to_le_bytes());
    first.extend(1_u32.to_le_bytes());
    [CODE_ADDRESS, 64, headers_at].iter().for_each(|word| first.extend(word.to_le_bytes()));
    first.extend([0; 4]);
    [64, 56, 1, 64, sections.len() as u16 + 2, sections.len() as u16 + 1].iter().for_each(|half: &u16| first.extend(half.to_le_bytes()));
    first.extend([1_u32, 5].iter().flat_map(|word| word.to_le_bytes()));
    [CODE_AT, CODE_ADDRESS, CODE_ADDRESS, CODE_BYTES, CODE_BYTES, 0x1000].iter().for_each(|word| first.extend(word.to_le_bytes()));
    body[..first.len()].copy_from_slice(&first);
    body.extend(headers);
    body
}

/// One common entry with these instructions behind the usual ones, and this augmentation.
fn cie(augmentation: &[u8], more: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 1];
    body.extend(augmentation);
    body.extend([0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1]);
    body.extend(more);
    with_length(body)
}

/// The entry of one function at `at` of its section, whose common entry is at `cie`.
fn fde(at: usize, cie: usize, first: u64, length: u64, instructions: &[u8]) -> Vec<u8> {
    let mut body = (at.wrapping_add(4).wrapping_sub(cie) as u32).to_le_bytes().to_vec();
    body.extend(first.to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend(instructions);
    with_length(body)
}

fn with_length(body: Vec<u8>) -> Vec<u8> {
    [(body.len() as u32).to_le_bytes().to_vec(), body].concat()
}

/// A row a byte further, with another CFA each.
fn steps(rows: usize) -> Vec<u8> {
    (0..rows).flat_map(|row| [0x41, 0x0e, 8 + (row % 100) as u8]).collect()
}

fn eh_frame(section: &[u8]) -> Vec<u8> {
    elf(&[Section::new(".eh_frame", section)], Machine::X86_64)
}

#[test]
fn an_honest_file_made_this_way_has_its_rows() -> Result<()> {
    let mut section = cie(b"", b"");
    section.extend(fde(section.len(), 0, CODE_ADDRESS, 100, &steps(50)));
    let rows = bounded::file(&eh_frame(&section), Machine::X86_64).context("a table")?;
    ensure!((51..60).contains(&rows), "{rows} rows");
    Ok(())
}

#[test]
fn entries_that_lie_are_bounded() -> Result<()> {
    let mut numbers = Numbers(7);
    let (mut tables, mut rows) = (0, 0);
    for _ in 0..3_000 {
        let machine = if numbers.below(2) == 0 { Machine::X86_64 } else { Machine::Arm64 };
        let bytes = elf(&[Section::new(".eh_frame", &lying(&mut numbers))], machine);
        let found = bounded::file(&bytes, machine);
        tables += u64::from(found.is_some());
        rows += found.unwrap_or(0);
    }
    ensure!(tables > 1_000 && rows > 5_000, "{tables} tables with {rows} rows");
    Ok(())
}

/// A section of entries of which some are honest: circles of common entries, functions that overlap, are empty, endless, or elsewhere, lengths that lie.
fn lying(numbers: &mut Numbers) -> Vec<u8> {
    let (mut section, mut places) = (cie(b"", b""), vec![0]);
    for _ in 0..numbers.below(30) {
        let at = section.len();
        let any = places[numbers.below(places.len() as u64) as usize];
        let cie_at = [0, any, at, at.wrapping_add(4), usize::MAX][[0, 0, 0, 1, 1, 2, 3, 4][numbers.below(8) as usize]];
        let inside = CODE_ADDRESS + numbers.below(CODE_BYTES);
        let first = [inside, inside, inside, 0, u64::MAX - 3, CODE_ADDRESS + CODE_BYTES - 1][numbers.below(6) as usize];
        let length = [numbers.below(200), numbers.below(CODE_BYTES), 0, u64::MAX, u64::MAX - first, 1 << 40][numbers.below(6) as usize];
        let instructions: Vec<u8> = match numbers.below(3) {
            0 => steps(numbers.below(60) as usize),
            1 => (0..numbers.below(60)).map(|_| numbers.next() as u8).collect(),
            // Advances that go round the address space, and states that are restored and never were remembered.
            _ => vec![0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x0b, 0x0a, 0x0a, 0x0b, 0x04, 0xff, 0xff, 0xff, 0xff],
        };
        let mut entry = if numbers.below(6) == 0 {
            cie([&b""[..], b"zR", b"zPLR", b"eh", b"zzzz"][numbers.below(5) as usize], &instructions)
        } else {
            fde(at, cie_at, first, length, &instructions)
        };
        if numbers.below(10) == 0 {
            let lie = [0, 1, u32::MAX, u32::MAX - 1, numbers.next() as u32][numbers.below(5) as usize];
            entry[..4].copy_from_slice(&lie.to_le_bytes());
        }
        places.push(at);
        section.extend(entry);
    }
    if numbers.below(5) == 0 {
        section.truncate(numbers.below(section.len() as u64) as usize);
    }
    section
}

/// Each function executes its common entry's instructions anew: 20,000 times a megabyte.
#[test]
fn a_common_entry_is_not_executed_for_ever() {
    let mut section = cie(b"", &vec![0; 1 << 20]);
    for function in 0..20_000 {
        section.extend(fde(section.len(), 0, CODE_ADDRESS + function * 3, 3, b""));
    }
    bounded::file(&eh_frame(&section), Machine::X86_64);
}

/// Functions take turns in two common entries, each with a text of megabytes that must be read to its end.
#[test]
fn a_common_entry_is_not_read_for_ever() {
    let text = vec![b'a'; 4 << 20];
    let (first, second) = (cie(&text, b""), cie(&text, b""));
    let seconds_at = first.len();
    let mut section = [first, second].concat();
    for function in 0..50_000 {
        section.extend(fde(section.len(), if function % 2 == 0 { 0 } else { seconds_at }, CODE_ADDRESS + function, 1, b""));
    }
    bounded::file(&eh_frame(&section), Machine::X86_64);
}

/// One entry of 200 MB that does nothing, as a file with holes has it for nothing.
#[test]
fn a_function_that_says_nothing_at_length_is_left_alone() {
    let mut section = cie(b"", b"");
    section.extend(fde(section.len(), 0, CODE_ADDRESS, 100, &vec![0; 200 << 20]));
    bounded::file(&eh_frame(&section), Machine::X86_64);
}

#[test]
fn a_section_that_claims_more_than_the_file_has_is_refused() {
    let mut section = cie(b"", b"");
    section.extend(fde(section.len(), 0, CODE_ADDRESS, 100, &steps(10)));
    for size in [section.len() as u64 + 4096, 2 << 30, u64::MAX / 2, u64::MAX] {
        let claims = Section { size, ..Section::new(".eh_frame", &section) };
        assert_eq!(bounded::file(&elf(&[claims], Machine::X86_64), Machine::X86_64).unwrap_or(0), 0);
    }
}

/// What grows a thousandfold when it is inflated, and what claims to be small and is not.
#[test]
fn a_compressed_table_does_not_burst() -> Result<()> {
    let large = vec![0_u8; 512 << 20];
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&large)?;
    let packed = packed.finish()?;
    for claimed in [large.len() as u64, 4096, u64::MAX, 0] {
        let mut section = [1_u32, 0].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        section.extend([claimed, 8].iter().flat_map(|word| word.to_le_bytes()));
        section.extend(&packed);
        for name in [".debug_frame", ".eh_frame"] {
            let compressed = Section { flags: COMPRESSED, ..Section::new(name, &section) };
            ensure!(bounded::file(&elf(&[compressed], Machine::X86_64), Machine::X86_64).unwrap_or(0) == 0, "rows out of nothing");
        }
    }
    Ok(())
}

#[test]
fn any_memory_and_any_rules_end() -> Result<()> {
    let (mut numbers, mut deep, mut endings) = (Numbers(11), 0, std::collections::BTreeSet::new());
    for round in 0..40_000 {
        let machine = if round % 2 == 0 { Machine::X86_64 } else { Machine::Arm64 };
        let mut words: Vec<u64> = (0..4 + numbers.below(60)).map(|_| numbers.next() << 13 ^ numbers.next()).collect();
        // Mostly rules that there are, and memory that points into itself.
        let base = words[3] & !7;
        words[3] = base;
        words[0] = base + 8 * numbers.below(100);
        let rules = 4 + (words.len() - 4) / 2;
        words[4..rules].iter_mut().for_each(|rule| *rule = *rule & !0xffff_fff0_0000_00ff | numbers.below(14));
        words[rules..].iter_mut().for_each(|word| *word = base + *word % (1 << 12));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (frames, ended) = bounded::any_walk(&bytes, machine);
        deep = deep.max(frames);
        endings.insert(ended);
    }
    ensure!(deep > 20 && endings.len() >= 4, "at most {deep} frames, endings {endings:?}");
    Ok(())
}
