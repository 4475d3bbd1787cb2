//! The kinds of profile: what each is called, and what its values mean. One row a kind.

use super::custom::CustomProfile;

/// The type of a value: what is counted, and in which unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ValueType {
    /// What, as pprof's `-sample_index` names it.
    pub name: &'static str,
    /// Unit.
    pub unit: &'static str,
}

/// A profile that its user has named.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CustomKind {
    /// Its name.
    pub name: &'static str,
    /// Its columns: how many, and what they weigh where anything does.
    pub columns: &'static [ValueType],
    /// Something is removed: it is about what is still there.
    pub tells_what_lives: bool,
}

impl CustomKind {
    /// That of a profile. What is named by a user lives as long as the program: there are a handful.
    pub fn of(profile: &CustomProfile) -> Self {
        let name: &'static str = Box::leak(profile.name.clone().into_boxed_str());
        let mut columns = vec![ValueType { name, unit: "count" }];
        columns.extend(profile.has_weight().then_some(ValueType { name: "weight", unit: "count" }));
        Self { name, columns: Box::leak(columns.into_boxed_slice()), tells_what_lives: profile.has_removes() }
    }
}

/// A kind of profile.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Where CPU time goes, by the clock.
    Cpu,
    /// Where CPU time goes, by hardware cycles.
    CpuCycles,
    /// Where page faults are taken: who makes memory resident.
    Faults,
    /// Where address spaces grow and shrink: who asks the kernel for memory, and who gives it back.
    Mmap,
    /// File descriptors that are open, where they were got.
    Descriptors,
    /// Those of them that are sockets.
    Sockets,
    /// What was allocated, and what of it lives.
    Heap,
    /// The same, at an earlier moment of the same recording: what a difference is taken from.
    HeapBase,
    /// What was allocated.
    Allocs,
    /// Where threads are not running: asleep, or waiting for a CPU.
    OffCpu,
    /// Where threads wait for others.
    Block,
    /// Where threads let go what others wait for.
    Mutex,
    /// Where threads are started.
    ThreadCreate,
    /// Where time goes: on the CPU and off it.
    Wall,
    /// What was allocated and what of it lives, looked at from what was allocated: allocs, where heap is recorded as well.
    AllocsOfHeap,
    /// Where every thread stands at one moment.
    Threads,
    /// Where every goroutine stands at one moment.
    Goroutine,
    /// Who allocates how much of all, seen by turns: no totals.
    AllocShares,
    /// What was added, and not removed, by probes that the user has named.
    Custom(CustomKind),
}

