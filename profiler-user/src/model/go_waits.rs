//! Where Go's runtime keeps what it records of its goroutines' waits, in the addresses of the file.

use super::go_heap::NoGoHeap;

/// What a file says: the reasons why not are those of the memory profile.
pub type GoWaits = Result<GoWaitPlaces, NoGoHeap>;

/// What a reader of Go's profiles of waits needs to know of the file: the file's own addresses, to which the bias of the running program is added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GoWaitPlaces {
    /// Waits by who waits: `runtime.bbuckets`, and `runtime.blockprofilerate` in ticks.
    pub block: GoWaitList,
    /// Waits by who ends them: `runtime.xbuckets`, and `runtime.mutexprofilerate`, one wait in how many.
    pub mutex: GoWaitList,
    /// `runtime.ticks.val`, 8 bytes: ticks a second, or 0 if nobody has asked for them yet.
    pub ticks_per_second: u64,
    /// The minor number of its Go: 26 of 1.26.
    pub minor: u32,
    /// Go's code: its first address, and the one behind its last.
    pub text: (u64, u64),
}

/// One of the two lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GoWaitList {
    /// A pointer: the first bucket.
    pub buckets: u64,
    /// 8 bytes: 0 while nothing is recorded.
    pub rate: u64,
}
