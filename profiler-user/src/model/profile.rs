//! A symbolized profile, in no format yet: the last noun before bytes.

use super::answer::GoPlace;
use super::entry_points::EntryPoints;
use super::kind::{Kind, ValueType};
use super::label::Label;
use super::loss::{Balance, Endings, Losses};
use super::process::Pid;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How the comment begins that says that sums are not those of an undisturbed program.
pub const TOTALS_WITHHELD: &str = "totals are withheld";

/// Why a frame has no name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Unresolved {
    /// The file has no symbol for it, and nothing else knows it.
    NoSymbol,
    /// The file was gone before it could be opened.
    FileGone,
    /// The file is not one that may be opened: a FIFO, a device, too large.
    FileRefused,
    /// The file made the reader fail or exceed its time.
    FileBad,
    /// Memory without a file, and no perf map that names it.
    NoPerfMap,
    /// The kernel's symbols are hidden from us (`kptr_restrict`, no CAP_SYSLOG).
    KernelHidden,
}

impl Unresolved {
    /// A few words for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoSymbol => "no symbol",
            Self::FileGone => "file gone",
            Self::FileRefused => "file refused",
            Self::FileBad => "file unreadable",
            Self::NoPerfMap => "no perf map",
            Self::KernelHidden => "kernel symbols hidden",
        }
    }
}

/// A function.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Function {
    /// Readable name.
    pub name: Arc<str>,
    /// Linkage name; the same as `name` when there is only one.
    pub system_name: Arc<str>,
    /// Source file, or empty.
    pub filename: Arc<str>,
    /// Line of its declaration, or 0.
    pub start_line: u32,
}

/// A place in a function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Line {
    /// Index into [`Profile::functions`].
    pub function: usize,
    /// Line, or 0.
    pub line: u32,
    /// Column, or 0.
    pub column: u32,
    /// What Go's own table says of it.
    pub go: Option<GoPlace>,
}

/// A mapping as the profile shows it: no two overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProfileMapping {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub limit: u64,
    /// Offset in the file of the first byte.
    pub file_offset: u64,
    /// Path or bracketed name.
    pub filename: Arc<str>,
    /// GNU build id in lower-case hex, or empty.
    pub build_id: Arc<str>,
}

/// One address of code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location {
    /// Index into [`Profile::mappings`].
    pub mapping: Option<usize>,
    /// An address within the mapping.
    pub address: u64,
    /// The functions at the address, innermost inlined one first, or why there are none.
    pub lines: Result<Vec<Line>, Unresolved>,
}

/// Sampled blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RawBlocks {
    /// How many were allocated.
    pub allocated: i64,
    /// Their bytes.
    pub allocated_bytes: i64,
    /// How many of them live.
    pub in_use: i64,
    /// Their bytes.
    pub in_use_bytes: i64,
}

impl RawBlocks {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.allocated += other.allocated;
        self.allocated_bytes += other.allocated_bytes;
        self.in_use += other.in_use;
        self.in_use_bytes += other.in_use_bytes;
    }
}

/// Events of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Indexes into [`Profile::locations`], leaf first.
    pub locations: Vec<usize>,
    /// How many of them, from the leaf on, are a runtime's own: a profile of blocks is about who asked it. Only the form that lists addresses has them.
    pub hidden: usize,
    /// As many as [`Profile::sample_types`].
    pub values: Vec<i64>,
    /// The sampled blocks themselves, where blocks are counted and `values` says what they stand for.
    pub raw: Option<RawBlocks>,
    /// Index into [`Profile::processes`]; none for what was lost.
    pub process: Option<usize>,
    /// Labels, the process's among them; no key twice.
    pub labels: Vec<Label>,
}

/// A process of the profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProfileProcess {
    /// Process id.
    pub pid: Pid,
    /// Name.
    pub comm: Arc<str>,
    /// Its main binary: an index into [`Profile::mappings`].
    pub main: Option<usize>,
}

/// A symbolized profile.
#[derive(Clone, PartialEq, Debug)]
pub struct Profile {
    /// Kind of profile.
    pub kind: Kind,
    /// The columns.
    pub sample_types: Vec<ValueType>,
    /// What the period is measured in.
    pub period_type: ValueType,
    /// The period.
    pub period: i64,
    /// When it began.
    pub start: SystemTime,
    /// How long it was.
    pub duration: Duration,
    /// The samples.
    pub samples: Vec<Sample>,
    /// Mappings.
    pub mappings: Vec<ProfileMapping>,
    /// Locations.
    pub locations: Vec<Location>,
    /// Functions.
    pub functions: Vec<Function>,
    /// Processes.
    pub processes: Vec<ProfileProcess>,
    /// Functions that [`Self::drops`] knows.
    pub entry_points: EntryPoints,
    /// Lines for the reader: our options, the kernel, the losses.
    pub comments: Vec<String>,
    /// What did not arrive.
    pub losses: Losses,
    /// How stacks ended, by samples.
    pub endings: Endings,
    /// The conservation sum.
    pub balance: Balance,
    /// It is one process's part of a recording. What was lost, how stacks ended and the sum are not told apart by process, so they are then the whole
    /// recording's, and none of it is among these samples.
    pub is_part: bool,
}

impl Sample {
    /// The locations that names are shown of, leaf first.
    pub fn shown(&self) -> &[usize] {
        self.locations.get(self.hidden..).unwrap_or_default()
    }
}

impl Profile {
    /// Whether a function is dropped from a stack with all that it calls, as [`Self::drop_frames`] says it to other readers.
    pub fn drops(&self, name: &str) -> bool {
        self.kind.is_of_blocks() && self.entry_points.has(name)
    }

    /// Functions that are left out at the leaf's end of a stack, with all that they call: a pattern for a whole name, in the syntax of RE2. Empty: none.
    pub fn drop_frames(&self) -> String {
        if self.kind.is_of_blocks() { self.entry_points.pattern() } else { String::new() }
    }

    /// Finds the first thing that a reader of the profile could trip over.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        for (at, sample) in self.samples.iter().enumerate() {
            if sample.values.len() != self.sample_types.len() {
                return Err(format!("sample {at} has {} values for {} types", sample.values.len(), self.sample_types.len()));
            }
            if let Some(location) = sample.locations.iter().find(|location| **location >= self.locations.len()) {
                return Err(format!("sample {at} refers to location {location} of {}", self.locations.len()));
            }
            if sample.process.is_some_and(|process| process >= self.processes.len()) {
                return Err(format!("sample {at} refers to a process that is not there"));
            }
        }
        for (at, location) in self.locations.iter().enumerate() {
            if location.mapping.is_some_and(|mapping| mapping >= self.mappings.len()) {
                return Err(format!("location {at} refers to a mapping that is not there"));
            }
            if let Ok(lines) = &location.lines
                && (lines.is_empty() || lines.iter().any(|line| line.function >= self.functions.len()))
            {
                return Err(format!("location {at} has no line, or one of a function that is not there"));
            }
        }
        Ok(())
    }

    /// Sum of a column over all samples.
    pub fn total(&self, column: usize) -> i64 {
        self.samples.iter().map(|sample| sample.values[column]).sum()
    }
}
