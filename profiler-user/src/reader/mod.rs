//! The processes without rights in which every parser of foreign bytes runs.
//!
//! ```text
//!   profiler (rights, opens files, parses nothing)          reader (no rights, opens nothing, parses)
//!
//!   client.rs  one request, held to a deadline ──────────►  child.rs   reads requests from descriptor 0, calls `parse`
//!   keeper.rs  the request's descriptors, for names ◄────►  sandbox.rs the filter: `open("/profiler/object")` waits for the keeper
//! ```
//!
//! Nothing that is parsed is trusted, and so neither is a reader: the profiler checks what it answers (`wire.rs`), kills it when its time is over, and
//! remembers the file that made it fail. A reader cannot open, connect, start or signal anything; names that stand inside a hostile file lead nowhere.
//!
//! A program that uses this library calls [`crate::init`] first in `main`: readers are the same program, started again.

mod child;
mod client;
mod client_go;
mod keeper;
mod known;
mod names;
mod sandbox;
mod wire;
mod wire_allocator;
mod wire_facts;
mod wire_go_heap;
mod wire_go_waits;
mod wire_goroutines;
mod wire_marks;
mod wire_points;
mod wire_unwind;

pub use crate::model::answer::{LoadSegment, ObjectFacts, SymbolLine};
pub use client::{Reader, ReaderError, ReaderOptions, SymbolizeRequest};

/// What a reader has in memory beside its data: what it keeps of the files that it reads, the program itself, and what it reads from one tick of the kernel
/// to the next (20 MB of a file whose symbols were asked for all over it).
pub const REST_BYTES_MAX: u64 = child::FILE_BYTES_MAX + (6 << 20) + (20 << 20);
/// Data that a reader needs to be of any use.
pub const DATA_BYTES_MIN: u64 = 24 << 20;

/// In a process that was started as a reader it serves requests and never returns; in any other it does nothing.
pub fn serve_if_started_as_one() {
    if let Some(arguments) = names::reader_arguments(std::env::args_os()) {
        child::run(&arguments);
    }
}
