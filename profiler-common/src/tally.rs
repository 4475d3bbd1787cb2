//! What is counted in maps of the kernel: blocks by stack and size class, and the blocks that live.

use crate::limits::SITE_OWN_MAX;
use crate::sampling::bytes_for;
use crate::source::Source;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What events have in common that are counted together. 16 bytes: it is looked up at every one, and a BPF program's stack has 512.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TallyKey {
    /// The stack's hash, which covers the process image and a seed of the run.
    pub stack_hash: u64,
    /// What tells events of one stack apart in the lower 48 bits; above them the number of the source.
    class_and_source: u64,
}

/// Where the number of the source begins.
const SOURCE_SHIFT: u32 = 48;

impl TallyKey {
    /// Of a source, a stack and a class.
    #[inline(always)]
    pub const fn new(source: Source, stack_hash: u64, class: u64) -> Self {
        let class = class & ((1 << SOURCE_SHIFT) - 1);
        Self { stack_hash, class_and_source: (source.number() as u64) << SOURCE_SHIFT | class }
    }

    /// What tells events of one stack apart: bytes of the size class of a block, the type of a descriptor, what a wait is.
    #[inline(always)]
    pub const fn class(&self) -> u64 {
        self.class_and_source & ((1 << SOURCE_SHIFT) - 1)
    }

    /// The number of the [`Source`] that counts.
    #[inline(always)]
    pub const fn source(&self) -> u16 {
        (self.class_and_source >> SOURCE_SHIFT) as u16
    }
}

/// Blocks that were sampled, and what they stand for: that is of [`crate::sampling::Weight`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Blocks {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The blocks that they stand for, in units of 2^-16.
    pub stand_for: u64,
    /// The bytes that they stand for, in units of 2^-8.
    pub stand_for_bytes: u64,
}

impl Blocks {
    fn each(&self, other: &Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            count: of(self.count, other.count),
            bytes: of(self.bytes, other.bytes),
            stand_for: of(self.stand_for, other.stand_for),
            stand_for_bytes: of(self.stand_for_bytes, other.stand_for_bytes),
        }
    }

    /// Both together. What was taken away more often than it was added goes round 2^64, and comes back.
    pub fn plus(&self, other: &Self) -> Self {
        self.each(other, u64::wrapping_add)
    }

    /// Without those.
    pub fn less(&self, other: &Self) -> Self {
        self.each(other, u64::wrapping_sub)
    }

    /// Without those, and nothing where those are more, as estimates may be.
    pub fn beyond(&self, other: &Self) -> Self {
        self.each(other, |mine, theirs| u64::try_from(mine.wrapping_sub(theirs) as i64).unwrap_or(0))
    }

    /// Of each number the lesser one.
    pub fn at_most(&self, other: &Self) -> Self {
        self.each(other, u64::min)
    }

    /// So many times, as a power of two.
    #[inline(always)]
    pub const fn doubled(&self, times: u32) -> Self {
        Self {
            count: self.count << times,
            bytes: self.bytes << times,
            stand_for: self.stand_for << times,
            stand_for_bytes: self.stand_for_bytes << times,
        }
    }
}

/// What was counted of blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TallyCounts {
    /// Those that were allocated.
    pub allocated: Blocks,
    /// Those of them that were freed since. Where not all that live are followed, those that are stand for others: what is not in use is an estimate then,
    /// and may for a while be less than nothing.
    pub freed: Blocks,
    /// Those of `freed` that lived no longer than was asked for.
    pub temporary: Blocks,
}

impl TallyCounts {
    /// What was allocated and not freed.
    pub fn in_use(&self) -> Blocks {
        self.allocated.beyond(&self.freed)
    }

    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            allocated: self.allocated.plus(&other.allocated),
            freed: self.freed.plus(&other.freed),
            temporary: self.temporary.plus(&other.temporary),
        }
    }

    /// What was counted since an earlier moment.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            allocated: self.allocated.less(&before.allocated),
            freed: self.freed.less(&before.freed),
            temporary: self.temporary.less(&before.temporary),
        }
    }
}

/// Which block: its address in a process image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LiveKey {
    /// Its address.
    pub block: u64,
    /// Its process (high half), and a hash of the image.
    pub process: u64,
}

impl LiveKey {
    /// The process.
    pub const fn tgid(&self) -> u32 {
        (self.process >> 32) as u32
    }
}

