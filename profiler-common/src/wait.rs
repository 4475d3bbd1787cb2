//! Waits: what is kept of a thread that is not running, of a word of memory at which threads wait, and how waits are counted.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the programs of the scheduler count: time off the CPU.
pub const WAITS_OFF_CPU: u32 = 1;
/// Waits for other threads, by who waits.
pub const WAITS_BLOCK: u32 = 2;
/// The same, by who ends them.
pub const WAITS_MUTEX: u32 = 4;
/// Stacks are taken when a thread leaves its CPU, for there is no place to take them when it is back (before Linux 6.14).
pub const WAITS_AT_LEAVING: u32 = 8;

/// The class of a wait, where those of one stack are told apart: it slept.
pub const CLASS_BLOCKED: u64 = 1;
/// It waited for a CPU.
pub const CLASS_RUNNABLE: u64 = 2;
/// It was running.
pub const CLASS_RUNNING: u64 = 3;
/// A lock, by the values at its word.
pub const CLASS_LOCK: u64 = 4;
/// What waits there only the functions' names tell.
pub const CLASS_UNSURE: u64 = 5;

/// Bits of a class that say what a wait is; those above them say who ended it, if that is kept.
pub const CLASS_BITS: u32 = 4;

/// The bits of a class that stand for a waker, by the hash of its stack; 0 for none.
#[inline(always)]
pub const fn waker_bits(stack_hash: u64) -> u64 {
    stack_hash >> 20 << CLASS_BITS
}

/// A thread and when it last left its CPU. Written by the thread itself as it leaves and comes back; `woken_ns` and `is_released` by who wakes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sleep {
    /// Its `task_struct`: an id may be another's meanwhile.
    pub task: u64,
    /// When it left, on `CLOCK_MONOTONIC`.
    pub left_ns: u64,
    /// When it was woken; 0: not yet.
    pub woken_ns: u64,
    /// The word of memory that it waits at; 0: none.
    pub word: u64,
    /// The same of the wait before, if that was not ended by another thread: then this one is its continuation.
    pub unreleased: u64,
    /// The hash of the stack that woke it; 0: none, or it is not kept.
    pub waker: u64,
    /// Its process.
    pub tgid: u32,
    /// How often it has left.
    pub leaves: u32,
    /// How often it has come back.
    pub returns: u32,
    /// 1: it did not sleep, it was preempted.
    pub is_runnable: u32,
    /// 1: another thread has ended the wait at the word.
    pub is_released: u32,
    /// One of the `CLASS_*` of locks.
    pub class: u32,
}

/// A word of memory at which threads wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LockKey {
    /// Its address.
    pub word: u64,
    /// The process of the thread that waits.
    pub tgid: u64,
}

/// How long threads have waited at a word, all together, in two sums that are added to one by one: at the time t it is `begun + waiting * t`, for each wait
/// subtracts its beginning from `begun`, and adds its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Lock {
    /// Threads that wait.
    pub waiting: u64,
    /// Ends less beginnings, wrapping.
    pub begun: u64,
    /// What was charged to those that released it.
    pub charged: u64,
}

impl Lock {
    /// How long threads have waited until then, as far as the two sums fit together; they are not read at one moment.
    #[inline(always)]
    pub fn waited(waiting: u64, begun: u64, now_ns: u64) -> Option<u64> {
        let waited = begun.wrapping_add(waiting.wrapping_mul(now_ns));
        // A wait that is in one sum alone makes it wrong by the time since boot, up or down.
        if waited >> 62 == 0 && waited <= LONGEST_NS { Some(waited) } else { None }
    }
}

/// More than threads wait at a word in a recording: a thousand of them for a day.
const LONGEST_NS: u64 = 86_400_000_000_000 * 1_000;

/// What was counted of waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DelayCounts {
    /// How many were taken.
    pub events: u64,
    /// How many waits those stand for, in units of 2^-16.
    pub events_for: u64,
    /// How many nanoseconds.
    pub ns_for: u64,
    /// Waits for a CPU, which are told apart where time off the CPU is counted; as above.
    pub runnable_for: u64,
    /// Their nanoseconds.
    pub runnable_ns_for: u64,
}
