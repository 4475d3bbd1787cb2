//! Finish: unwind tables and the stacks that met none.
//!
//! ```text
//!   an unfinished stack ──► finish.rs ──► walked to its end            with the same `step()` as in the kernel
//!                              │ its file has no table yet
//!                              ▼
//!                           the reader parses the file ──► tables.rs ──► parts in the arena     arena_space.rs: where there is room
//!                                                             │
//!                                                             ▼
//!                                                          lists.rs ──► the process's ranges, for the kernel side: the next stack is walked there
//! ```
//!
//! Tables lie in the arena alone: the kernel side and this room read the same words. What has not been used for longest goes when the budget is used up; a
//! file that is met again is parsed again.

mod arena_space;
mod finish;
mod lists;
mod state;
mod tables;
mod write;

pub use finish::{Finished, by_frame_pointers};
pub use state::TableOf;
pub use tables::{Costs, Unwinder};
