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

/// A bit beside those: the recording was over before the wait was. No program sets it.
pub const CLASS_ONGOING: u64 = 8;
/// The class of a thread that was there before the recording, where those are counted that are started.
pub const CLASS_EXISTING: u64 = 1;

/// Bits of a class that say what a wait is; those above them say who ended it, if that is kept.
pub const CLASS_BITS: u32 = 4;

/// What a class says of a wait, without who ended it and whether it is over.
#[inline(always)]
pub const fn plain_class(class: u64) -> u64 {
    class & (CLASS_ONGOING - 1)
}

/// A thread off its CPU wants one: it was preempted, or has been woken.
pub const STATE_RUNNABLE: u16 = 1;
/// It sleeps, and signals wake it (`TASK_INTERRUPTIBLE` of include/linux/sched.h; S of ps).
pub const STATE_INTERRUPTIBLE: u16 = 2;
/// It sleeps, and they do not (`TASK_UNINTERRUPTIBLE`; D of ps).
pub const STATE_UNINTERRUPTIBLE: u16 = 4;
/// It is stopped, by a signal or a debugger, or frozen.
pub const STATE_STOPPED: u16 = 8;
/// All of them.
pub const STATES_ALL: u16 = 15;

/// What of time off the CPU is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SleepFilter {
    /// Bits of the `STATE_*`.
    pub states: u16,
    /// Times off the CPU that are shorter, as much of them as is in these states, are left out, ns.
    pub shortest_ns: u64,
    /// Longer ones, too.
    pub longest_ns: u64,
}

impl SleepFilter {
    /// Nothing is left out.
    pub const NONE: Self = Self { states: STATES_ALL, shortest_ns: 0, longest_ns: u64::MAX };

    /// What is counted of a time off the CPU that a thread began in `state`: ns until it was woken, and ns that it then waited for a CPU.
    #[inline(always)]
    pub const fn kept(&self, state: u16, slept_ns: u64, waited_ns: u64) -> (u64, u64) {
        let slept = if state & self.states != 0 { slept_ns } else { 0 };
        let waited = if self.states & STATE_RUNNABLE != 0 { waited_ns } else { 0 };
        let length = slept.saturating_add(waited);
        if length < self.shortest_ns || length > self.longest_ns { (0, 0) } else { (slept, waited) }
    }
}

/// The bits of a class that stand for who ended a wait, by the hash of its stack; 0 for none.
#[inline(always)]
pub const fn waker_bits(stack_hash: u64) -> u64 {
    stack_hash >> 20 << CLASS_BITS
}
/// Who may wake a thread at its word: threads of its process.
pub const REACH_PRIVATE: u16 = 0;
/// Those of others too, who may know the word by another address.
pub const REACH_SHARED: u16 = 1;
/// It waits at several words at once, and what is kept is where their list stands.
pub const REACH_LIST: u16 = 2;

/// Nobody is known to have ended a wait: its time was over, or a signal came, or the end of its process.
pub const RELEASED_NOT: u32 = 0;
/// A thread that let others go on at that word.
pub const RELEASED: u32 = 1;
/// One that did so at another word, and the wait had been moved there meanwhile: from that of a condition variable to its lock's.
pub const RELEASED_MOVED: u32 = 2;

/// A thread and when it last left its CPU. Written by the thread itself as it leaves and comes back, or by who looks for those that sleep when a recording begins;
/// what is said of its end by who wakes it. What that one reads and writes stands in front: it lies in the cache of another CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sleep {
    /// Its `task_struct`: an id may be another's meanwhile.
    pub task: u64,
    /// The word of memory that it waits at; 0: none.
    pub word: u64,
    /// When it was woken; 0: not yet.
    pub woken_ns: u64,
    /// The hash of the stack that woke it; 0: none, or it is not kept.
    pub waker: u64,
    /// Its process.
    pub tgid: u32,
    /// How often it has left.
    pub leaves: u32,
    /// How often it has come back.
    pub returns: u32,
    /// One of the `RELEASED*`: whether another thread has ended the wait at the word.
    pub released: u32,
    /// One of the `STATE_*`.
    pub state: u16,
    /// 1: it came back when the recording was over, so that where it stands now is not where it stood.
    pub has_gone_on: u16,
    /// One of the `CLASS_*` of locks, of its last wait at a word.
    pub class: u16,
    /// One of the `REACH_*`.
    pub reach: u16,
    /// Where what is kept of the last word that it waited at stands in `LOCK_PLACES`; 0: nothing is.
    pub lock: u32,
    /// 1: who woke it is charged with `charged_ns`, and that is counted when it is back: only then its own stack is known, which tells whether it was a lock.
    pub is_charged: u32,
    /// When it left, on `CLOCK_MONOTONIC`.
    pub left_ns: u64,
    /// The same of the wait before, if that was not ended by another thread: then this one is its continuation.
    pub unreleased: u64,
    /// That word, as [`LockKey`] has it.
    pub lock_word: u64,
    /// What has been waited for at the word since it was charged last.
    pub charged_ns: u64,
    /// What it has waited at a word without being let go, and nobody is charged with: a timed wait that is repeated goes on with it.
    pub pending_ns: u64,
    /// That word, as [`LockKey`] has it; its first bit: it was a lock by its value.
    pub pending_word: u64,
    /// What this wait goes on with.
    pub carried_ns: u64,
}

