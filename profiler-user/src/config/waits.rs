//! What is recorded of waits.

use profiler_common::wait::{STATES_ALL, SleepFilter};

/// How waits are recorded: for time off the CPU, block, mutex, wall and threadcreate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Time off the CPU that is always taken, ns; a shorter one is taken with the odds of its length, and stands for others.
    pub sleep_ns: u64,
    /// The same of a wait for another thread; 1: each is taken.
    pub block_ns: u64,
    /// Of the releases of locks one in so many is taken.
    pub mutex_fraction: u32,
    /// Who ended each wait is shown beside it.
    pub pairs: bool,
    /// Which times off the CPU are counted.
    pub sleeps: SleepFilter,
    /// Threads that are there when the recording begins are counted with those that are started.
    pub existing_threads: bool,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            sleep_ns: 10_000_000,
            block_ns: 1,
            mutex_fraction: 1,
            pairs: false,
            sleeps: SleepFilter { states: STATES_ALL, shortest_ns: 0, longest_ns: u64::MAX },
            existing_threads: false,
        }
    }
}
