//! Functions of an allocator, as they stand in a file: where they begin, where a probe is cheap, and what their arguments are.

/// What a file has of an allocator.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allocator {
    /// The functions to probe, by their entry; no two have the same entry.
    pub functions: Vec<AllocatorFunction>,
    /// Code of the allocator itself: file offsets, first and behind the last, sorted, none overlap, at most [`OWN_MAX`]. A call that comes from there is a part
    /// of another call.
    pub own: Vec<(u64, u64)>,
}

/// Stretches of own code at most.
pub const OWN_MAX: usize = 4;
/// Functions of one file at most.
pub const FUNCTIONS_MAX: usize = 64;

/// A function to probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AllocatorFunction {
    /// Its symbol.
    pub name: String,
    /// What it does with which arguments.
    pub call: AllocatorCall,
    /// File offset of its first instruction.
    pub entry: u64,
    /// Where a probe can wait for the return, too: the arguments are in their registers and the stack pointer is where the call left it.
    pub at_entry: ProbePlace,
    /// Where a probe is cheapest that needs only the arguments: they are in their registers, the stack pointer may have moved. It is reached by every call that
    /// matters (a `free` may leave before it when there is nothing to free).
    pub after_entry: ProbePlace,
    /// It jumps on to another function here that is probed: with a null pointer (`Realloc`), or with an alignment that every block has (`Memalign`, up to 16 bytes).
    /// That one counts such a call.
    pub forwards: bool,
}

/// A place for a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbePlace {
    /// File offset of the instruction.
    pub offset: u64,
    /// How far below its value at the entry the stack pointer is there, bytes.
    pub pushed: u32,
    /// Whether the kernel emulates the instruction, or has to execute it step by step, at six times the price.
    pub is_emulated: bool,
}

/// What a function does, with its arguments in the order of the calling convention.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum AllocatorCall {
    /// `malloc(size)`, `operator new(size)`, `valloc(size)`: returns the block.
    Malloc = 0,
    /// `calloc(count, size)`.
    Calloc = 1,
    /// `realloc(old, size)`.
    Realloc = 2,
    /// `aligned_alloc(alignment, size)`, `memalign(alignment, size)`.
    Memalign = 3,
    /// `operator new(size, alignment)`.
    AlignedNew = 4,
    /// `posix_memalign(&block, alignment, size)`: returns 0 or an error.
    PosixMemalign = 5,
    /// `free(block)`, `cfree(block)`, `operator delete(block, ...)`.
    Free = 6,
}
