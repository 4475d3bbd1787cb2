//! Where a Go program's runtime keeps its memory profile: the places of its variables, by their symbols, or in a stripped program by the functions that use them
//! (Go's table of functions survives stripping). Seen in the runtime and the linker of 1.21.13, 1.22.10, 1.23.9, 1.24.11, 1.25.5, 1.26.8 and 1.27.3:
//!
//! - `runtime.stkbucket` takes the address of `mbuckets` to put a bucket in front; `mProf_FlushLocked` and what reads the profile walk from it.
//! - `mProf_Malloc`, `mProf_Free` and `mProf_Flush` read `mProfCycle`, 4 bytes.
//! - `mProf_Flush` and what reads the profile take the address of `profMemActiveLock`, and of the locks that `mProf_Malloc` and `mProf_Free` take.
//! - `schedinit` sets `MemProfileRate`, which begins as 512 KiB, to zero if `disableMemoryProfiling` is set.
//! - The linker sets `disableMemoryProfiling` when the function that reads the profile is not in the program: `MemProfile`, since 1.23 `memProfileInternal`.
//!
//! A place is believed only if it lies in data of its kind and no second one fits; whether a list begins there, the process has to show.

use super::elf;
use super::go_operands::{Functions, Use};
use super::go_table;
use super::pclntab::GoTable;
use crate::model::go_heap::{GoHeapPlaces, GoRecord, NoGoHeap, VERSION_MAX_BYTES, Variable};
use object::{Architecture, Object, ObjectSection, ObjectSymbol, SectionKind};
use std::collections::HashMap;

/// What `MemProfileRate` is when a program starts.
const RATE: u64 = 512 << 10;
/// The first bytes of `.go.buildinfo`, where the text of the version may stand, and the flag that says that it does (`debug/buildinfo`, since 1.18).
const BUILD_INFO: &[u8] = b"\xff Go buildinf:";
const BUILD_INFO_FLAGS: usize = 15;
const BUILD_INFO_INLINE: u8 = 2;
const BUILD_INFO_TEXT: usize = 32;
/// Symbols that are looked at.
const SYMBOLS_MAX: usize = 4_000_000;

/// The functions that tell.
const STKBUCKET: &str = "runtime.stkbucket";
const FLUSH_LOCKED: &str = "runtime.mProf_FlushLocked";
const READ_PROFILE: [&str; 2] = ["runtime.memProfileInternal", "runtime.MemProfile"];
const USE_CYCLE: [&str; 3] = ["runtime.mProf_Malloc", "runtime.mProf_Free", "runtime.mProf_Flush"];
const SCHEDINIT: &str = "runtime.schedinit";
const FUNCTIONS: &[&str] =
    &[STKBUCKET, FLUSH_LOCKED, READ_PROFILE[0], READ_PROFILE[1], USE_CYCLE[0], USE_CYCLE[1], USE_CYCLE[2], SCHEDINIT];

/// The variables, by the linker's names.
const BUCKETS: &str = "runtime.mbuckets";
const CYCLE: &str = "runtime.mProfCycle";
const MEM_PROFILE_RATE: &str = "runtime.MemProfileRate";
const LOCK: &str = "runtime.profMemActiveLock";
const VARIABLES: [&str; 4] = [BUCKETS, CYCLE, LOCK, MEM_PROFILE_RATE];

/// Whether the file's symbols are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Symbols {
    /// Where there are any.
    Used,
    /// As if the file were stripped.
    Ignored,
}

/// Finds the places.
///
/// # Errors
/// There are none in this file, or they are not known.
pub fn places(bytes: &[u8], symbols: Symbols) -> Result<GoHeapPlaces, NoGoHeap> {
    let file = object::File::parse(bytes).map_err(|_| NoGoHeap::NotGo)?;
    let version = version(&file).ok_or(NoGoHeap::NotGo)?;
    let record = record(&version).ok_or(NoGoHeap::UnknownVersion(version))?;
    let table = go_table::find(bytes).ok_or(NoGoHeap::NotFound(Variable::Functions))?;
    let functions = Functions::find(&table, bytes, &elf::segments(&file), FUNCTIONS);
    if !READ_PROFILE.iter().any(|name| functions.has(name)) {
        return Err(NoGoHeap::LeftOut);
    }
    let data = Data { file: &file };
    let named = if symbols == Symbols::Used { named(&file, &VARIABLES) } else { HashMap::new() };
    let place = |name: &str, decoded: &dyn Fn() -> Option<u64>, variable| {
        named.get(name).copied().or_else(decoded).ok_or(NoGoHeap::NotFound(variable))
    };
    let decodes = file.architecture() == Architecture::X86_64;
    Ok(GoHeapPlaces {
        buckets: place(BUCKETS, &|| decodes.then(|| buckets(&functions, &data))?, Variable::Buckets)?,
        cycle: place(CYCLE, &|| decodes.then(|| cycle(&functions, &data))?, Variable::Cycle)?,
        lock: place(LOCK, &|| decodes.then(|| lock(&functions, &data))?, Variable::Lock)?,
        rate: place(MEM_PROFILE_RATE, &|| decodes.then(|| rate(&functions, &data))?, Variable::Rate)?,
        record,
        text: text(&table, bytes).ok_or(NoGoHeap::NotFound(Variable::Functions))?,
    })
}

/// The text of the version, from where `go version` has it.
pub(super) fn version(file: &object::File<'_>) -> Option<String> {
    let data = file.section_by_name(".go.buildinfo")?.data().ok()?;
    let inline = data.starts_with(BUILD_INFO) && data.get(BUILD_INFO_FLAGS)? & BUILD_INFO_INLINE != 0;
    let length = usize::from(*data.get(BUILD_INFO_TEXT)?);
    let text = data.get(BUILD_INFO_TEXT + 1..)?.get(..length)?;
    let text = &text[..length.min(VERSION_MAX_BYTES)];
    inline.then(|| String::from_utf8_lossy(text).into_owned())
}

