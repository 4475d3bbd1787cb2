//! What a thread's system call says of the word of memory that it waits at, or wakes others at: futex(2) and its newer forms.

use crate::wait::{CLASS_LOCK, CLASS_UNSURE, REACH_LIST, REACH_PRIVATE, REACH_SHARED};

/// A system call of this family, by its registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// Which one.
    pub number: Number,
    /// Its arguments: word, operation, value (or as the newer ones have them).
    pub arguments: [u64; 3],
    /// The fifth: another word.
    pub other_word: u64,
}

/// The calls of this family; everything else is none of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Number {
    /// `futex(word, operation, value, timeout, other word)`
    Futex,
    /// `futex_waitv(words, ..)`
    WaitV,
    /// `futex_wake(word, ..)`
    Wake,
    /// `futex_wait(word, value, ..)`
    Wait,
    /// `futex_requeue(words, ..)`
    Requeue,
    /// The thread ends: its own word and its robust locks are let go.
    Exit,
    /// The whole process does: its other threads are woken to end, not because anything was let go.
    ExitAll,
    /// The one that a signal has broken off goes on; its arguments are the kernel's secret.
    Restart,
    /// Another one.
    None,
}

/// The words of one process only.
const PRIVATE: u64 = 128;
/// Private, and the clock: not what it does.
const FLAGS: u64 = PRIVATE | 256;
/// A page is the least that two processes share.
const IN_PAGE: u64 = 0xfff;
const WAIT: u64 = 0;
const WAKE: u64 = 1;
const REQUEUE: u64 = 3;
const CMP_REQUEUE: u64 = 4;
const WAKE_OP: u64 = 5;
const LOCK_PI: u64 = 6;
const UNLOCK_PI: u64 = 7;
const WAIT_BITSET: u64 = 9;
const WAKE_BITSET: u64 = 10;
const WAIT_REQUEUE_PI: u64 = 11;
const CMP_REQUEUE_PI: u64 = 12;
const LOCK_PI2: u64 = 13;

/// The value at which threads wait for a lock of glibc, of Rust's library, and of Go's runtime before 1.24: it is taken, and somebody waits.
const CONTENDED: u64 = 2;
/// A bit that musl sets beside the owner of a lock that somebody waits for. (libstdc++ sets it alone, where threads wait for a future.)
const OWNED: u64 = 1 << 31;
/// A thread's own word, at which it is parked.
const PARKED: u64 = 0xffff_ffff;

/// A thread that waits, as the one that wakes it sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// Its word, by its own addresses.
    pub word: u64,
    /// One of the `REACH_*`.
    pub reach: u16,
    /// Whether it is of another process than the one that wakes it.
    pub is_foreign: bool,
}

impl Call {
    /// Who may wake those that wait by this call: one of the `REACH_*`.
    #[inline(always)]
    pub fn reach(&self) -> u16 {
        match self.number {
            Number::WaitV => REACH_LIST,
            Number::Futex if self.arguments[1] & PRIVATE == 0 => REACH_SHARED,
            _ => REACH_PRIVATE,
        }
    }

    /// The word that it waits at, and the class of the wait.
    #[inline(always)]
    pub fn waits(&self) -> Option<(u64, u64)> {
        let [word, second, third] = self.arguments;
        match self.number {
            Number::Futex => {
                let operation = self.operation();
                if operation == LOCK_PI || operation == LOCK_PI2 {
                    return Some((word, CLASS_LOCK));
                }
                if operation != WAIT && operation != WAIT_BITSET && operation != WAIT_REQUEUE_PI {
                    return None;
                }
                Some((word, class(operation, third & 0xffff_ffff)))
            }
            Number::Wait => Some((word, class(WAIT_BITSET, second & 0xffff_ffff))),
            Number::WaitV => Some((word, CLASS_UNSURE)),
            Number::Wake | Number::Requeue | Number::Exit | Number::ExitAll | Number::Restart | Number::None => None,
        }
    }

    /// Whether it is one that wakes threads, whatever they wait at: what they were moved to is not seen.
    #[inline(always)]
    pub fn is_waking(&self) -> bool {
        match self.number {
            Number::Futex => is_waking(self.operation()) || is_moving(self.operation()),
            Number::Wake | Number::Requeue | Number::Exit | Number::ExitAll => true,
            Number::Wait | Number::WaitV | Number::Restart | Number::None => false,
        }
    }

    /// Whether it lets a thread go on that waits at a word.
    #[inline(always)]
    pub fn wakes(&self, waiter: &Waiter) -> bool {
        let [word, flags, _] = self.arguments;
        let may = !waiter.is_foreign || waiter.reach == REACH_SHARED;
        match self.number {
            Number::Futex => {
                let (wakes, moves) = (is_waking(self.operation()), is_moving(self.operation()));
                let is_private = flags & PRIVATE != 0;
                may && (((wakes || moves) && waiter.is_at(word, is_private)) || (moves && waiter.is_at(self.other_word, is_private)))
            }
            // Its flags are in a register that is not read.
            Number::Wake => may && waiter.is_at(word, false),
            // The words stand in memory.
            Number::Requeue => may,
            Number::Exit => may,
            Number::ExitAll => waiter.is_foreign && may,
            Number::Wait | Number::WaitV | Number::Restart | Number::None => false,
        }
    }

