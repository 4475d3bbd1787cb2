//! Where a Go program's runtime keeps its goroutines: `runtime.allgs`, by its symbol, or in a stripped program by the function that appends to it. In 1.21.13 to
//! 1.27.3 `runtime.allgadd` uses all three words of the slice, and no other three words that lie side by side.

use super::elf;
use super::go_heap::{self, Symbols};
use super::go_operands::Functions;
use super::go_table;
use crate::model::go_heap::{NoGoHeap, Variable};
use crate::model::goroutines::{GoroutinePlaces, Goroutines};
use object::{Architecture, Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind};
use std::collections::BTreeSet;

/// The function that appends.
const ALLGADD: &str = "runtime.allgadd";
/// What a fault becomes.
const SIGPANIC: &str = "runtime.sigpanic";
/// What C enters Go by. It leaves a frame of its own size on the goroutine's stack, below what has called C.
const CGOCALLBACK: &str = "runtime.cgocallback";
/// The slice.
const ALLGS: &str = "runtime.allgs";
/// Symbols that are looked at.
const SYMBOLS_MAX: usize = 4_000_000;
/// Steps of a function's stack size that are looked at: that one has two.
const STEPS_MAX: usize = 64;
/// Versions whose goroutines are known.
const MINORS: std::ops::RangeInclusive<u32> = 21..=27;

/// Finds the place.
///
/// # Errors
/// There is none in this file, or it is not known.
pub fn places(bytes: &[u8], symbols: Symbols) -> Goroutines {
    let file = object::File::parse(bytes).map_err(|_| NoGoHeap::NotGo)?;
    let version = go_heap::version(&file).ok_or(NoGoHeap::NotGo)?;
    let minor = go_heap::minor(&version).filter(|minor| MINORS.contains(minor)).ok_or(NoGoHeap::UnknownVersion(version))?;
    let table = go_table::find(bytes).ok_or(NoGoHeap::NotFound(Variable::Functions))?;
    let named = if symbols == Symbols::Used { named(&file) } else { None };
    let decoded = || {
        let functions = Functions::find(&table, bytes, &elf::segments(&file), &[ALLGADD]);
        let used = functions.uses(ALLGADD).into_iter().map(|(address, _)| address);
        (file.architecture() == Architecture::X86_64).then(|| slice(&used.collect(), &|address| is_zero(&file, address)))?
    };
    let all = named.or_else(decoded).ok_or(NoGoHeap::NotFound(Variable::Goroutines))?;
    let text = go_heap::text(&table, bytes).ok_or(NoGoHeap::NotFound(Variable::Functions))?;
    // Of those that have an id of their own.
    let known = |name: &str| {
        let mut known = table.functions(bytes).filter(|(function, _)| table.id(bytes, *function) != 0);
        known.find(|(function, _)| table.name(bytes, *function) == name)
    };
    let faults = known(SIGPANIC).map_or((0, 0), |(function, end)| (function.entry, end));
    let callbacks = known(CGOCALLBACK).filter(|_| file.architecture() == Architecture::X86_64).and_then(|(function, end)| {
        let size = table.stack_sizes(bytes, function).take(STEPS_MAX).map(|(_, size)| size).max()?;
        Some((function.entry, end, u32::try_from(size).ok()?.checked_add(8)?))
    });
    Ok(GoroutinePlaces { all, minor, text, faults, callbacks: callbacks.unwrap_or_default() })
}

fn named(file: &object::File<'_>) -> Option<u64> {
    file.symbols().take(SYMBOLS_MAX).find(|symbol| symbol.name() == Ok(ALLGS)).map(|symbol| symbol.address())
}

/// The one slice among what is used: three words side by side.
fn slice(used: &BTreeSet<u64>, is_zero: &dyn Fn(u64) -> bool) -> Option<u64> {
    let mut slices = used.iter().copied().filter(|first| [8, 16].iter().all(|behind| used.contains(&first.wrapping_add(*behind))));
    let mut slices = slices.by_ref().filter(|first| first.is_multiple_of(8) && is_zero(*first));
    let first = slices.next();
    // Two that fit are none.
    if slices.next().is_some() { None } else { first }
}

/// Whether a variable that begins as zero may lie at an address.
fn is_zero(file: &object::File<'_>, address: u64) -> bool {
    file.sections().any(|section| {
        section.kind() == SectionKind::UninitializedData
            && address.checked_sub(section.address()).is_some_and(|inside| inside < section.size())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_words_side_by_side_are_the_slice_and_two_such_are_none() {
        let of = |used: &[u64]| slice(&used.iter().copied().collect(), &|_| true);
        assert_eq!(of(&[8, 64, 72, 80, 200]), Some(64));
        assert_eq!(of(&[64, 72, 80, 88]), None);
        assert_eq!(of(&[64, 72]), None);
        assert_eq!(slice(&[64, 72, 80].into_iter().collect(), &|_| false), None);
    }

    #[test]
    fn this_program_is_none_of_gos() {
        assert_eq!(places(&std::fs::read("/proc/self/exe").unwrap(), Symbols::Used), Err(NoGoHeap::NotGo));
    }
}
