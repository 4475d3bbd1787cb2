//! Finds an allocator's functions in an ELF file, by their symbols, and where probes of them are cheap, by their code.
//!
//! Two functions of one call are never both kept: one that only jumps on to another is left out (a thunk), as is an operator of C++ that calls `malloc`; one
//! that jumps on sometimes says so (`forwards`). Where one of them calls another, the caller is `own` code. What the code of some allocators shows:
//!
//! - glibc 2.36: `realloc(NULL)` jumps to `malloc`, and so does `memalign`, through a local function, for alignments up to 16. `valloc` and `pvalloc` go through
//!   the same local function with whole pages and never come to `malloc`. `posix_memalign` calls it.
//! - musl 1.2.3: `malloc`, `realloc`, `free` begin with a jump to their code; `memalign` and `valloc` jump on to `aligned_alloc`; `calloc` calls `malloc`.
//! - jemalloc 5.3: `operator delete` and `new[]` jump on to `free` and `new`; `operator new(size, alignment)` calls `aligned_alloc`.
//! - tcmalloc 2.10: all names of one thing are one address; `valloc` and `pvalloc` end by a jump to `memalign`.
//! - mimalloc 2.0: `aligned_alloc`, `memalign`, `valloc` and `pvalloc` end by a jump to `mi_malloc_aligned`.

use super::allocator_marks::marks;
use super::allocator_names::{call_of, family, is_free, is_malloc, is_operator, is_prefixed, is_related, is_valloc};
use super::elf::ParseError;
use super::linkage::Linkage;
use super::machine::Machine;
use super::machine_code::MachineCode;
use super::probe_place::places;
use super::tail_jumps::{Ends, Subject, ends};
use crate::model::allocator::{
    ALIASES_MAX, Allocator, AllocatorCall, AllocatorFunction, FUNCTIONS_MAX, GivenFunction, OWN_MAX, ProbePlace,
};
use object::{Object, ObjectSymbol, SymbolFlags, SymbolIndex};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Symbols of one table that are looked at.
const SYMBOLS_MAX: usize = 1 << 22;
/// The longest name that is looked at, bytes.
const NAME_MAX_BYTES: usize = 64;
/// Functions that are an allocator's by name, and stretches of own code before they are merged.
const CANDIDATES_MAX: usize = 512;
/// Functions between those of an allocator that are looked at.
const STRANGERS_MAX: usize = 1 << 16;
/// Own code has holes: local functions whose names are not there.
const HOLE_MAX_BYTES: u64 = 8 << 10;
/// The longest function that is believed, bytes.
const FUNCTION_MAX_BYTES: u64 = 1 << 20;

/// A function's symbol.
struct Named<'a> {
    name: &'a str,
    address: u64,
    size: u64,
    is_local: bool,
}

/// A function that may be probed.
struct Candidate<'a> {
    name: &'a str,
    call: AllocatorCall,
    size: u64,
    /// Its place among those that are given, and not known by their names.
    given: Option<u32>,
}

type Candidates<'a> = BTreeMap<u64, Candidate<'a>>;