    #[inline(always)]
    fn operation(&self) -> u64 {
        self.arguments[1] & !FLAGS & 0x7f
    }
}

impl Waiter {
    /// Whether it may wait at the word that another thread names. Two processes have one page at two addresses.
    #[inline(always)]
    fn is_at(&self, word: u64, is_private: bool) -> bool {
        if self.is_foreign { !is_private && (word ^ self.word) & IN_PAGE == 0 } else { word == self.word || self.reach == REACH_LIST }
    }
}

#[inline(always)]
fn is_waking(operation: u64) -> bool {
    operation == WAKE || operation == WAKE_BITSET || operation == UNLOCK_PI
}

/// It wakes some, and moves others to another word, or wakes there as well.
#[inline(always)]
fn is_moving(operation: u64) -> bool {
    operation == REQUEUE || operation == CMP_REQUEUE || operation == CMP_REQUEUE_PI || operation == WAKE_OP
}

#[inline(always)]
fn class(operation: u64, value: u64) -> u64 {
    let is_musl = operation == WAIT && value & OWNED != 0 && value != OWNED && value != PARKED;
    if value == CONTENDED || is_musl { CLASS_LOCK } else { CLASS_UNSURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn futex(operation: u64, value: u64) -> Call {
        Call { number: Number::Futex, arguments: [0x1000, operation, value], other_word: 0x2000 }
    }

    #[test]
    fn locks_are_told_by_value_and_operation() {
        // glibc, Rust, a priority-inheriting one, musl; then a condition variable, a future, a parked thread, parking_lot, a semaphore.
        for (operation, value) in [(128, 2), (137, 2), (134, 0), (141, 0), (128, 0x8000_1234)] {
            assert_eq!(futex(operation, value).waits(), Some((0x1000, CLASS_LOCK)), "{operation} {value:#x}");
        }
        for (operation, value) in [(393, 0), (128, 0x8000_0000), (137, 0xffff_ffff), (128, 0xffff_ffff), (128, 1), (137, 0)] {
            assert_eq!(futex(operation, value).waits(), Some((0x1000, CLASS_UNSURE)), "{operation} {value:#x}");
        }
        for operation in [129, 131, 133, 135, 138] {
            assert_eq!(futex(operation, 2).waits(), None, "{operation}");
        }
    }

    fn waiter(word: u64) -> Waiter {
        Waiter { word, reach: REACH_PRIVATE, is_foreign: false }
    }

    #[test]
    fn a_wake_is_of_its_word() {
        assert!(futex(129, 1).wakes(&waiter(0x1000)) && !futex(129, 1).wakes(&waiter(0x2000)));
        assert!(futex(132, 1).wakes(&waiter(0x1000)) && futex(132, 1).wakes(&waiter(0x2000)));
        assert!(!futex(128, 2).wakes(&waiter(0x1000)));
        // One of a list of words, which stands in memory.
        assert!(futex(129, 1).wakes(&Waiter { reach: REACH_LIST, ..waiter(0x9000) }));
        // It was moved to that word: it is woken, but what it waited for before was not let go.
        assert!(futex(129, 1).is_waking() && !futex(128, 2).is_waking());
    }

    #[test]
    fn a_word_that_processes_share_has_an_address_in_each() {
        let foreign = Waiter { word: 0x7000_0010, reach: REACH_SHARED, is_foreign: true };
        let wake = |word, operation| Call { number: Number::Futex, arguments: [word, operation, 1], other_word: 0 };
        assert!(wake(0x5000_0010, 1).wakes(&foreign));
        assert!(!wake(0x5000_0018, 1).wakes(&foreign) && !wake(0x5000_0010, 129).wakes(&foreign));
        assert!(!wake(0x7000_0010, 1).wakes(&Waiter { reach: REACH_PRIVATE, ..foreign }));
        assert!(!wake(0x5000_0010, 1).wakes(&Waiter { is_foreign: false, ..foreign }));
    }

    #[test]
    fn the_end_of_a_thread_lets_its_locks_go_and_the_end_of_a_process_only_those_of_others() {
        let ends = |number| Call { number, arguments: [0; 3], other_word: 0 };
        let foreign = Waiter { reach: REACH_SHARED, is_foreign: true, ..waiter(0x1000) };
        assert!(ends(Number::Exit).wakes(&waiter(0x1000)) && !ends(Number::ExitAll).wakes(&waiter(0x1000)));
        assert!(ends(Number::ExitAll).wakes(&foreign) && !ends(Number::Exit).wakes(&Waiter { reach: REACH_PRIVATE, ..foreign }));
    }
}
