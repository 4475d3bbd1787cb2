//! Who a sample belongs to.

use std::sync::Arc;

pub use profiler_common::process::ProcessKey;

/// A process id (`tgid` on the wire), in the pid namespace that the profiler runs in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pid(pub u32);

/// A thread id (`tid` on the wire).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tid(pub u32);

/// A process image in the table of a window: an index into [`super::window::Window::processes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProcessId(pub u32);

/// What is known of a process image when its samples are written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Process id.
    pub pid: Pid,
    /// Name of the process: the `comm` of its group leader. Bytes of a stranger, made valid UTF-8; not escaped.
    pub comm: Arc<str>,
    /// Labels of the process: container, unit, control group.
    pub labels: Arc<[super::label::Label]>,
    /// The mapping of its main binary, if it was seen.
    pub main: Option<super::mapping::MappingId>,
    /// How it has ended, if it was seen to.
    pub ended: Option<ImageEnd>,
}

/// How a process image ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ImageEnd {
    /// Its process has ended.
    Exit,
    /// Its process has become another program.
    Exec,
}

impl ImageEnd {
    /// What a label says.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Exec => "exec",
        }
    }
}
