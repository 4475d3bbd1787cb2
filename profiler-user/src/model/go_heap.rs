//! Where Go's runtime keeps its own profile of memory, in the addresses of the file, and why it may be nowhere.

/// Longest version that is told, bytes.
pub const VERSION_MAX_BYTES: usize = 64;

/// What a file says.
pub type GoHeap = Result<GoHeapPlaces, NoGoHeap>;

/// The variables of the runtime that a reader of its memory profile needs: the file's own addresses, to which the bias of the running program is added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GoHeapPlaces {
    /// `runtime.mbuckets`, a pointer: the first bucket of the list.
    pub buckets: u64,
    /// `runtime.mProfCycle`, 4 bytes: which cycle it is.
    pub cycle: u64,
    /// `runtime.profMemActiveLock`, 8 bytes: zero while nobody publishes counts.
    pub lock: u64,
    /// `runtime.MemProfileRate`, 8 bytes: the mean distance of two samples in bytes.
    pub rate: u64,
    /// What a bucket counts.
    pub record: GoRecord,
    /// Go's code: its first address, and the one behind its last.
    pub text: (u64, u64),
}

/// What a bucket counts in each cycle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GoRecord {
    /// Allocations, frees, bytes allocated, bytes freed (1.21 to 1.26).
    ObjectsAndBytes,
    /// Allocations and frees, each of the size of the bucket (1.27).
    Objects,
}

/// Why a file has no such places.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoGoHeap {
    /// Go's linker did not make it.
    #[error("it is no Go program")]
    NotGo,
    /// Nothing in the program reads the profile, so the linker has left it out, and the runtime keeps none.
    #[error(
        "Go's linker has left memory profiling out: nothing in the program uses runtime.MemProfile; importing runtime/pprof or net/http/pprof does"
    )]
    LeftOut,
    /// The same of the profiles of waits.
    #[error(
        "nothing in the program reads Go's profiles of waits, so nothing says where they are: importing runtime/pprof or net/http/pprof does"
    )]
    WaitsLeftOut,
    /// Made by a Go whose runtime may keep it in another form.
    #[error("the form in which Go {0:?} keeps its own profiles and its goroutines is not known")]
    UnknownVersion(String),
    /// There are no symbols, and its code does not show where it is.
    #[error("the program has no symbols, and its code does not show where Go's runtime keeps {0}")]
    NotFound(Variable),
}

/// One of the variables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Variable {
    /// The table of functions, through which the others are found.
    #[error("its functions")]
    Functions,
    /// `runtime.mbuckets`.
    #[error("its buckets")]
    Buckets,
    /// `runtime.mProfCycle`.
    #[error("the number of the cycle")]
    Cycle,
    /// `runtime.profMemActiveLock`.
    #[error("its lock")]
    Lock,
    /// `runtime.MemProfileRate`.
    #[error("the sampling rate")]
    Rate,
    /// `runtime.allgs`.
    #[error("its goroutines")]
    Goroutines,
    /// `runtime.bbuckets` or `runtime.xbuckets`.
    #[error("its goroutines' waits")]
    Waits,
    /// `runtime.blockprofilerate` or `runtime.mutexprofilerate`.
    #[error("whether it records its goroutines' waits")]
    WaitRate,
    /// `runtime.ticks`.
    #[error("how many ticks there are in a second")]
    Ticks,
}
