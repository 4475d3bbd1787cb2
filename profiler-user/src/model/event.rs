//! What the kernel tells about processes and mappings, in the order in which it happened.

use super::mapping::MappedRange;
use super::process::{Pid, Tid};

/// A moment on `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MonotonicNs(pub u64);

/// Something that happened to a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProcessEvent {
    /// The process became another program: all its mappings are gone.
    Exec {
        /// Which process.
        pid: Pid,
        /// Its new name.
        comm: Vec<u8>,
    },
    /// A thread gave itself, or was given, a name; the process has the name of its leader (`tid == pid`).
    Renamed {
        /// Which process.
        pid: Pid,
        /// Which thread.
        tid: Tid,
        /// The new name.
        comm: Vec<u8>,
    },
    /// An executable range was mapped, over whatever was there before.
    Map {
        /// Which process.
        pid: Pid,
        /// What was mapped, and where.
        range: MappedRange,
    },
    /// A process (`tid == pid`) or a thread was started.
    Fork {
        /// The new one's process.
        pid: Pid,
        /// The new one's thread.
        tid: Tid,
        /// The process that called.
        parent: Pid,
    },
    /// A thread ended; the process has ended when its last one has.
    Exit {
        /// Which process.
        pid: Pid,
        /// Which thread.
        tid: Tid,
    },
}

/// A [`ProcessEvent`] and when it happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimedEvent {
    /// When.
    pub time: MonotonicNs,
    /// What.
    pub event: ProcessEvent,
}