impl Sleep {
    /// When its wait at the word began, with what it goes on with: as it stands in what is kept of the word.
    #[inline(always)]
    pub const fn begun_ns(&self) -> u64 {
        self.left_ns.wrapping_sub(self.carried_ns)
    }

    /// Whether it is off its CPU.
    #[inline(always)]
    pub const fn is_off(&self) -> bool {
        self.leaves != self.returns
    }

    /// How long it was off its CPU until then: ns until it was woken, and ns that it then waited for a CPU.
    #[inline(always)]
    pub const fn parts(&self, now_ns: u64) -> (u64, u64) {
        let whole = now_ns.saturating_sub(self.left_ns);
        if self.state == STATE_RUNNABLE {
            return (0, whole);
        }
        let woken = if self.woken_ns > self.left_ns && self.woken_ns <= now_ns { self.woken_ns } else { now_ns };
        let slept = woken.saturating_sub(self.left_ns);
        (slept, whole.saturating_sub(slept))
    }
}

/// A word of memory at which threads wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LockKey {
    /// Its address; that of the eight bytes around it where it may be one of two words of a lock.
    pub word: u64,
    /// The process of the thread that waits; 0: any that shares the word.
    pub tgid: u64,
}

impl LockKey {
    /// The lock that a word belongs to. Those for readers and writers (Rust's, glibc's) let these wait at one word and those at the next; who releases one of
    /// them wakes at one word, and is charged with both. A word that is a lock by its value has no second one; and where processes share it, those that wait there in
    /// each of them wait for one lock, which they have at one address if they were forked with it. (Where others know it by another address, their waits are settled
    /// apart.)
    #[inline(always)]
    pub fn new(word: u64, class: u16, reach: u16, tgid: u32) -> Self {
        if class as u64 != CLASS_LOCK {
            return Self { word: word & !7, tgid: tgid as u64 };
        }
        Self { word, tgid: if reach == REACH_SHARED { 0 } else { tgid as u64 } }
    }
}

/// Cells that count places of words: those that were given away.
pub const LOCKS_TAKEN: u32 = 0;
/// Those that were given back, which only user space writes.
pub const LOCKS_GIVEN_BACK: u32 = 1;
/// Those that were given away for the first time: 1 is the first.
pub const LOCKS_NEW: u32 = 2;
/// How many cells there are.
pub const LOCKS_CELLS: u32 = 3;

/// How long threads have waited at a word, all together: at the time t it is `balance + waiting * t`, for each wait takes its beginning from the balance, and adds
/// its end. Both stand in one word, so that they change and are read at one moment. (As two words they were read apart now and then, and each time a thread's
/// wait was longer by the time since boot.)
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Lock {
    /// How many threads wait, times 2^48, plus the balance, in [`LOCK_UNIT_BITS`]; wrapping.
    pub state: u64,
    /// What was charged to those that released it, in the same unit.
    pub charged: u64,
    /// When that was the last time, ns.
    pub charged_at_ns: u64,
}

/// Time at locks is counted in 2^10 ns: 48 bits of it are nine years of one thread, and beginnings and ends are rounded alike.
pub const LOCK_UNIT_BITS: u32 = 10;

/// Where the number of threads that wait begins.
const WAITING_SHIFT: u32 = 48;

impl Lock {
    /// What the beginning of a wait adds to the state; its end takes that of its own time away again. `time`: since the recording began, in units.
    #[inline(always)]
    pub const fn one_that_waits(time: u64) -> u64 {
        (1 << WAITING_SHIFT) - time
    }

