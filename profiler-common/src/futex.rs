//! What a thread's system call says of the word of memory that it waits at, or wakes others at: futex(2) and its newer forms.

use crate::wait::{CLASS_LOCK, CLASS_UNSURE};

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
    /// Another one.
    None,
}

/// Private, and the clock: not what it does.
const FLAGS: u64 = 128 | 256;
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
/// A bit that musl sets beside the owner of a lock that somebody waits for.
const OWNED: u64 = 1 << 31;
/// A thread's own word, at which it is parked.
const PARKED: u64 = 0xffff_ffff;

impl Call {
    /// The word that it waits at, and the class of the wait.
    #[inline(always)]
    pub fn waits(&self) -> Option<(u64, u64)> {
        let [word, second, third] = self.arguments;
        match self.number {
            Number::Futex => {
                let operation = second & !FLAGS & 0x7f;
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
            Number::Wake | Number::Requeue | Number::Exit | Number::None => None,
        }
    }

    /// Whether it wakes threads that wait at a word.
    #[inline(always)]
    pub fn wakes(&self, waited_at: u64) -> bool {
        let [word, operation, _] = self.arguments;
        match self.number {
            Number::Futex => {
                let operation = operation & !FLAGS & 0x7f;
                let wakes = operation == WAKE || operation == WAKE_BITSET || operation == UNLOCK_PI;
                let moves = operation == REQUEUE || operation == CMP_REQUEUE || operation == CMP_REQUEUE_PI || operation == WAKE_OP;
                ((wakes || moves) && word == waited_at) || (moves && self.other_word == waited_at)
            }
            Number::Wake => word == waited_at,
            // The words stand in memory.
            Number::Requeue | Number::Exit => true,
            Number::Wait | Number::WaitV | Number::None => false,
        }
    }
}

#[inline(always)]
fn class(operation: u64, value: u64) -> u64 {
    let is_musl = operation == WAIT && value & OWNED != 0 && value != PARKED;
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
        // glibc, Rust, a priority-inheriting one, musl; then a condition variable, a parked thread, parking_lot, a semaphore.
        for (operation, value) in [(128, 2), (137, 2), (134, 0), (141, 0), (128, 0x8000_1234)] {
            assert_eq!(futex(operation, value).waits(), Some((0x1000, CLASS_LOCK)), "{operation} {value:#x}");
        }
        for (operation, value) in [(393, 0), (137, 0xffff_ffff), (128, 0xffff_ffff), (128, 1), (137, 0)] {
            assert_eq!(futex(operation, value).waits(), Some((0x1000, CLASS_UNSURE)), "{operation} {value:#x}");
        }
        for operation in [129, 131, 133, 135, 138] {
            assert_eq!(futex(operation, 2).waits(), None, "{operation}");
        }
    }

    #[test]
    fn a_wake_is_of_its_word() {
        assert!(futex(129, 1).wakes(0x1000) && !futex(129, 1).wakes(0x2000));
        assert!(futex(132, 1).wakes(0x1000) && futex(132, 1).wakes(0x2000));
        assert!(!futex(128, 2).wakes(0x1000));
    }
}
