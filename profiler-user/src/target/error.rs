//! Why something that was asked for cannot be recorded.

use std::io;
use std::path::PathBuf;

/// Why something that was asked for cannot be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No process has that id.
    #[error("no such process: {pid}; it may have ended")]
    NoProcess {
        /// The id.
        pid: u32,
    },
    /// The process has ended and only waits for its parent.
    #[error("process {pid} has ended (it is a zombie): there is nothing to record")]
    Zombie {
        /// The id.
        pid: u32,
    },
    /// The id is that of a thread.
    #[error("{tid} is a thread of process {pid}; give {pid} (record --per-thread tells its threads apart)")]
    Thread {
        /// The thread.
        tid: u32,
        /// Its process.
        pid: u32,
    },
    /// The mounted hierarchies of control groups could not be read.
    #[error("reading {path}: {source}")]
    Hierarchies {
        /// The file.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// There is no such control group.
    #[error("no control group {path:?}; give a folder below a mounted hierarchy (for example {example}), or a path as in /proc/PID/cgroup")]
    NoCgroup {
        /// What was given.
        path: PathBuf,
        /// A hierarchy that is mounted here.
        example: String,
    },
    /// Its depth in the whole hierarchy is hidden.
    #[error(
        "control group {path:?}: in a cgroup namespace its place in the whole hierarchy is hidden; run the profiler in the machine's own (docker run --cgroupns=host)"
    )]
    CgroupNamespace {
        /// The group.
        path: PathBuf,
    },
    /// The ids that we see are not those that the kernel counts by.
    #[error(
        "processes cannot be told apart from inside a pid namespace; run the profiler in the machine's own (docker run --pid=host, hostPID: true)"
    )]
    PidNamespace,
    /// There is no such container.
    #[error("no container whose id begins with {id:?}; {looked_at} control groups were looked at")]
    NoContainer {
        /// What was given.
        id: String,
        /// How many groups there are.
        looked_at: usize,
    },
    /// Several containers match.
    #[error("several containers have an id that begins with {id:?}: {candidates}; give more of it")]
    AmbiguousContainer {
        /// What was given.
        id: String,
        /// The ids that match.
        candidates: String,
    },
    /// Several units have this name.
    #[error("several units are called {name}: {candidates}; choose one with --cgroup")]
    AmbiguousUnit {
        /// The name.
        name: String,
        /// The groups that match.
        candidates: String,
    },
    /// There is no such unit.
    #[error("no unit {name} has a control group; is it active? (systemctl status {name})")]
    NoUnit {
        /// Its name.
        name: String,
    },
    /// A pattern of names that no name can match.
    #[error("--comm {pattern:?}: a process name has 1 to 15 bytes; use * for the rest of a longer one")]
    BadComm {
        /// What was given.
        pattern: String,
    },
    /// More targets than the programs have room for.
    #[error("at most {max} {what} can be recorded at once")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
}
