//! Where functions are declared, and the names that only a shared debug file has: what blazesym does not tell of DWARF.
//!
//! Kept of a file is where its units and functions lie, nothing that points into its bytes; the functions of a unit are listed when the first address in it
//! is asked for, and what is inlined into a function is read again each time: it is little, and keeping it all is much. The time and the memory that one
//! file may cost here are bounded: beyond them it has no start lines, and nothing else is lost.

pub use super::decl_reference::Declared;
use super::decl_reference::{Headers, References};
use super::dwarf::{Inflated, Slice};
use gimli::{DebugInfoOffset, DwTag, Dwarf, EntriesRaw, Unit, UnitOffset};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// How long one batch of addresses may take.
const BATCH_TIME: Duration = Duration::from_secs(3);

/// Most ranges of units and functions that are kept of a file, and most ranges inlined into one function.
const RANGES_MAX: usize = 1 << 20;

/// What is known of one file.
#[derive(Debug, Default)]
pub struct Declarations {
    main: Inflated,
    shared: Inflated,
    headers: Headers,
    /// Ranges of code, by their begin, and the offset of the unit that describes each.
    units: Vec<Range>,
    functions: Functions,
    state: State,
}

/// The functions of the units that were asked for.
#[derive(Debug, Default)]
struct Functions {
    /// By the offset of the unit: ranges of its functions, by their begin, and the offset in the unit of each function.
    by_unit: HashMap<usize, Vec<Range>>,
    /// How many ranges all these are.
    ranges: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Unread,
    Read,
    GivenUp,
}

/// A range of addresses, and the offset of what describes it.
#[derive(Clone, Copy, Debug)]
struct Range {
    begin: u64,
    end: u64,
    of: usize,
}

/// Why reading stops.
enum Stop {
    Malformed,
    TooMuch,
}

impl From<gimli::Error> for Stop {
    fn from(_: gimli::Error) -> Self {
        Self::Malformed
    }
}

/// An address that is asked for, and where its answer goes.
type Asked = (u64, usize);

impl Declarations {
    /// For each address the function around it and what is inlined there, outermost first; empty where nothing is known. `object` and `shared` are the
    /// same files in every call.
    pub fn look_up(&mut self, object: &[u8], shared: Option<&[u8]>, addresses: &[u64]) -> Vec<Vec<Declared>> {
        let mut found = vec![Vec::new(); addresses.len()];
        if self.state == State::GivenUp || self.fill(object, shared, addresses, &mut found).is_none() {
            self.state = State::GivenUp;
        }
        found
    }

    fn fill(&mut self, object: &[u8], shared: Option<&[u8]>, addresses: &[u64], found: &mut [Vec<Declared>]) -> Option<()> {
        let until = Instant::now() + BATCH_TIME;
        let file = object::File::parse(object).ok()?;
        let shared = shared.and_then(|bytes| object::File::parse(bytes).ok());
        if self.state == State::Unread {
            self.main = Inflated::read(&file)?;
            self.shared = shared.as_ref().and_then(Inflated::read).unwrap_or_default();
        }
        let mut dwarf = self.main.dwarf(&file);
        if let Some(shared) = &shared {
            dwarf.set_sup(self.shared.dwarf(shared));
        }
        if self.state == State::Unread {
            dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
            self.headers = Headers::read(&dwarf);
            self.units = unit_ranges(&dwarf, until)?;
            self.state = State::Read;
        }
        let mut by_unit: BTreeMap<usize, Vec<Asked>> = BTreeMap::new();
        for (at, address) in addresses.iter().enumerate() {
            if let Some(unit) = covering(&self.units, *address) {
                by_unit.entry(unit).or_default().push((*address, at));
            }
        }
        let mut batch = Batch { references: References::new(&dwarf, &self.headers), until, found };
        let read = |(unit, asked): (usize, Vec<Asked>)| !matches!(batch.fill_unit(&mut self.functions, unit, &asked), Err(Stop::TooMuch));
        by_unit.into_iter().all(read).then_some(())
    }
}

/// Addresses that are being looked up.
struct Batch<'b, 'd, 'a> {
    references: References<'d, 'a>,
    until: Instant,
    found: &'b mut [Vec<Declared>],
}

