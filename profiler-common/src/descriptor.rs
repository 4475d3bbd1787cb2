//! File descriptors that a process got while it was watched, and has not closed.

use crate::tally::TallyKey;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DescriptorKey {
    /// Its number.
    pub number: u32,
    /// The process, which has its descriptors also when it becomes another program.
    pub tgid: u32,
    /// When its leader started, on `CLOCK_BOOTTIME`.
    pub start_boot_ns: u64,
}

/// A descriptor that is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Descriptor {
    /// Where it is counted; what it is, is its class there.
    pub tally: TallyKey,
    /// When it was got, on `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// 1: it is closed when the process becomes another program.
    pub closes_at_exec: u64,
}

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $label:literal;)*) => {
        /// What a descriptor is of.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u64)]
        pub enum DescriptorType { $($(#[$doc])* $name = $number,)* }

        impl DescriptorType {
            /// One word for people.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }

        impl TryFrom<u64> for DescriptorType {
            type Error = u64;
            fn try_from(number: u64) -> Result<Self, u64> {
                match number { $($number => Ok(Self::$name),)* other => Err(other) }
            }
        }
    };
}

types! {
    /// What was opened by a name.
    File = 1, "file";
    /// One end of a connection, or what waits for some.
    Socket = 2, "socket";
    /// One end of a pipe.
    Pipe = 3, "pipe";
    /// Another number of a descriptor.
    Duplicate = 4, "duplicate";
    /// What tells of events: epoll, eventfd, timerfd, signalfd, inotify, userfaultfd, fanotify, pidfd.
    Events = 5, "events";
    /// Memory without a name.
    Memory = 6, "memory";
    /// A kernel object: of bpf, perf, io_uring, mounts, message queues.
    Object = 7, "object";
}
