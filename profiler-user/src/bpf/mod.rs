//! Drain: everything that stands on the user side of the kernel border. The only room that imports aya.
//!
//! It opens the events, loads and attaches the programs, and takes over what they and the kernel's own mapping records deliver, in the order in
//! which it happened. What leaves the room is [`Tally<RawStack>`](crate::model::stack::RawStack) and [`ProcessEvent`](crate::model::event::ProcessEvent).

mod arena;
mod away;
mod btf;
mod capture;
mod clock;
mod counters;
mod cpus;
mod custom;
mod custom_capture;
mod custom_marks;
mod custom_values;
mod descriptors;
mod error;
mod hold;
mod hold_capture;
mod hotplug;
mod live_blocks;
mod live_capture;
mod map_memory;
mod mmap_ring;
mod options;
mod order;
mod perf_event;
mod probe_programs;
mod probes;
mod probes_capture;
mod program;
mod program_cost;
mod program_size;
mod records;
mod sampled_events;
mod self_cost;
mod sent_stacks;
mod side_band;
mod sleepers;
mod sleepers_capture;
mod system_calls;
mod tallies;
mod targets;
mod threads;
mod traced;
mod tracepoint;
mod trap_cost;
mod waits;

pub use arena::{Arena, wait_for_programs};
pub use btf::{KernelTypes, controller_index};
pub use capture::{Batch, Capture, Ticks};
pub use clock::monotonic_now;
pub use counters::Counted;
pub use custom::{Spots, Spotted};
pub use error::BpfError;
pub use live_blocks::Ages;
pub use map_memory::map_bytes;
pub use options::CaptureOptions;
pub use order::{Drained, Last};
pub use program::EMBEDDED_OBJECT;
pub use program_cost::ProgramCost;
pub use program_size::{ProgramSize, program_sizes};
pub use sleepers::Sleeper;
pub use threads::SeenThread;
pub use trap_cost::Spent;