/// A sampled block that lives, and is followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LiveBlock {
    /// Where it is counted.
    pub tally: TallyKey,
    /// Its size.
    pub bytes: u64,
    /// The blocks that it stands for, in units of 2^-16.
    pub stands_for: u64,
    /// When it was allocated, in units of 2^18 ns (262 us) of `CLOCK_MONOTONIC`; it goes round in 13 days.
    pub since: u32,
    /// A random number of its own, by which it is followed or not when not all are ([`crate::sampling::is_followed`]); in its lowest 5 bits the level.
    pub ticket_and_level: u32,
}

/// Bits of a level, and those of a unit of time.
const LEVEL_BITS: u32 = 5;
const SINCE_SHIFT: u32 = 18;

impl LiveBlock {
    /// Begins to be followed now, if it is one of those: with a random number, and the level of now.
    #[inline(always)]
    pub fn begin(&mut self, random: u32, level: u32, now_ns: u64) {
        self.since = (now_ns >> SINCE_SHIFT) as u32;
        self.ticket_and_level = random >> LEVEL_BITS << LEVEL_BITS;
        self.set_level(level);
    }

    /// It stands for 2 to the power of this many sampled blocks: the others are not followed.
    #[inline(always)]
    pub const fn level(&self) -> u32 {
        self.ticket_and_level & ((1 << LEVEL_BITS) - 1)
    }

    /// Has it stand for so many; at most [`crate::sampling::LEVEL_MAX`].
    #[inline(always)]
    pub fn set_level(&mut self, level: u32) {
        self.ticket_and_level = self.ticket_and_level >> LEVEL_BITS << LEVEL_BITS | level;
    }

    /// Its random number.
    #[inline(always)]
    pub const fn ticket(&self) -> u32 {
        self.ticket_and_level >> LEVEL_BITS << LEVEL_BITS
    }

    /// For how long it has lived, ns, to 262 us; none before it began.
    #[inline(always)]
    pub const fn lived_ns(&self, now_ns: u64) -> u64 {
        let units = ((now_ns >> SINCE_SHIFT) as u32).wrapping_sub(self.since);
        if units > u32::MAX / 2 { 0 } else { (units as u64) << SINCE_SHIFT }
    }

    /// It alone.
    #[inline(always)]
    pub const fn alone(&self) -> Blocks {
        Blocks { count: 1, bytes: self.bytes, stand_for: self.stands_for, stand_for_bytes: bytes_for(self.bytes, self.stands_for) }
    }

    /// With those that it stands for because they are not followed.
    #[inline(always)]
    pub const fn with_others(&self) -> Blocks {
        self.alone().doubled(self.level())
    }
}

/// What is done where more blocks live than there is room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Thinning {
    /// 1: a program makes room.
    pub is_busy: u64,
    /// One block in 2^`level` is followed.
    pub level: u64,
}

/// A call that was sampled, until it returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PendingCall {
    /// The block that it makes.
    pub new: LiveBlock,
    /// The block that it gives back: that of a `realloc`.
    pub old: LiveBlock,
    /// Address of that block.
    pub old_block: u64,
    /// Where `posix_memalign` writes the address; 0: it is returned.
    pub result_at: u64,
    /// 1: `new` is to be counted.
    pub is_sampled: u32,
    /// 1: `old` was taken from the blocks that live.
    pub has_old: u32,
}

/// Which call, until it returns: a thread, and its stack pointer at the entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PendingKey {
    /// Process (high half) and thread.
    pub thread: u64,
    /// Where its return address is.
    pub return_at: u64,
}

/// A place where a probe is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Site {
    /// One of the `CALL_*`.
    pub call: u32,
    /// How far below its value at the entry the stack pointer is, bytes.
    pub pushed: u32,
    /// 1: it jumps on to another probed function with a null pointer, or with a small alignment.
    pub forwards: u32,
    /// Zero.
    pub reserved: u32,
    /// The allocator's own code, relative to the place of the probe: first byte and behind the last. A call that comes from there is a part of another.
    pub own: [[i64; 2]; SITE_OWN_MAX],
}

/// The programs of probes return at once: the recording has not begun, or it is over.
pub const COUNTING_NOTHING: u32 = 0;
/// They count.
pub const COUNTING_ALL: u32 = 1;
/// They return at once, but ask for the return of each call: what the traps alone cost, for benchmarks.
pub const COUNTING_RETURNS: u32 = 2;

