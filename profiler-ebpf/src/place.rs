//! Where a program builds and walks its stack, and how it counts: by itself on its CPU, or among others that can preempt it.

use crate::maps::{COUNTERS_CELLS, CachedRule, KNOWN, Known, KnownIndex, PROBE_PLACES, RULE_CACHE, SCRATCH, Scratch, WALK, Walk};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use core::arch::asm;
use profiler_common::counter::{COUNTERS, Counter, loss_cell};
use profiler_common::limits::{KNOWN_SLOTS, PROBE_CACHE_SLOTS, PROBE_KNOWN_SLOTS, PROBE_PLACES_PER_CPU, RULE_CACHE_SLOTS};
use profiler_common::loss::Loss;
use profiler_common::source::Source;

/// A place. It crosses `bpf_loop` as a number.
pub trait Place: Copy {
    /// Rules that its cache remembers.
    const CACHE_SLOTS: usize;
    /// Stacks that it remembers.
    const STACKS: usize;

    /// As a number.
    fn number(self) -> u64;

    /// The place of that number.
    fn numbered(number: u64) -> Self;

    /// Where the stack is built.
    fn scratch(self) -> Option<*mut Scratch>;

    /// Where it is walked.
    fn walk(self) -> Option<*mut Walk>;

    /// Its cache of rules: `CACHE_SLOTS` of them.
    fn cache(self) -> Option<*mut CachedRule>;

    /// The stacks that it remembers: `STACKS` of them.
    fn known(self) -> Option<*mut Known>;

    /// Where each of them is.
    fn known_index(self) -> Option<*mut KnownIndex>;

    /// Adds to a cell of a source's counters.
    fn add_cell(source: Source, cell: u32, more: u64);

    /// Adds to a counter.
    #[inline(always)]
    fn add(source: Source, counter: Counter, more: u64) {
        Self::add_cell(source, counter as u32, more);
    }

    /// Counts one lost event.
    #[inline(always)]
    fn lose(source: Source, loss: Loss) {
        Self::add_cell(source, loss_cell(loss), 1);
    }

    /// The place that `bpf_loop` passes on: a pointer to its number.
    ///
    /// # Safety
    /// The pointer is to a number that lives.
    #[inline(always)]
    unsafe fn passed(context: *mut c_void) -> Self {
        // SAFETY: as promised.
        Self::numbered(unsafe { *context.cast::<u64>() })
    }
}

/// The place of programs that nothing can interrupt on their CPU but an NMI, and which then do not run again (`bpf_prog_active`).
#[derive(Clone, Copy)]
pub struct OfCpu;

impl Place for OfCpu {
    const CACHE_SLOTS: usize = RULE_CACHE_SLOTS;
    const STACKS: usize = KNOWN_SLOTS;

    #[inline(always)]
    fn number(self) -> u64 {
        0
    }

    #[inline(always)]
    fn numbered(_number: u64) -> Self {
        Self
    }

    #[inline(always)]
    fn scratch(self) -> Option<*mut Scratch> {
        SCRATCH.get_ptr_mut(0)
    }

    #[inline(always)]
    fn walk(self) -> Option<*mut Walk> {
        WALK.get_ptr_mut(0)
    }

    #[inline(always)]
    fn cache(self) -> Option<*mut CachedRule> {
        Some(RULE_CACHE.get_ptr_mut(0)?.cast())
    }

    #[inline(always)]
    fn known(self) -> Option<*mut Known> {
        let known = KNOWN.get_ptr_mut(0)?;
        // SAFETY: a live map value.
        Some(unsafe { (&raw mut (*known).stacks).cast() })
    }

    #[inline(always)]
    fn known_index(self) -> Option<*mut KnownIndex> {
        let known = KNOWN.get_ptr_mut(0)?;
        // SAFETY: a live map value.
        Some(unsafe { &raw mut (*known).index })
    }

    #[inline(always)]
    fn add_cell(source: Source, cell: u32, more: u64) {
        if let Some(cells) = COUNTERS_CELLS.get_ptr_mut(u32::from(source.number())) {
            if cell < COUNTERS {
                // SAFETY: the cell is within the array, and only this CPU writes it.
                unsafe { (*cells)[cell as usize] += more };
            }
        }
    }
}

/// A claimed place of a probe's program.
#[derive(Clone, Copy)]
pub struct OfProbe(u32);

impl OfProbe {
    /// Claims one of this CPU's places; to be given back by [`Self::leave`].
    #[inline(always)]
    pub fn claim() -> Option<Self> {
        // SAFETY: no arguments, no preconditions.
        let first = unsafe { bpf_get_smp_processor_id() }.wrapping_mul(PROBE_PLACES_PER_CPU);
        for turn in 0..PROBE_PLACES_PER_CPU {
            let at = first.wrapping_add(turn);
            let Some(place) = PROBE_PLACES.get_ptr_mut(at) else { break };
            // SAFETY: a live map value; the word is only written by atomic operations.
            if unsafe { swap(&raw mut (*place).is_claimed, 1) } == 0 {
                return Some(Self(at));
            }
        }
        None
    }