impl Kind {
    /// The kind's name for `-e`, file names and `/debug/pprof/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu | Self::CpuCycles => "cpu",
            Self::Faults => "faults",
            Self::Mmap => "mmap",
            Self::Descriptors => "fds",
            Self::Sockets => "sockets",
            Self::OffCpu => "off-cpu",
            Self::Block => "block",
            Self::Mutex => "mutex",
            Self::ThreadCreate => "threadcreate",
            Self::Wall => "wall",
            Self::Heap => "heap",
            Self::HeapBase => "heap-base",
            Self::Allocs | Self::AllocsOfHeap => "allocs",
            Self::Threads => "threads",
            Self::Goroutine => "goroutine",
            Self::AllocShares => "alloc-shares",
            Self::Custom(custom) => custom.name,
        }
    }

    /// The columns: events first, then what they weigh.
    pub const fn sample_types(self) -> &'static [ValueType] {
        match self {
            Self::Cpu => &[ValueType { name: "samples", unit: "count" }, ValueType { name: "cpu", unit: "nanoseconds" }],
            Self::CpuCycles => &[ValueType { name: "samples", unit: "count" }, ValueType { name: "cycles", unit: "count" }],
            Self::Faults => &[ValueType { name: "faults", unit: "count" }, ValueType { name: "memory", unit: "bytes" }],
            Self::Descriptors => &[ValueType { name: "fds", unit: "count" }],
            Self::Sockets => &[ValueType { name: "sockets", unit: "count" }],
            Self::Mmap => &[
                ValueType { name: "growths", unit: "count" },
                ValueType { name: "grown_space", unit: "bytes" },
                ValueType { name: "shrinks", unit: "count" },
                ValueType { name: "shrunk_space", unit: "bytes" },
            ],
            Self::OffCpu => &[ValueType { name: "samples", unit: "count" }, ValueType { name: "offcpu", unit: "nanoseconds" }],
            Self::Wall => &[ValueType { name: "samples", unit: "count" }, ValueType { name: "wall", unit: "nanoseconds" }],
            Self::Block | Self::Mutex => {
                &[ValueType { name: "contentions", unit: "count" }, ValueType { name: "delay", unit: "nanoseconds" }]
            }
            Self::ThreadCreate => &[ValueType { name: "threadcreate", unit: "count" }],
            Self::Heap | Self::HeapBase | Self::AllocsOfHeap => &[
                ValueType { name: "alloc_objects", unit: "count" },
                ValueType { name: "alloc_space", unit: "bytes" },
                ValueType { name: "inuse_objects", unit: "count" },
                ValueType { name: "inuse_space", unit: "bytes" },
            ],
            Self::AllocShares => &[ValueType { name: "seen_objects", unit: "count" }, ValueType { name: "seen_space", unit: "bytes" }],
            Self::Allocs => &[ValueType { name: "alloc_objects", unit: "count" }, ValueType { name: "alloc_space", unit: "bytes" }],
            Self::Threads => &[ValueType { name: "threads", unit: "count" }],
            Self::Goroutine => &[ValueType { name: "goroutine", unit: "count" }],
            Self::Custom(custom) => custom.columns,
        }
    }

    /// What the period is measured in.
    pub const fn period_type(self) -> ValueType {
        match self {
            Self::Cpu => ValueType { name: "cpu", unit: "nanoseconds" },
            Self::CpuCycles => ValueType { name: "cycles", unit: "count" },
            Self::Descriptors => ValueType { name: "fds", unit: "count" },
            Self::Sockets => ValueType { name: "sockets", unit: "count" },
            Self::Mmap => ValueType { name: "space", unit: "bytes" },
            Self::Faults => ValueType { name: "faults", unit: "count" },
            Self::Threads => ValueType { name: "threads", unit: "count" },
            Self::Goroutine => ValueType { name: "goroutine", unit: "count" },
            Self::Heap | Self::HeapBase | Self::Allocs | Self::AllocsOfHeap | Self::AllocShares => {
                ValueType { name: "space", unit: "bytes" }
            }
            Self::OffCpu => ValueType { name: "offcpu", unit: "nanoseconds" },
            Self::Wall => ValueType { name: "wall", unit: "nanoseconds" },
            Self::Block | Self::Mutex => ValueType { name: "contentions", unit: "count" },
            Self::ThreadCreate => ValueType { name: "threadcreate", unit: "count" },
            Self::Custom(custom) => ValueType { name: custom.name, unit: "count" },
        }
    }

    /// What an event is called, of which there are several.
    pub const fn event(self) -> &'static str {
        match self {
            Self::Cpu | Self::CpuCycles | Self::Faults => "ticks",
            Self::Threads => "threads",
            Self::Goroutine => "goroutines",
            Self::Descriptors | Self::Sockets => "calls",
            Self::Mmap => "changes",
            Self::Heap | Self::HeapBase | Self::Allocs | Self::AllocsOfHeap | Self::AllocShares => "calls",
            Self::OffCpu | Self::Block | Self::Mutex => "waits",
            Self::Wall => "events",
            Self::ThreadCreate => "threads",
            Self::Custom(_) => "adds",
        }
    }

    /// The column that forms with one number show: the events, or bytes of memory, or time.
    pub const fn shown_column(self) -> usize {
        match self {
            Self::OffCpu | Self::Block | Self::Mutex | Self::Wall | Self::Allocs | Self::AllocsOfHeap | Self::AllocShares => 1,
            Self::Heap | Self::HeapBase => 3,
            _ => 0,
        }
    }

    /// The column that readers show unless they are asked for another.
    pub const fn default_column(self) -> usize {
        match self {
            Self::Threads | Self::Goroutine | Self::Descriptors | Self::Sockets | Self::ThreadCreate | Self::Custom(_) => 0,
            Self::Heap | Self::HeapBase => 3,
            _ => 1,
        }
    }

    /// Whether blocks that live are told from others.
    pub const fn tells_what_lives(self) -> bool {
        matches!(self, Self::Heap | Self::HeapBase | Self::AllocsOfHeap)
    }

    /// Whether it counts what is open.
    pub const fn is_of_descriptors(self) -> bool {
        matches!(self, Self::Descriptors | Self::Sockets)
    }

    /// Whether it counts blocks of memory, and not ticks.
    pub const fn is_of_blocks(self) -> bool {
        matches!(self, Self::Heap | Self::HeapBase | Self::Allocs | Self::AllocsOfHeap | Self::AllocShares)
    }

    /// Whether it shows one moment, and counts no events.
    pub const fn is_snapshot(self) -> bool {
        matches!(self, Self::Threads | Self::Goroutine)
    }

    /// Whether it counts waits, in nanoseconds.
    pub const fn is_of_waits(self) -> bool {
        matches!(self, Self::OffCpu | Self::Block | Self::Mutex | Self::Wall)
    }

    /// Whether each row is a contention, of which Go has a text form of its own.
    pub const fn is_of_contentions(self) -> bool {
        matches!(self, Self::Block | Self::Mutex)
    }

    /// What is missing where there are no samples.
    pub const fn nothing(self) -> &'static str {
        match self {
            Self::Cpu | Self::CpuCycles => "nothing that was asked for used the CPU in that time",
            Self::Threads | Self::Goroutine => "the process has none",
            Self::Descriptors | Self::Sockets => "nothing that was asked for left one open that it got in that time",
            Self::Mmap => "no address space that was asked for changed its size in that time",
            Self::Faults => "nothing that was asked for took a page fault in that time",
            Self::AllocShares => "no turn came in that time, or nothing that was asked for allocated enough in one",
            Self::OffCpu | Self::Wall => "nothing that was asked for came back from a sleep in that time",
            Self::Block => "nothing that was asked for waited for another thread in that time",
            Self::Mutex => "nobody waited for a lock of what was asked for in that time",
            Self::ThreadCreate => "nothing that was asked for started a thread in that time",
            Self::Custom(CustomKind { tells_what_lives: true, .. }) => "nothing is left that was added in that time",
            Self::Custom(_) => "nothing that was asked for came to a probe in that time",
            Self::Heap | Self::HeapBase | Self::Allocs | Self::AllocsOfHeap => {
                "nothing that was asked for allocated enough in that time; --sample-bytes 1 records every block"
            }
        }
    }
}