/// `malloc(size)`.
pub const CALL_MALLOC: u32 = 0;
/// `calloc(count, size)`.
pub const CALL_CALLOC: u32 = 1;
/// `realloc(old, size)`.
pub const CALL_REALLOC: u32 = 2;
/// `memalign(alignment, size)`.
pub const CALL_MEMALIGN: u32 = 3;
/// `operator new(size, alignment)`.
pub const CALL_ALIGNED_NEW: u32 = 4;
/// `posix_memalign(&block, alignment, size)`.
pub const CALL_POSIX_MEMALIGN: u32 = 5;
/// `free(block)`.
pub const CALL_FREE: u32 = 6;

/// Alignment that every block has: `2 * sizeof(size_t)` (malloc(3)).
pub const ALIGNMENT_OF_ALL: u64 = 16;

/// The number that a probe's program is told at each hit (`bpf_get_attach_cookie`): which site it is, and what decides before the site is looked at.
pub mod cookie {
    const CALL_SHIFT: u32 = 32;
    const FORWARDS: u64 = 1 << 40;
    const STEPPED: u64 = 1 << 41;

    /// Of a site: its number, what is called there, and whether that jumps on.
    pub const fn of(site: u32, call: u32, forwards: bool) -> u64 {
        site as u64 | ((call & 0xff) as u64) << CALL_SHIFT | if forwards { FORWARDS } else { 0 }
    }

    /// The same, where the probe stands on an instruction that the kernel executes step by step.
    pub const fn stepped(cookie: u64) -> u64 {
        cookie | STEPPED
    }

    /// Whether it does.
    #[inline(always)]
    pub const fn is_stepped(cookie: u64) -> bool {
        cookie & STEPPED != 0
    }

    /// The number of the site.
    #[inline(always)]
    pub const fn site(cookie: u64) -> u32 {
        cookie as u32
    }

    /// What is called: one of the `CALL_*`.
    #[inline(always)]
    pub const fn call(cookie: u64) -> u32 {
        (cookie >> CALL_SHIFT) as u32 & 0xff
    }

    /// Whether it may jump on.
    #[inline(always)]
    pub const fn forwards(cookie: u64) -> bool {
        cookie & FORWARDS != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Blocks, LiveBlock, TallyCounts, TallyKey};

    #[test]
    fn what_is_followed_stands_for_what_is_not() {
        let mut block = LiveBlock { bytes: 100, stands_for: 3 << 16, ..LiveBlock::default() };
        block.begin(0x1234_5678, 3, 10_000_000);
        assert_eq!((block.level(), block.ticket()), (3, 0x1234_5660));
        assert!(block.lived_ns(20_000_000).abs_diff(10_000_000) < 1 << 18 && block.lived_ns(9_000_000) == 0);
        assert_eq!(block.alone(), Blocks { count: 1, bytes: 100, stand_for: 3 << 16, stand_for_bytes: 300 << 8 });
        assert_eq!(block.with_others(), Blocks { count: 8, bytes: 800, stand_for: 24 << 16, stand_for_bytes: 2400 << 8 });
        // One of eight was followed, and the seven others were counted as freed.
        let eight = block.with_others();
        let seven = eight.less(&block.alone());
        let counts = TallyCounts { allocated: eight, freed: seven.less(&seven), ..TallyCounts::default() };
        assert_eq!(counts.in_use(), eight);
        assert_eq!(TallyKey::default().class(), 0);
    }

    #[test]
    fn more_that_was_freed_than_allocated_is_nothing_in_use() {
        let (one, two) = (Blocks { count: 1, bytes: 9, ..Blocks::default() }, Blocks { count: 2, bytes: 4, ..Blocks::default() });
        let counts = TallyCounts { allocated: one, freed: two, ..TallyCounts::default() };
        assert_eq!(counts.in_use(), Blocks { count: 0, bytes: 5, ..Blocks::default() });
        // Less than nothing was freed where what is followed stands for more.
        let counts = TallyCounts { allocated: one, freed: one.less(&two), ..TallyCounts::default() };
        assert_eq!(counts.in_use().count, 2);
        assert_eq!(counts.since(&counts).plus(&counts), counts);
    }
}
