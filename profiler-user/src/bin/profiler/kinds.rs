//! The words behind -e and --clock.

use clap::ValueEnum;

/// Kinds of profile that can be asked for.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KindArg {
    /// Where CPU time goes
    Cpu,
    /// Where page faults are taken: who makes memory resident
    Faults,
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
}

/// What ticks.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClockArg {
    /// The kernel's CPU clock
    CpuClock,
    /// Hardware cycles
    Cycles,
}