    /// How long threads have waited until then, units; None where the numbers make no sense.
    #[inline(always)]
    pub const fn waited(state: u64, time: u64) -> Option<u64> {
        let balance = (state << (64 - WAITING_SHIFT)) as i64 >> (64 - WAITING_SHIFT);
        let waiting = state.wrapping_sub(balance as u64) >> WAITING_SHIFT;
        let waited = (balance as u64).wrapping_add(waiting.wrapping_mul(time));
        if waiting >> 15 == 0 && waited >> WAITING_SHIFT == 0 { Some(waited) } else { None }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_wait_adds_up_while_they_wait_and_after() {
        let begins = |state: u64, time| state.wrapping_add(Lock::one_that_waits(time));
        let ends = |state: u64, time| state.wrapping_sub(Lock::one_that_waits(time));
        let one = begins(0, 100);
        assert_eq!(Lock::waited(one, 130), Some(30));
        let two = begins(one, 110);
        assert_eq!(Lock::waited(two, 130), Some(50));
        let first_done = ends(two, 130);
        assert_eq!(Lock::waited(first_done, 150), Some(30 + 40));
        assert_eq!(Lock::waited(ends(first_done, 150), 1_000_000), Some(70));
        // An end without a beginning.
        assert_eq!(Lock::waited(ends(0, 5), 9), None);
        // A thousand threads for four hours.
        let all = (0..1000).fold(0, begins);
        let hours = (4 * 3_600_000_000_000_u64) >> LOCK_UNIT_BITS;
        assert_eq!(Lock::waited(all, hours), Some(1000 * hours - 499_500));
    }

    #[test]
    fn a_sleep_is_told_from_the_wait_for_a_cpu_behind_it() {
        let sleep = Sleep { left_ns: 100, woken_ns: 130, state: STATE_INTERRUPTIBLE, ..Sleep::default() };
        assert_eq!(sleep.parts(150), (30, 20));
        assert_eq!(Sleep { woken_ns: 0, ..sleep }.parts(150), (50, 0));
        // Woken for the sleep before.
        assert_eq!(Sleep { woken_ns: 90, ..sleep }.parts(150), (50, 0));
        assert_eq!(Sleep { state: STATE_RUNNABLE, ..sleep }.parts(150), (0, 50));
    }

    #[test]
    fn what_is_left_out_of_time_off_the_cpu_is_told_by_state_and_length() {
        assert_eq!(SleepFilter::NONE.kept(STATE_INTERRUPTIBLE, 30, 20), (30, 20));
        let filter = |states| SleepFilter { states, shortest_ns: 10, longest_ns: 60 };
        assert_eq!(filter(STATE_INTERRUPTIBLE).kept(STATE_INTERRUPTIBLE, 30, 20), (30, 0));
        assert_eq!(filter(STATE_UNINTERRUPTIBLE).kept(STATE_INTERRUPTIBLE, 30, 20), (0, 0));
        assert_eq!(filter(STATE_RUNNABLE).kept(STATE_INTERRUPTIBLE, 30, 20), (0, 20));
        assert_eq!(filter(STATE_RUNNABLE).kept(STATE_RUNNABLE, 0, 20), (0, 20));
        // A long sleep is no long wait for a CPU.
        assert_eq!(filter(STATE_RUNNABLE).kept(STATE_INTERRUPTIBLE, 50, 5), (0, 0));
        // The length is that of both together.
        assert_eq!(filter(STATES_ALL).kept(STATE_INTERRUPTIBLE, 5, 4), (0, 0));
        assert_eq!(filter(STATES_ALL).kept(STATE_INTERRUPTIBLE, 50, 20), (0, 0));
        assert_eq!(filter(STATES_ALL).kept(STATE_INTERRUPTIBLE, 50, 10), (50, 10));
    }

    #[test]
    fn both_words_of_a_lock_for_readers_and_writers_are_one() {
        let unsure = |word| LockKey::new(word, CLASS_UNSURE as u16, REACH_PRIVATE, 7);
        assert_eq!(unsure(0x1008), unsure(0x100c));
        assert_ne!(unsure(0x1008), unsure(0x1010));
        let lock = |word, reach, tgid| LockKey::new(word, CLASS_LOCK as u16, reach, tgid);
        assert_ne!(lock(0x1008, REACH_PRIVATE, 7), lock(0x100c, REACH_PRIVATE, 7));
        // One that processes share is one lock.
        assert_eq!(lock(0x1008, REACH_SHARED, 7), lock(0x1008, REACH_SHARED, 8));
        assert_ne!(lock(0x1008, REACH_PRIVATE, 7), lock(0x1008, REACH_PRIVATE, 8));
    }
}
