//! What can go wrong at the border, and what to do about it.

use std::io;

/// Why capturing could not begin, or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BpfError {
    /// The kernel's type information could not be read.
    #[error("reading the kernel's types from {path}: {source}; the kernel must be built with CONFIG_DEBUG_INFO_BTF=y")]
    Btf {
        /// Where it should be.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The kernel's type information lacks something that is needed.
    #[error("the kernel's types have no {what}; recording needs Linux 6.1 or later (tried up to 6.18), and this is Linux {}", release())]
    BtfMember {
        /// A structure and its member.
        what: String,
    },
    /// A perf event could not be opened.
    #[error("opening the {event} event on CPU {cpu}: {source}{}", advice(source))]
    PerfEvent {
        /// Which event.
        event: &'static str,
        /// On which CPU.
        cpu: u32,
        /// Why not.
        source: io::Error,
    },
    /// The programs or their maps could not be loaded.
    #[error("loading the eBPF programs: {0}")]
    Load(String),
    /// The kernel has no links of many probes.
    #[error(
        "-e heap, -e allocs and custom profiles need Linux 6.6 or later (uprobes for many functions by one link), and this is Linux {}",
        release()
    )]
    NoProbeLinks,
    /// The kernel's verifier does not follow programs that build stacks in a place they claim.
    #[error(
        "-e mmap, off-cpu, block, mutex, wall and threadcreate, and --profile, need Linux 6.6 or later, and this is Linux {}",
        release()
    )]
    TooOldToTrace,
    /// The kernel does not tell a tracepoint's program which of several it is.
    #[error("tracepoints in custom profiles need Linux 6.10 or later, and this is Linux {}; uprobe: and usdt: need 6.6", release())]
    TooOldForTracepoints,
    /// The kernel does not say how long programs run.
    #[error(
        "--max-overhead: the kernel does not tell how often and how long probes run ({0}); it tells root, whoever has CAP_SYS_ADMIN, \
         or everybody where kernel.bpf_stats_enabled=1 is set"
    )]
    NoStatistics(String),
    /// A probe of a custom profile has no place.
    #[error("{0}")]
    Custom(String),
    /// Probes could not be set in a process.
    #[error("setting probes in process {pid}: {source}{}", probe_advice(source))]
    Probe {
        /// Which process.
        pid: u32,
        /// Why not.
        source: io::Error,
    },
    /// The ring of an event could not be mapped.
    #[error("mapping the ring of {what}: {source}; the limit on locked memory (ulimit -l) or kernel.perf_event_mlock_kb may be too low")]
    Ring {
        /// Whose ring.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A map could not be read or written.
    #[error("using the map {map}: {reason}")]
    Map {
        /// Which map.
        map: &'static str,
        /// Why not.
        reason: String,
    },
    /// The list of CPUs could not be read.
    #[error("reading the list of CPUs from /sys/devices/system/cpu/online: {0}")]
    Cpus(io::Error),
}

impl BpfError {
    /// Whether it is that a process has ended meanwhile.
    pub fn is_of_ended_process(&self) -> bool {
        matches!(self, Self::Probe { source, .. } if source.raw_os_error() == Some(libc::ESRCH))
    }
}

/// Whether the kernel is older than all on which programs of probes are known to load.
pub(super) fn is_before_probes() -> bool {
    is_before((6, 6))
}

/// Whether the kernel is older than a release.
pub(super) fn is_before((major, minor): (u32, u32)) -> bool {
    let release = release();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) < (Some(major), Some(minor))
}

/// What the kernel calls itself.
fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn probe_advice(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => "; CAP_PERFMON and CAP_BPF are needed, or root",
        Some(libc::ESRCH) => "; it has ended",
        _ => "",
    }
}

fn advice(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => "; CAP_PERFMON is needed, or root",
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV) => "; this machine has no such counter: use --clock cpu-clock",
        Some(libc::EMFILE) => "; the limit on open files (ulimit -n) is too low",
        _ => "",
    }
}
