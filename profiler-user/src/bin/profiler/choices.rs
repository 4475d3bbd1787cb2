//! What options choose from.

use clap::ValueEnum;

/// Kinds of profile that can be asked for.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KindArg {
    /// Where CPU time goes
    Cpu,
    /// Where page faults are taken: who makes memory resident
    Faults,
    /// Where memory is mapped: who asks the kernel for address space (growth by brk shows in faults)
    Mmap,
    /// What was allocated since the recording began, and what of it lives
    Heap,
    /// What is allocated, live or not: without a probe where blocks are freed
    Allocs,
}

/// Profiles that are ready-made, of what is added and removed.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProfileArg {
    /// File descriptors that were got and are not closed. Every system call of the machine takes longer meanwhile
    Fds,
    /// Those of them that are sockets
    Sockets,
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
