//! Stacks at the stages of their journey: as they were captured, and as they are kept.

use super::address::FileAddress;
use super::event::MonotonicNs;
use super::mapping::MappingId;
use super::process::{ProcessKey, Tid};
use profiler_common::ended::Ended;
use profiler_common::limits::USER_FRAMES_MAX;
use profiler_common::source::Source;
use profiler_common::tally::TallyKey;
use profiler_common::unwind::Registers;
use profiler_common::unwind::leaf::LeafRegisters;
use std::sync::Arc;

/// Counted events of one key; a single sample is a tally of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tally<T> {
    /// What the events have in common.
    pub of: T,
    /// How many events.
    pub events: u64,
    /// Their sum in the unit of the kind.
    pub weight: u64,
    /// What made them.
    pub source: Source,
    /// What tells them from others of the same source, where they are counted here.
    pub class: u64,
    /// The key under which the kernel counts the events, of which there are then none here; None: they are these.
    pub counted_under: Option<TallyKey>,
}

/// A stack as it crossed the border: runtime addresses, valid for its process at its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawStack {
    /// Whose.
    pub process: ProcessKey,
    /// Which thread.
    pub tid: Tid,
    /// When.
    pub time: MonotonicNs,
    /// The addresses; shared between all samples of the same hash.
    pub addresses: Arc<RawAddresses>,
}

/// The addresses of a stack, leaf first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawAddresses {
    /// The hash under which the kernel side names it; 0 for a stack that was finished since.
    pub hash: u64,
    /// The kernel part: an instruction pointer, then return addresses. Empty when user code was interrupted.
    pub kernel: Vec<u64>,
    /// The list of ranges that the kernel side walked the user part with; 0: none.
    pub list: u32,
    /// The user part.
    pub user: UserStack,
}

/// The user part of a stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UserStack {
    /// Walked in the kernel, or finished since.
    Walked {
        /// An instruction pointer, then return addresses.
        addresses: Vec<u64>,
        /// How the walk ended.
        ended: Ended,
    },
    /// Not walked for want of a table: what user space needs to finish it.
    Unfinished {
        /// The frames until there, as above.
        addresses: Vec<u64>,
        /// Those of the last of them.
        registers: Registers,
        /// What its instruction pointer is.
        at: LastAddress,
        /// Other registers, if the last of them is the leaf and they are known.
        leaf: Option<LeafRegisters>,
        /// The thread's stack, word by word, from `registers.sp` (rounded down to a word) on.
        words: Vec<u64>,
        /// Other memory of the thread, for who can read more of it; None: these words are all that there is.
        beyond: Option<Beyond>,
        /// How it is walked.
        manner: Manner,
    },
}

/// What was read of a thread's memory while its stack is walked: it may lead to other memory than it began in (from a thread's stack to that of a goroutine, from
/// that of a signal handler to what was interrupted).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Beyond {
    /// What was read so far; a walk that has stopped has its own words here, too, as the first.
    pub stretches: Vec<Stretch>,
    /// The address of the word that the walk has stopped for; None: it has not begun.
    pub wanted: Option<u64>,
}

/// A piece of a thread's memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// Where it begins: at a word.
    pub address: u64,
    /// Word by word.
    pub words: Vec<u64>,
}

/// The word at an address, if it is one of those that lie from another address on.
pub fn word_at(from: u64, words: &[u64], at: u64) -> Option<u64> {
    let distance = at.wrapping_sub(from);
    if !distance.is_multiple_of(8) {
        return None; // No compiler keeps a word there.
    }
    words.get(usize::try_from(distance / 8).ok()?).copied()
}

/// What is particular about the walk of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manner {
    /// Most frames.
    pub frames_max: usize,
    /// The first address and the one behind the last of the function that stands above code that was interrupted by a fault: Go's signal handler makes it look called.
    pub faults: (u64, u64),
    /// Those of the function by which C calls back into Go, and how many bytes above the stack pointer its caller's frame ends, if the stack of the goroutine
    /// alone is walked: there it has a frame that leads past the C code, to what has called that.
    pub callbacks: (u64, u64, u32),
}

impl Default for Manner {
    fn default() -> Self {
        Self { frames_max: USER_FRAMES_MAX, faults: (0, 0), callbacks: (0, 0, 0) }
    }
}

/// What the address of a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastAddress {
    /// Code was interrupted there.
    Interrupted,
    /// A call returns to it.
    ReturnedTo,
}

/// One frame: a mapping and where in it. The address is already the one to look up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Frame {
    /// Where the code is from.
    pub mapping: MappingId,
    /// The file offset; for a mapping without a file the runtime address; for the kernel the address without its KASLR slide.
    pub address: FileAddress,
}

/// An interned stack: an index into [`super::window::StackTable`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StackId(pub u32);
