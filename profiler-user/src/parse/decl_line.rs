//! Where functions are declared, and the names that only a shared debug file has: what blazesym does not tell of DWARF.
//!
//! Kept of a file are numbers and a few names, nothing that points into its bytes; a unit is read when the first address in it is asked for. The time and
//! the memory that one file may cost here are bounded: beyond them it has no start lines, and nothing else is lost.

pub use super::decl_reference::Declared;
use super::decl_reference::{Headers, References};
use super::dwarf::{Inflated, Slice};
use gimli::{DebugInfoOffset, Dwarf, Unit};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long one batch of addresses may take.
const BATCH_TIME: Duration = Duration::from_secs(3);

/// Most ranges of functions, inlined ones among them, that are kept of a file.
const RANGES_MAX: usize = 1 << 20;

/// What is known of one file.
#[derive(Debug, Default)]
pub struct Declarations {
    main: Inflated,
    shared: Inflated,
    headers: Headers,
    /// Ranges of code and the unit that describes them, by their begin.
    units: Vec<Range>,
    tables: HashMap<usize, Table>,
    ranges: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Unread,
    Read,
    GivenUp,
}

/// A range of addresses; what `of` means depends on where it stands.
#[derive(Clone, Copy, Debug)]
struct Range {
    begin: u64,
    end: u64,
    of: usize,
}

/// The functions of one unit.
#[derive(Debug, Default)]
struct Table {
    /// By their begin; `of` is an index into `functions`.
    ranges: Vec<Range>,
    functions: Vec<Function>,
}

#[derive(Debug, Default)]
struct Function {
    declared: Declared,
    inlined: Vec<Inlined>,
}

#[derive(Debug)]
struct Inlined {
    /// 0 for one that is inlined into the function itself.
    depth: usize,
    ranges: Vec<(u64, u64)>,
    declared: Declared,
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
        dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
        if self.state == State::Unread {
            self.headers = Headers::read(&dwarf);
            self.units = unit_ranges(&dwarf, until)?;
            self.state = State::Read;
        }
        let mut references = References::new(&dwarf, &self.headers);
        for (address, found) in addresses.iter().zip(found) {
            let Some(unit) = covering(&self.units, *address) else { continue };
            if !self.tables.contains_key(&unit) {
                let table = match Table::read(&mut references, unit, RANGES_MAX.saturating_sub(self.ranges), until) {
                    Ok(table) => table,
                    Err(Stop::Malformed) => Table::default(),
                    Err(Stop::TooMuch) => return None,
                };
                self.ranges += table.size();
                self.tables.insert(unit, table);
            }
            if Instant::now() > until {
                return None;
            }
            *found = self.tables[&unit].chain(*address);
        }
        Some(())
    }
}

/// The value of the range that covers the address: of overlapping ones the last that begins before it.
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

impl Table {
    fn read(references: &mut References<'_, '_>, unit: usize, most: usize, until: Instant) -> Result<Self, Stop> {
        let dwarf = references.dwarf();
        let unit = dwarf.unit(dwarf.unit_header(DebugInfoOffset(unit))?)?;
        let mut table = Self::default();
        let mut size = 0;
        // Depths in the tree of the inlined functions around the entry that is being read, and of the function.
        let (mut nesting, mut function_depth) = (Vec::new(), None);
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            if Instant::now() > until || size > most {
                return Err(Stop::TooMuch);
            }
            let depth = entry.depth();
            while nesting.last().is_some_and(|outer| *outer >= depth) {
                nesting.pop();
            }
            if !matches!(entry.tag(), gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine) {
                continue;
            }
            let ranges = ranges_of(dwarf, &unit, entry, most - size)?;
            size += ranges.len();
            if entry.tag() == gimli::DW_TAG_subprogram {
                function_depth = (!ranges.is_empty()).then_some(depth);
                nesting.clear();
                if function_depth.is_some() {
                    table.ranges.extend(ranges.iter().map(|(begin, end)| Range { begin: *begin, end: *end, of: table.functions.len() }));
                    let declared = references.declared(&unit, entry.offset());
                    table.functions.push(Function { declared, inlined: Vec::new() });
                }
            } else if function_depth.is_some_and(|function| depth > function)
                && let Some(function) = table.functions.last_mut()
            {
                let declared = references.declared(&unit, entry.offset());
                function.inlined.push(Inlined { depth: nesting.len(), ranges, declared });
                nesting.push(depth);
            }
        }
        table.ranges.sort_unstable_by_key(|range| range.begin);
        Ok(table)
    }

    fn size(&self) -> usize {
        self.ranges.len() + self.functions.iter().map(|function| function.inlined.len()).sum::<usize>()
    }

    fn chain(&self, address: u64) -> Vec<Declared> {
        let Some(function) = covering(&self.ranges, address).and_then(|of| self.functions.get(of)) else { return Vec::new() };
        let mut chain = vec![function.declared.clone()];
        for inlined in &function.inlined {
            if inlined.depth + 1 == chain.len() && inlined.ranges.iter().any(|(begin, end)| (*begin..*end).contains(&address)) {
                chain.push(inlined.declared.clone());
            }
        }
        chain
    }
}

type Entry<'a> = gimli::DebuggingInformationEntry<Slice<'a>>;

fn ranges_of<'a>(dwarf: &Dwarf<Slice<'a>>, unit: &Unit<Slice<'a>>, entry: &Entry<'a>, most: usize) -> Result<Vec<(u64, u64)>, Stop> {
    let mut all = Vec::new();
    let mut ranges = dwarf.die_ranges(unit, entry)?;
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