    /// Gives the place back.
    #[inline(always)]
    pub fn leave(self) {
        if let Some(place) = PROBE_PLACES.get_ptr_mut(self.0) {
            // SAFETY: as in `claim`.
            unsafe { swap(&raw mut (*place).is_claimed, 0) };
        }
    }
}

impl Place for OfProbe {
    const CACHE_SLOTS: usize = PROBE_CACHE_SLOTS;
    const STACKS: usize = PROBE_KNOWN_SLOTS;

    #[inline(always)]
    fn number(self) -> u64 {
        u64::from(self.0)
    }

    #[inline(always)]
    fn numbered(number: u64) -> Self {
        Self(number as u32)
    }

    #[inline(always)]
    fn scratch(self) -> Option<*mut Scratch> {
        let place = PROBE_PLACES.get_ptr_mut(self.0)?;
        // SAFETY: a live map value.
        Some(unsafe { &raw mut (*place).scratch })
    }

    #[inline(always)]
    fn walk(self) -> Option<*mut Walk> {
        let place = PROBE_PLACES.get_ptr_mut(self.0)?;
        // SAFETY: a live map value.
        Some(unsafe { &raw mut (*place).walk })
    }

    #[inline(always)]
    fn cache(self) -> Option<*mut CachedRule> {
        let place = PROBE_PLACES.get_ptr_mut(self.0)?;
        // SAFETY: a live map value.
        Some(unsafe { (&raw mut (*place).cache).cast() })
    }

    #[inline(always)]
    fn known(self) -> Option<*mut Known> {
        let place = PROBE_PLACES.get_ptr_mut(self.0)?;
        // SAFETY: a live map value.
        Some(unsafe { (&raw mut (*place).known).cast() })
    }

    #[inline(always)]
    fn known_index(self) -> Option<*mut KnownIndex> {
        let place = PROBE_PLACES.get_ptr_mut(self.0)?;
        // SAFETY: a live map value.
        Some(unsafe { &raw mut (*place).known_index })
    }

    #[inline(always)]
    fn add_cell(source: Source, cell: u32, more: u64) {
        if let Some(cells) = COUNTERS_CELLS.get_ptr_mut(u32::from(source.number())) {
            if cell < COUNTERS {
                // SAFETY: the cell is within the array; programs that preempt each other add to it atomically.
                unsafe { add_atomically((&raw mut (*cells)[cell as usize]).cast(), more) };
            }
        }
    }
}

/// Puts a word into memory and gives the one that was there, as one step. (`core` has no atomics for this target.)
///
/// # Safety
/// A word of a live map value.
#[inline(always)]
pub unsafe fn swap(at: *mut u64, word: u64) -> u64 {
    let mut held = word;
    // SAFETY: as promised; the instruction of Linux 5.12 touches nothing else.
    unsafe { asm!("{0} = xchg_64({1} + 0, {0})", inout(reg) held, in(reg) at, options(nostack, preserves_flags)) };
    held
}

/// Puts a word into memory if another one is there, and gives the one that was, as one step.
///
/// # Safety
/// A word of a live map value.
#[inline(always)]
pub unsafe fn compare_and_swap(at: *mut u64, expected: u64, word: u64) -> u64 {
    let mut held = expected;
    // SAFETY: as in `swap`; the instruction compares with register 0, and leaves there what it has met.
    unsafe { asm!("r0 = cmpxchg_64({0} + 0, r0, {1})", in(reg) at, in(reg) word, inout("r0") held, options(nostack, preserves_flags)) };
    held
}

/// Adds to a word of memory and gives what was there, as one step.
///
/// # Safety
/// A word of a live map value.
#[inline(always)]
pub unsafe fn fetch_add(at: *mut u64, more: u64) -> u64 {
    let mut held = more;
    // SAFETY: as in `swap`.
    unsafe { asm!("{0} = atomic_fetch_add((u64 *)({1} + 0), {0})", inout(reg) held, in(reg) at, options(nostack, preserves_flags)) };
    held
}

/// Adds to a word of memory, as one step.
///
/// # Safety
/// A word of a live map value.
#[inline(always)]
pub unsafe fn add_atomically(at: *mut u64, more: u64) {
    // SAFETY: as promised.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) at, in(reg) more, options(nostack, preserves_flags)) };
}

/// Sets bits of a word of memory, as one step.
///
/// # Safety
/// A word of a live map value.
#[inline(always)]
pub unsafe fn set_atomically(at: *mut u64, bits: u64) {
    // SAFETY: as promised.
    unsafe { asm!("lock *(u64 *)({0} + 0) |= {1}", in(reg) at, in(reg) bits, options(nostack, preserves_flags)) };
}
