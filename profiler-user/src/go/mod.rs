//! What Go's runtime keeps itself about a program that runs: its profiles of memory and of waits, and its goroutines. Read from outside, through `memory/`; the
//! process is neither stopped nor changed.
//!
//! ```text
//!   let places = reader.go_heap(object, file)??;          // once a file: where the variables are, or why there are none
//!   let mut memory = MemoryReader::new(None);             // one for all processes
//!   let profile = go::heap::read(&mut memory, &Request { pid, bias, places, deadline, bytes_max })?;
//! ```

mod error;
mod goroutine_layout;
pub mod goroutines;
pub mod heap;
mod list;
mod pages;
mod process;
pub mod waits;

pub use error::GoHeapError;
