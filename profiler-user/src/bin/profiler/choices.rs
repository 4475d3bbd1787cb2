//! What options choose from.

use crate::snapshots::is_snapshot;
use clap::ValueEnum;
use profiler::config::Event;

/// Kinds of profile that can be asked for.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KindArg {
    /// Where CPU time goes
    Cpu,
    /// Where page faults are taken: who makes memory resident
    Faults,
    /// Where address spaces grow and shrink: who asks the kernel for memory (mmap, brk, mremap, a stack), and who gives it back
    Mmap,
    /// What was allocated since the recording began, and what of it lives
    Heap,
    /// What is allocated, live or not: without a probe where blocks are freed
    Allocs,
    /// Where threads are not running: they sleep, or wait for a CPU
    OffCpu,
    /// Where threads wait for other threads: locks, condition variables, joins
    Block,
    /// Where threads release locks that others wait for
    Mutex,
    /// Where threads are started
    Threadcreate,
    /// Where time goes, on the CPU (as cpu) and off it (as off-cpu), on one scale
    Wall,
    /// Where every thread of one process stands now: nothing is recorded, it is looked at once
    Threads,
    /// The same of a Go program's goroutines
    Goroutine,
}

/// Which moment is shown.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MomentArg {
    /// The end of the recording
    End,
    /// When most was in use
    Peak,
}

/// What ticks.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClockArg {
    /// The kernel's CPU clock
    CpuClock,
    /// Hardware cycles
    Cycles,
}

/// What files are split by.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SplitArg {
    /// One file a process
    Process,
}

/// Traps without work.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProbesOnlyArg {
    /// At entries
    Entries,
    /// At entries and returns
    Returns,
}

/// What is recorded, each once: the CPU unless something is asked for.
pub(crate) fn events(kinds: &[KindArg], profiles: &[Event], clock: ClockArg) -> Vec<Event> {
    let recorded = kinds.iter().filter(|kind| !is_snapshot(kind)).map(|kind| match (kind, clock) {
        (KindArg::Faults, _) => Event::PageFaults,
        (KindArg::Mmap, _) => Event::Mappings,
        (KindArg::Heap, _) => Event::Heap,
        (KindArg::Allocs, _) => Event::Allocs,
        (KindArg::OffCpu, _) => Event::OffCpu,
        (KindArg::Block, _) => Event::Block,
        (KindArg::Mutex, _) => Event::Mutex,
        (KindArg::Threadcreate, _) => Event::ThreadCreate,
        (KindArg::Wall, _) => Event::Wall,
        (KindArg::Cpu, ClockArg::Cycles) => Event::Cycles,
        (KindArg::Cpu | KindArg::Threads | KindArg::Goroutine, _) => Event::CpuClock,
    });
    let mut events: Vec<Event> = Vec::new();
    for event in recorded.chain(profiles.iter().copied()) {
        if !events.contains(&event) {
            events.push(event);
        }
    }
    if events.is_empty() && kinds.is_empty() {
        events.push(if clock == ClockArg::Cycles { Event::Cycles } else { Event::CpuClock });
    }
    events
}

/// Whether calls of allocators are probed for it.
pub(crate) fn is_of_calls(kind: &KindArg) -> bool {
    matches!(kind, KindArg::Heap | KindArg::Allocs)
}
