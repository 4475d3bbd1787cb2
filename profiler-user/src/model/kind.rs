//! The kinds of profile: what each is called, and what its values mean. One row a kind.

/// The type of a value: what is counted, and in which unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ValueType {
    /// What, as pprof's `-sample_index` names it.
    pub name: &'static str,
    /// Unit.
    pub unit: &'static str,
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
}

impl Kind {
    /// The kind's name for `-e`, file names and `/debug/pprof/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu | Self::CpuCycles => "cpu",
            Self::Faults => "faults",
        }
    }

    /// The columns: events first, then what they weigh. The last one is the default.
    pub const fn sample_types(self) -> &'static [ValueType] {
        match self {
            Self::Cpu => &[ValueType { name: "samples", unit: "count" }, ValueType { name: "cpu", unit: "nanoseconds" }],
            Self::CpuCycles => &[ValueType { name: "samples", unit: "count" }, ValueType { name: "cycles", unit: "count" }],
            Self::Faults => &[ValueType { name: "samples", unit: "count" }, ValueType { name: "faults", unit: "count" }],
        }
    }

    /// What the period is measured in.
    pub const fn period_type(self) -> ValueType {
        match self {
            Self::Cpu => ValueType { name: "cpu", unit: "nanoseconds" },
            Self::CpuCycles => ValueType { name: "cycles", unit: "count" },
            Self::Faults => ValueType { name: "faults", unit: "count" },
        }
    }

    /// What is missing where there are no samples.
    pub const fn nothing(self) -> &'static str {
        match self {
            Self::Cpu | Self::CpuCycles => "nothing that was asked for used the CPU in that time",
            Self::Faults => "nothing that was asked for took a page fault in that time",
        }
    }
}