/// What a file has of an allocator; of most files that is nothing. `given`: functions that are an allocator's whatever their names are.
///
/// # Errors
/// The bytes are no ELF file.
pub fn allocator(bytes: &[u8], given: &[GivenFunction]) -> Result<Allocator, ParseError> {
    let file = object::File::parse(bytes).map_err(|error| ParseError::Elf(error.to_string()))?;
    if file.format() != object::BinaryFormat::Elf || !file.is_64() {
        return Ok(Allocator::default());
    }
    let (candidates, entries) = candidates(&file, given);
    let code = MachineCode::new(&file, bytes);
    let mut found = Allocator::default();
    let (mut strangers, mut callers) = (Vec::new(), Vec::new());
    if candidates.is_empty() {
        found.marks = marks(&file, bytes, imports_malloc(&file));
        return Ok(found);
    }
    let is_there = |at: &u32| given.get(*at as usize).is_some_and(|function| entries.contains_key(function.name.as_str()));
    found.given = (0..given.len() as u32).filter(is_there).collect();
    let linkage = Linkage::find(bytes);
    let resolve = |target: u64| match candidates.contains_key(&target) {
        true => Some(target),
        false => linkage.name(bytes, target).and_then(|name| entries.get(name.as_str()).copied()),
    };
    for (&entry, candidate) in &candidates {
        let Some(offset) = code.offset(entry) else { continue };
        let is_x86 = Machine::of(file.architecture()) == Some(Machine::X86_64);
        let subject = Subject { entry, end: entry.saturating_add(candidate.size), is_free: candidate.call == AllocatorCall::Free };
        let ends = if is_x86 { ends(&code, subject, &resolve) } else { Ends::default() };
        if is_operator(candidate.name) && ends.calls {
            strangers.push(entry);
        } else if !is_left_out(candidate, &ends) && found.functions.len() < FUNCTIONS_MAX {
            let (at_entry, after_entry) = if is_x86 { places(&code, entry, offset, candidate.call) } else { unemulated(offset) };
            callers.extend(ends.calls.then_some(offset));
            let (name, forwards) = (candidate.name.to_owned(), forwards(candidate.call, &ends, &candidates));
            found.functions.push(AllocatorFunction {
                aliases: aliases(&entries, entry, &name),
                name,
                call: candidate.call,
                entry: offset,
                at_entry,
                after_entry,
                forwards,
                given: candidate.given,
            });
        }
    }
    // Segments may overlap in a hostile file.
    found.functions.sort_by_key(|function| function.entry);
    found.functions.dedup_by_key(|function| function.entry);
    let mut own = own(&file, &code, &candidates, strangers);
    // The most needed first: those from which functions call others, then those with the most functions.
    let inside = |own: &(u64, u64), offset: u64| (own.0..own.1).contains(&offset);
    own.sort_by_cached_key(|own| {
        let calling = callers.iter().filter(|caller| inside(own, **caller)).count();
        let probed = found.functions.iter().filter(|function| inside(own, function.entry)).count();
        Reverse((calling, probed, own.1 - own.0))
    });
    own.truncate(OWN_MAX);
    own.sort_unstable();
    found.own = own;
    Ok(found)
}

/// The other names of a function, the shortest first.
fn aliases(entries: &HashMap<&str, u64>, entry: u64, name: &str) -> Vec<String> {
    let mut found: Vec<&str> = entries.iter().filter(|(other, at)| **at == entry && **other != name).map(|(other, _)| *other).collect();
    found.sort_unstable_by_key(|other| (other.len(), *other));
    found.into_iter().take(ALIASES_MAX).map(str::to_owned).collect()
}

fn unemulated(offset: u64) -> (ProbePlace, ProbePlace) {
    let place = ProbePlace { offset, pushed: 0, is_emulated: false };
    (place, place)
}

/// Another function counts its calls.
fn is_left_out(candidate: &Candidate<'_>, ends: &Ends) -> bool {
    let is_thunk = !ends.jumps.is_empty() && !ends.has_others;
    let ends_in_one = candidate.call == AllocatorCall::Free && !is_free(candidate.name) || is_valloc(candidate.name);
    is_thunk || ends_in_one && ends.jumps_itself
}

/// Whether it jumps on to one that allocates anew, where that is a part of its meaning.
fn forwards(call: AllocatorCall, ends: &Ends, candidates: &Candidates<'_>) -> bool {
    let to_malloc = || ends.jumps.iter().any(|to| candidates.get(to).is_some_and(|to| to.call == AllocatorCall::Malloc));
    matches!(call, AllocatorCall::Realloc | AllocatorCall::Memalign) && to_malloc()
}

/// Functions that are the file's own and have a code: those of both tables.
fn functions<'a>(file: &'a object::File<'a>) -> impl Iterator<Item = Named<'a>> {
    file.dynamic_symbols().take(SYMBOLS_MAX).chain(file.symbols().take(SYMBOLS_MAX)).filter_map(|symbol| named(&symbol))
}

fn named<'a>(symbol: &object::Symbol<'a, '_>) -> Option<Named<'a>> {
    let SymbolFlags::Elf { st_info, .. } = symbol.flags() else { return None };
    // Not those whose address a function finds out (`STT_GNU_IFUNC`).
    if st_info & 0xf != object::elf::STT_FUNC || symbol.is_undefined() || symbol.address() == 0 {
        return None;
    }
    let name = symbol.name_bytes().ok().filter(|name| !name.is_empty() && name.len() <= NAME_MAX_BYTES).unwrap_or(b"?");
    let name = std::str::from_utf8(name).unwrap_or("?");
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let size = symbol.size().min(FUNCTION_MAX_BYTES);
    Some(Named { name, address: symbol.address(), size, is_local: symbol.is_local() })
}

/// Whether `malloc` is another file's.
fn imports_malloc(file: &object::File<'_>) -> bool {
    let imported =
        |symbol: object::Symbol<'_, '_>| symbol.index() != SymbolIndex(0) && symbol.is_undefined() && symbol.name_bytes() == Ok(b"malloc");
    file.dynamic_symbols().take(SYMBOLS_MAX).any(imported)
}

