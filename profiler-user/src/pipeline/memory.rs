//! One account of memory: this process with its tables and its window, and the readers, are together held to [`crate::config::Config::memory_limit`].
//!
//! ```text
//!   limit = what our maps take of the kernel's memory + what this process has (asked of the kernel) + what the reader may have (promised when it starts) + what is left
//! ```
//!
//! Tables grow by what is left, and others go for them when nothing is; a window that is larger than its least size takes no more samples then.

use crate::reader::{DATA_BYTES_MIN, REST_BYTES_MAX};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What of the limit the window may have in any case.
const WINDOW_SHARE: u64 = 8;

/// How old an answer may be.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// The account of a recording.
#[derive(Debug)]
pub(super) struct Memory {
    limit: u64,
    promised: AtomicU64,
    /// What this process had, and when it was asked.
    resident: Mutex<Option<(Instant, u64)>>,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, promised: AtomicU64::new(0), resident: Mutex::new(None) }
    }

    /// Promises a reader that is about to start two thirds of what is left; gives the limit of its data.
    pub(super) fn promise(&self) -> u64 {
        let left = self.limit.saturating_sub(resident_bytes());
        let data = (left / 3 * 2).saturating_sub(REST_BYTES_MAX).max(DATA_BYTES_MIN);
        self.promised.store(data + REST_BYTES_MAX, Ordering::Relaxed);
        data
    }

    /// No reader runs.
    pub(super) fn take_back(&self) {
        self.promised.store(0, Ordering::Relaxed);
    }

    /// What this process may take beside what it has; the smallest reader always has its room.
    pub(super) fn left(&self) -> u64 {
        let readers = self.promised.load(Ordering::Relaxed).max(DATA_BYTES_MIN + REST_BYTES_MAX);
        self.limit.saturating_sub(self.resident() + readers)
    }

    /// A process that maps a hundred times a second has as many drains: the kernel is asked less often.
    fn resident(&self) -> u64 {
        let mut resident = self.resident.lock().unwrap_or_else(PoisonError::into_inner);
        match *resident {
            Some((asked, bytes)) if asked.elapsed() < ASK_AGAIN => bytes,
            _ => resident.insert((Instant::now(), resident_bytes())).1,
        }
    }

    /// What a window may hold of what it was given.
    pub(super) fn window(&self, given: u64) -> u64 {
        if self.left() > 0 { given } else { given.min(self.limit / WINDOW_SHARE) }
    }
}

/// Memory that this process holds now.
pub(super) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_to_a_reader_is_not_given_twice() {
        let memory = Memory::new(resident_bytes() + (300 << 20));
        let before = memory.left();
        let data = memory.promise();
        assert!(data + REST_BYTES_MAX <= 210 << 20 && data > 150 << 20, "{data}");
        assert!(memory.left() < before - (100 << 20));
        memory.take_back();
        assert!(memory.left() > 200 << 20);
    }

    #[test]
    fn a_used_up_limit_leaves_the_smallest_reader_and_a_small_window() {
        let memory = Memory::new(16 << 20);
        assert_eq!((memory.promise(), memory.left()), (DATA_BYTES_MIN, 0));
        assert_eq!(memory.window(64 << 20), 2 << 20);
    }
}
