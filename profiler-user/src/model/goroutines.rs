//! Where Go's runtime keeps its goroutines, in the addresses of the file.

use super::go_heap::NoGoHeap;

/// What a file says: the reasons why not are those of the memory profile.
pub type Goroutines = Result<GoroutinePlaces, NoGoHeap>;

/// What a reader of the goroutines needs to know of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GoroutinePlaces {
    /// `runtime.allgs`, a slice: the file's own address, to which the bias of the running program is added.
    pub all: u64,
    /// The minor number of its Go: 26 of 1.26.
    pub minor: u32,
    /// Go's code: its first address, and the one behind its last.
    pub text: (u64, u64),
    /// The same of `runtime.sigpanic`, which stands on a stack as if what has faulted had called it.
    pub faults: (u64, u64),
    /// The same of `runtime.cgocallback`, and the bytes of its frame, return address and all: on a goroutine's stack it stands as if what has called C had called it.
    pub callbacks: (u64, u64, u32),
}