impl<'a> Batch<'_, '_, 'a> {
    fn fill_unit(&mut self, functions: &mut Functions, offset: usize, asked: &[Asked]) -> Result<(), Stop> {
        let dwarf = self.references.dwarf();
        let unit = dwarf.unit(dwarf.unit_header(DebugInfoOffset(offset))?)?;
        let functions = match functions.by_unit.entry(offset) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let found = self.functions(&unit, RANGES_MAX.saturating_sub(functions.ranges))?;
                functions.ranges += found.len();
                new.insert(found)
            }
        };
        let mut by_function: BTreeMap<usize, Vec<Asked>> = BTreeMap::new();
        for (address, at) in asked {
            if let Some(function) = covering(functions, *address) {
                by_function.entry(function).or_default().push((*address, *at));
            }
        }
        for (function, asked) in by_function {
            let declared = self.references.declared(&unit, UnitOffset(function));
            asked.iter().for_each(|(_, at)| self.found[*at].push(declared.clone()));
            self.fill_inlined(&unit, UnitOffset(function), &asked)?;
        }
        Ok(())
    }

    /// The functions of a unit.
    fn functions(&self, unit: &Unit<Slice<'a>>, most: usize) -> Result<Vec<Range>, Stop> {
        let mut all = Vec::new();
        let mut entries = unit.entries_raw(None)?;
        while let Some((offset, _)) = next_of(&mut entries, gimli::DW_TAG_subprogram, None, self.until)? {
            let ranges = ranges_of(self.references.dwarf(), unit, offset, most.saturating_sub(all.len()))?;
            all.extend(ranges.into_iter().map(|(begin, end)| Range { begin, end, of: offset.0 }));
        }
        all.sort_unstable_by_key(|range| range.begin);
        Ok(all)
    }

    /// Adds, from the outside in, what is inlined into a function at the asked addresses.
    fn fill_inlined(&mut self, unit: &Unit<Slice<'a>>, function: UnitOffset, asked: &[Asked]) -> Result<(), Stop> {
        let mut entries = unit.entries_raw(Some(function))?;
        // The function itself, at depth 0.
        if let Some(abbreviation) = entries.read_abbreviation()? {
            entries.skip_attributes(abbreviation.attributes())?;
        }
        // Depths in the tree of the inlined functions around the entry that is being read.
        let (mut around, mut ranges_left) = (Vec::new(), RANGES_MAX);
        while let Some((offset, depth)) = next_of(&mut entries, gimli::DW_TAG_inlined_subroutine, Some(0), self.until)? {
            while around.last().is_some_and(|outer| *outer >= depth) {
                around.pop();
            }
            let ranges = ranges_of(self.references.dwarf(), unit, offset, ranges_left)?;
            ranges_left -= ranges.len();
            let mut declared = None;
            for (address, at) in asked {
                // Only what is inside everything around it.
                if self.found[*at].len() == around.len() + 1 && ranges.iter().any(|(begin, end)| (*begin..*end).contains(address)) {
                    self.found[*at].push(declared.get_or_insert_with(|| self.references.declared(unit, offset)).clone());
                }
            }
            around.push(depth);
        }
        Ok(())
    }
}

/// What the range that covers the address belongs to: of overlapping ones the last that begins before it.
fn covering(ranges: &[Range], address: u64) -> Option<usize> {
    let before = ranges.partition_point(|range| range.begin <= address);
    let range = ranges[..before].last()?;
    (address < range.end).then_some(range.of)
}

/// All units with the code they describe. A unit that cannot be read is left out.
fn unit_ranges(dwarf: &Dwarf<Slice<'_>>, until: Instant) -> Option<Vec<Range>> {
    let mut all = Vec::new();
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        if Instant::now() > until || all.len() > RANGES_MAX {
            return None;
        }
        let Some(offset) = header.debug_info_offset() else { continue };
        let Ok(unit) = dwarf.unit(header) else { continue };
        let Ok(mut ranges) = dwarf.unit_ranges(&unit) else { continue };
        while let Ok(Some(range)) = ranges.next() {
            if all.len() > RANGES_MAX {
                return None;
            }
            if range.begin < range.end {
                all.push(Range { begin: range.begin, end: range.end, of: offset.0 });
            }
        }
    }
    all.sort_unstable_by_key(|range| range.begin);
    Some(all)
}

/// The next entry with this tag and with code, and its depth; none at the end, or where the depth falls back to `floor`.
fn next_of(
    entries: &mut EntriesRaw<'_, Slice<'_>>,
    tag: DwTag,
    floor: Option<isize>,
    until: Instant,
) -> Result<Option<(UnitOffset, isize)>, Stop> {
    let mut steps = 0_u32;
    while !entries.is_empty() {
        steps += 1;
        if steps.is_multiple_of(1024) && Instant::now() > until {
            return Err(Stop::TooMuch);
        }
        let (offset, depth) = (entries.next_offset(), entries.next_depth());
        if floor.is_some_and(|floor| depth <= floor) {
            return Ok(None);
        }
        let Some(abbreviation) = entries.read_abbreviation()? else { continue };
        entries.skip_attributes(abbreviation.attributes())?;
        let has_code =
            || abbreviation.attributes().iter().any(|attribute| matches!(attribute.name(), gimli::DW_AT_low_pc | gimli::DW_AT_ranges));
        if abbreviation.tag() == tag && has_code() {
            return if Instant::now() > until { Err(Stop::TooMuch) } else { Ok(Some((offset, depth))) };
        }
    }
    Ok(None)
}

fn ranges_of(dwarf: &Dwarf<Slice<'_>>, unit: &Unit<Slice<'_>>, offset: UnitOffset, most: usize) -> Result<Vec<(u64, u64)>, Stop> {
    let mut all = Vec::new();
    let mut ranges = dwarf.die_ranges(unit, &unit.entry(offset)?)?;
    while let Some(range) = ranges.next()? {
        if all.len() >= most {
            return Err(Stop::TooMuch);
        }
        if range.begin < range.end {
            all.push((range.begin, range.end));
        }
    }
    Ok(all)
}