/// The functions by their addresses, one for each, and the addresses by all of their names.
fn candidates<'a>(file: &'a object::File<'a>, given: &[GivenFunction]) -> (Candidates<'a>, HashMap<&'a str, u64>) {
    let imports_malloc = imports_malloc(file);
    let place_of = |name: &str| given.iter().position(|given| given.name == name);
    let by_name = |function: &Named<'_>| {
        call_of(function.name).filter(|_| !function.is_local || is_prefixed(function.name) || !imports_malloc).map(|call| (call, None))
    };
    let because_given = |function: &Named<'_>| place_of(function.name).map(|at| (given[at].call, Some(at as u32)));
    let possible: Vec<(Named<'_>, (AllocatorCall, Option<u32>))> = functions(file)
        .filter_map(|function| by_name(&function).or_else(|| because_given(&function)).map(|call| (function, call)))
        .take(CANDIDATES_MAX)
        .collect();
    let is_allocator = !imports_malloc || possible.iter().any(|(function, _)| is_malloc(function.name));
    let (mut found, mut entries) = (Candidates::new(), HashMap::new());
    for (function, (call, given)) in possible {
        if is_operator(function.name) && !is_allocator {
            continue;
        }
        entries.insert(function.name, function.address);
        let candidate = Candidate { name: function.name, call, size: function.size, given };
        let order = |name: &'a str| (name.len(), name);
        match found.get(&function.address) {
            Some(known) if order(known.name) <= order(candidate.name) => {}
            _ => {
                found.insert(function.address, candidate);
            }
        }
    }
    (found, entries)
}

/// Stretches of the allocator's code, in the file. A hole between two is filled unless there is a stranger in it, who may be a caller.
fn own(file: &object::File<'_>, code: &MachineCode<'_>, candidates: &Candidates<'_>, mut strangers: Vec<u64>) -> Vec<(u64, u64)> {
    let mut families: Vec<&str> =
        candidates.values().filter(|candidate| is_malloc(candidate.name)).map(|candidate| family(candidate.name)).collect();
    families.extend(functions(file).filter(|function| is_malloc(function.name)).map(|function| family(function.name)).take(CANDIDATES_MAX));
    let is_own = |function: &Named<'_>| match candidates.contains_key(&function.address) {
        true => !strangers.contains(&function.address),
        false => is_related(function.name, &families),
    };
    let mut stretches: Vec<(u64, u64)> = functions(file)
        .filter(|function| function.size > 0 && is_own(function))
        .take(CANDIDATES_MAX)
        .map(|function| (function.address, function.address.saturating_add(function.size)))
        .collect();
    stretches.sort_unstable();
    let (Some(first), Some(last)) = (stretches.first().map(|own| own.0), stretches.last().map(|own| own.1)) else { return Vec::new() };
    let others: Vec<u64> = functions(file)
        .filter(|function| (first..last).contains(&function.address) && !is_own(function))
        .map(|function| function.address)
        .take(STRANGERS_MAX)
        .collect();
    strangers.extend(others);
    // Another name of a function that is own makes no stranger of it.
    strangers.retain(|stranger| stretches.binary_search_by_key(stranger, |own| own.0).is_err());
    strangers.sort_unstable();
    let in_file = |(first, last): (u64, u64)| {
        let start = code.offset(first)?;
        Some((start, start.checked_add(code.at(first, last - first).len() as u64)?))
    };
    let mut in_file: Vec<(u64, u64)> = merged(&stretches, HOLE_MAX_BYTES, &strangers).into_iter().filter_map(in_file).collect();
    in_file.retain(|(first, end)| first < end);
    in_file.sort_unstable();
    // What overlaps, as segments of a hostile file may make it, becomes one.
    merged(&in_file, 0, &[])
}

/// Joins what overlaps or is near, but for what has a stranger between it.
fn merged(stretches: &[(u64, u64)], hole_max: u64, strangers: &[u64]) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for &(first, end) in stretches {
        match found.last_mut() {
            Some(last) if first <= last.1 => last.1 = last.1.max(end),
            Some(last) if first - last.1 <= hole_max && !has_between(strangers, last.1, first) => last.1 = end,
            _ => found.push((first, end)),
        }
    }
    found
}

fn has_between(sorted: &[u64], first: u64, end: u64) -> bool {
    sorted.get(sorted.partition_point(|at| *at < first)).is_some_and(|at| *at < end)
}

#[cfg(test)]
#[path = "allocator_tests.rs"]
mod tests;
