//! From an address to the rule that holds there: the cache, else the process's list and the file's table in the arena.

use crate::maps::{CHUNKS, CachedRule, PROCESS_RANGES, Ranges};
use crate::place::Place;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_map_lookup_elem;
use profiler_common::limits::ARENA_CHUNK_WORDS;
use profiler_common::process::ProcessKey;
use profiler_common::unwind::range::{self, ProcessRanges, RANGE_FRAME_POINTER, RANGE_GO, RANGE_RETURN_PROBE, RANGE_TABLE, RangeEntry};
use profiler_common::unwind::rule::Rule;
use profiler_common::unwind::table::Head;

const CHUNK_SHIFT: u32 = ARENA_CHUNK_WORDS.trailing_zeros();
const CHUNK_MASK: u64 = ARENA_CHUNK_WORDS as u64 - 1;

/// Takes the list of a process image, if there is one.
#[inline(always)]
pub fn take_list(ranges: &mut Ranges, process: &ProcessKey) {
    ranges.list = 0;
    let Some(entry) = PROCESS_RANGES.get_ptr_mut(process.tgid) else { return };
    // SAFETY: a live map value; user space replaces it as a whole.
    let mut held: ProcessRanges = unsafe { core::ptr::read_volatile(entry) };
    if held.start_boot_ns == 0 {
        // Written before the image was known: from now on it is this one's.
        (held.start_boot_ns, held.exec_generation) = (process.start_boot_ns, process.exec_generation);
        // SAFETY: as above; all that write here write the same, or are told apart by what they read next.
        unsafe {
            (&raw mut (*entry).exec_generation).write_volatile(held.exec_generation);
            (&raw mut (*entry).start_boot_ns).write_volatile(held.start_boot_ns);
        }
    }
    if held.start_boot_ns == process.start_boot_ns && held.exec_generation == process.exec_generation {
        (ranges.list, ranges.at, ranges.entries) = (held.list, u64::from(held.at), u64::from(held.entries));
    }
}

/// The rule for an address; None if user space must be asked.
#[inline(always)]
pub fn rule<P: Place>(place: P, ranges: &mut Ranges, address: u64) -> Option<Rule> {
    if ranges.list == 0 {
        return None;
    }
    let cache = place.cache()?;
    let slot = (address.wrapping_mul(super::MIX) >> (64 - P::CACHE_SLOTS.trailing_zeros())) as usize & (P::CACHE_SLOTS - 1);
    // SAFETY: the slot is masked to the cache's bounds; the cache is this program's own.
    let cached = unsafe { &mut *cache.add(slot) };
    if cached.address == address && cached.list == ranges.list {
        return Some(Rule(cached.rule));
    }
    let rule = search(ranges, address)?;
    *cached = CachedRule { address, list: ranges.list, rule: rule.0 };
    Some(rule)
}

#[inline(always)]
fn search(ranges: &mut Ranges, address: u64) -> Option<Rule> {
    // The range at hand may be another sample's; it holds as long as the list does.
    if ranges.list_at_hand != ranges.list || address.wrapping_sub(ranges.start) >= ranges.length {
        find(ranges, address)?;
    }
    if ranges.kind == u64::from(RANGE_TABLE) {
        let place = address.wrapping_sub(ranges.start).wrapping_add(ranges.place);
        let word = part(ranges.part)?;
        return Some(ranges.head.find(word, place, hide));
    }
    if ranges.kind == u64::from(RANGE_FRAME_POINTER) {
        return Some(Rule::FRAME_POINTER);
    }
    if ranges.kind == u64::from(RANGE_GO) {
        return Some(Rule::GO_FRAME_POINTER);
    }
    if ranges.kind == u64::from(RANGE_RETURN_PROBE) {
        return Some(Rule::RETURN_PROBE);
    }
    None
}

/// Makes the range of an address the one at hand.
#[inline(always)]
fn find(ranges: &mut Ranges, address: u64) -> Option<()> {
    ranges.list_at_hand = 0;
    let chunk = chunk(ranges.at)?.cast::<u64>();
    let (first, entries) = (ranges.at >> 1, ranges.entries);
    // SAFETY: the index is masked to the chunk's words.
    let word = |at: u64| unsafe { *chunk.add((first.wrapping_add(at) & (CHUNK_MASK >> 1)) as usize) };
    let found = range::find(|entry| word(entry.wrapping_mul(2)), entries, address, hide)?;
    let entry = RangeEntry { start_and_kind: word(found.wrapping_mul(2)), table: word(found.wrapping_mul(2).wrapping_add(1)) };
    let next = found.wrapping_add(1);
    ranges.start = entry.start();
    ranges.length = if next < entries {
        RangeEntry { start_and_kind: word(next.wrapping_mul(2)), table: 0 }.start().wrapping_sub(entry.start())
    } else {
        u64::MAX
    };
    ranges.kind = u64::from(entry.kind());
    ranges.part = u64::from(entry.part());
    ranges.place = entry.table >> 32;
    if ranges.kind == u64::from(RANGE_TABLE) {
        ranges.head = Head::of(part(ranges.part)?);
    }
    ranges.list_at_hand = ranges.list;
    Some(())
}

/// The words of a part.
#[inline(always)]
fn part(at: u64) -> Option<impl Fn(u64) -> u32> {
    let chunk = chunk(at)?.cast::<u32>();
    // SAFETY: the index is masked to the chunk's words.
    Some(move |word: u64| unsafe { *chunk.add((at.wrapping_add(word) & CHUNK_MASK) as usize) })
}

/// The chunk that holds a place of the arena.
#[inline(always)]
fn chunk(at: u64) -> Option<*const c_void> {
    let (number, first) = ((at >> CHUNK_SHIFT) as u32, 0u32);
    // SAFETY: the map is an array of maps by the time that the program is loaded; the verifier checks both look-ups.
    unsafe {
        let inner = bpf_map_lookup_elem((&raw const CHUNKS).cast_mut().cast(), (&raw const number).cast());
        if inner.is_null() {
            return None;
        }
        let words = bpf_map_lookup_elem(inner, (&raw const first).cast());
        if words.is_null() { None } else { Some(words.cast_const()) }
    }
}

/// Gives back its argument, unseen by LLVM; see `profiler_common::unwind::quarters`.
#[inline(always)]
pub fn hide(mut value: u64) -> u64 {
    // An instruction there must be: two lines of source at one place are refused as debug information.
    // SAFETY: it moves a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack, preserves_flags)) };
    value
}