/// The second number of a version.
pub(super) fn minor(version: &str) -> Option<u32> {
    let (_, rest) = version.split_once("go1.")?;
    rest[..rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// How a version's records look; none of one that is not known. A development version has its number too: `devel go1.27-...`.
fn record(version: &str) -> Option<GoRecord> {
    match minor(version)? {
        21..=26 => Some(GoRecord::ObjectsAndBytes),
        27 => Some(GoRecord::Objects),
        _ => None,
    }
}

/// The variables that have symbols.
pub(super) fn named(file: &object::File<'_>, variables: &[&'static str]) -> HashMap<&'static str, u64> {
    let variable = |symbol: object::Symbol<'_, '_>| {
        let name = symbol.name().ok()?;
        Some((*variables.iter().find(|variable| **variable == name)?, symbol.address()))
    };
    file.symbols().take(SYMBOLS_MAX).filter_map(variable).collect()
}

pub(super) fn text(table: &GoTable, bytes: &[u8]) -> Option<(u64, u64)> {
    let (first, end) = (table.function(bytes, 0)?.entry, table.end(bytes)?);
    (first < end).then_some((first, end))
}

/// The file's sections of data.
pub(super) struct Data<'a> {
    pub(super) file: &'a object::File<'a>,
}

impl Data<'_> {
    /// Whether a variable that begins as zero may lie at an address.
    pub(super) fn is_zero(&self, address: u64, alignment: u64) -> bool {
        let holds = |section: object::Section<'_, '_>| {
            let inside = address.checked_sub(section.address()).is_some_and(|inside| inside < section.size());
            section.kind() == SectionKind::UninitializedData && inside
        };
        address.is_multiple_of(alignment) && self.file.sections().any(holds)
    }

    /// Whether the word at an address begins as this number.
    fn begins_as(&self, address: u64, number: u64) -> bool {
        let word = |section: object::Section<'_, '_>| section.data_range(address, 8).ok().flatten().map(<[u8]>::to_vec);
        let sections = self.file.sections().filter(|section| section.kind() == SectionKind::Data);
        address.is_multiple_of(8) && sections.filter_map(word).any(|word| word == number.to_le_bytes())
    }
}

/// The one address that is left, if it is one.
pub(super) fn only(mut addresses: Vec<u64>) -> Option<u64> {
    addresses.sort_unstable();
    addresses.dedup();
    if let [one] = addresses[..] { Some(one) } else { None }
}

fn buckets(functions: &Functions<'_>, data: &Data<'_>) -> Option<u64> {
    let taken: Vec<u64> = having(functions, STKBUCKET, Use::Address);
    let walked = [FLUSH_LOCKED, READ_PROFILE[0], READ_PROFILE[1]].into_iter().flat_map(|name| having(functions, name, Use::Load(8)));
    only(walked.filter(|address| taken.contains(address) && data.is_zero(*address, 8)).collect())
}

fn cycle(functions: &Functions<'_>, data: &Data<'_>) -> Option<u64> {
    let [first, rest @ ..] = USE_CYCLE.map(|name| having(functions, name, Use::Load(4)));
    let shared = first.into_iter().filter(|address| rest.iter().all(|other| other.contains(address)));
    only(shared.filter(|address| data.is_zero(*address, 4)).collect())
}

/// The lock of what is published, which counting does not take.
fn lock(functions: &Functions<'_>, data: &Data<'_>) -> Option<u64> {
    let [malloc, free, flush] = USE_CYCLE.map(|name| having(functions, name, Use::Address));
    let read = READ_PROFILE.into_iter().flat_map(|name| having(functions, name, Use::Address));
    let locks = read.filter(|address| flush.contains(address) && !malloc.contains(address) && !free.contains(address));
    only(locks.filter(|address| data.is_zero(*address, 8)).collect())
}

/// What is set to zero just behind a look at one byte.
fn rate(functions: &Functions<'_>, data: &Data<'_>) -> Option<u64> {
    let uses = functions.uses(SCHEDINIT);
    let set = uses.windows(2).filter(|pair| pair[0].1 == Use::IsZero(1) && pair[1].1 == Use::SetZero(8)).map(|pair| pair[1].0);
    only(set.filter(|address| data.begins_as(*address, RATE)).collect())
}

/// What a function uses in one way.
pub(super) fn having(functions: &Functions<'_>, name: &str, how: Use) -> Vec<u64> {
    functions.uses(name).into_iter().filter(|(_, used)| *used == how).map(|(address, _)| address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_say_how_records_look() {
        for version in ["go1.21.13", "go1.26", "go1.26.8 X:nodwarf5", "devel go1.25-a1b2c3 Mon"] {
            assert_eq!(record(version), Some(GoRecord::ObjectsAndBytes), "{version}");
        }
        assert_eq!(record("go1.27rc1"), Some(GoRecord::Objects));
        for version in ["go1.20.14", "go1.28", "go2.1", "", "go1.", "unknown"] {
            assert_eq!(record(version), None, "{version}");
        }
    }

    #[test]
    fn this_program_is_none_of_gos() {
        assert_eq!(places(&std::fs::read("/proc/self/exe").unwrap(), Symbols::Used), Err(NoGoHeap::NotGo));
        assert_eq!(places(b"\x7fELF", Symbols::Used), Err(NoGoHeap::NotGo));
    }

    #[test]
    fn two_places_that_fit_are_none() {
        assert_eq!(only(vec![8, 8]), Some(8));
        assert_eq!(only(vec![8, 16]), None);
        assert_eq!(only(vec![]), None);
    }
}
