//! Who calls whom, and when: one recording from its first event to a symbolized profile.

mod allocator_finder;
mod arming;
mod beside;
mod budget;
mod calls;
mod closing;
mod command;
mod custom_arming;
mod descriptors;
mod dumping;
mod file_finder;
mod finishing;
mod followed;
mod go_heap;
mod goroutines;
mod governor;
mod memory;
mod moments;
mod ongoing;
mod own_processes;
mod phases;
mod probed;
mod recorder;
mod session;
mod signals;
mod snapshot;
mod stop;
mod table_builder;
mod waits;
mod wakers;
mod wall;
mod watch;

pub use command::CommandEnd;
pub use recorder::{Control, Progress, RecordError, Recorder, Recording};
pub use snapshot::{Snapshot, SnapshotOptions};
