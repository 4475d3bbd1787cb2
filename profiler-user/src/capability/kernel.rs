//! What the kernel was built with, by its version, its types and the places where it announces features.

use super::rights::Rights;
use super::row::{Need, Row, State};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

const TYPES: &str = "/sys/kernel/btf/vmlinux";
/// The first bytes of a BTF blob (Documentation/bpf/btf.rst of the kernel), little-endian.
const MAGIC: [u8; 2] = [0x9f, 0xeb];
/// What to do where there are no types: the kernel has none, or a container shows another `/sys`.
const TYPES_ADVICE: &str = "use a kernel built with CONFIG_DEBUG_INFO_BTF=y; in a container, mount the machine's own /sys";
/// The first kernel with all that the programs use: above all `bpf_loop`, which walks every stack.
const OLDEST: (u32, u32) = (5, 17);
/// The first kernel that the profiler was tried on.
const OLDEST_TRIED: (u32, u32) = (6, 1);

/// Names whose presence among the kernel's types tells that a feature is built in.
const BTF_TRACEPOINTS: &str = "btf_trace_sched_process_fork";
const ITERATORS: &str = "bpf_iter__task_vma";
const RING_BUFFER: &str = "bpf_ringbuf";
const LOOP: &str = "BPF_FUNC_loop";
const UPROBE_MULTI: &str = "bpf_uprobe_multi_link";
const UPROBE_SESSION: &str = "BPF_TRACE_UPROBE_SESSION";
const WANTED: [&str; 6] = [BTF_TRACEPOINTS, ITERATORS, RING_BUFFER, LOOP, UPROBE_MULTI, UPROBE_SESSION];

/// What the kernel's types tell.
pub(super) struct Types(Result<HashSet<&'static str>, io::Error>);

impl Types {
    pub(super) fn read() -> Self {
        Self(read_types().map(|bytes| names_in(&bytes)))
    }

    /// What is seen of a feature whose name among the types is its sign, and what to do: nothing to either where it is there.
    fn lacks(&self, name: &str, advice: &'static str) -> Option<(State, &'static str, &'static str)> {
        match &self.0 {
            Ok(names) if names.contains(name) => None,
            Ok(_) => Some((State::Missing, "not among the kernel's types", advice)),
            // The row on the types says what to do; this one must not send anybody to another kernel.
            Err(_) => Some((State::Limited, "not known without BTF", "see the row BTF")),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_ok_and(|names| names.contains(name))
    }
}

/// The blob, or why there is none that can be used.
fn read_types() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_types()?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The open blob, of which the first bytes were looked at.
fn open_types() -> io::Result<impl io::Read> {
    let mut file = File::open(TYPES)?;
    let mut start = Vec::new();
    (&mut file).take(MAGIC.len() as u64).read_to_end(&mut start)?;
    judge(&start)?;
    Ok(io::Cursor::new(start).chain(file))
}

/// Judges a blob by its first bytes.
fn judge(start: &[u8]) -> io::Result<()> {
    let invalid = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    match start {
        [] => invalid("it is empty"),
        start if start.starts_with(&MAGIC) => Ok(()),
        _ => invalid("it is not BTF of this machine"),
    }
}

/// The kernel's types, which every recording needs, are not there.
#[derive(Debug, thiserror::Error)]
#[error("recording needs the kernel's types (BTF): {TYPES}: {source}; {TYPES_ADVICE}")]
pub struct TypesError {
    source: io::Error,
}

/// Checks that the kernel tells its types, in the words of [`rows`](super::rows).
///
/// # Errors
/// It does not; with why, and what to do.
pub fn types_for_record() -> Result<(), TypesError> {
    open_types().map(drop).map_err(|source| TypesError { source })
}

/// Which of the wanted names stand in the blob: its strings end with NUL.
fn names_in(bytes: &[u8]) -> HashSet<&'static str> {
    let strings = bytes.split(|byte| *byte == 0);
    strings.filter_map(|string| WANTED.iter().find(|wanted| wanted.as_bytes() == string).copied()).collect()
}

/// The rows on the kernel itself.
pub(super) fn base(types: &Types) -> Vec<Row> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    vec![version(release.trim()), btf(types)]
}

fn version(release: &str) -> Row {
    let row = Row::new("kernel version", Need::Record, "eBPF with all that the programs use").seen(format!("Linux {release}"));
    match parse_release(release) {
        None => row.but(State::Limited, "its version is not understood; the other rows tell what works"),
        Some(version) if version < OLDEST => row.but(State::Missing, "use Linux 6.1 or later"),
        Some(version) if version < OLDEST_TRIED => row.but(State::Limited, "it may work; Linux 6.1 or later is tried"),
        Some(_) => row,
    }
}

/// The first two numbers of `6.18.44-something`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn btf(types: &Types) -> Row {
    let row = Row::new("BTF", Need::Record, "where the kernel keeps what the programs read");
    match &types.0 {
        Ok(_) => row.seen(TYPES),
        Err(error) => row.seen(format!("{TYPES}: {error}")).but(State::Missing, TYPES_ADVICE),
    }
}

/// The rows on what programs can be attached to and can use.
pub(super) fn programs(types: &Types, rights: &Rights) -> Vec<Row> {
    let by_types = |feature, need, purpose, name, advice| {
        let row = Row::new(feature, need, purpose);
        match types.lacks(name, advice) {
            None => row,
            Some((state, seen, advice)) => row.seen(seen).but(state, advice),
        }
    };
    let device = |kind: &str| Path::new("/sys/bus/event_source/devices").join(kind).join("type").exists();
    let multi = types.has(UPROBE_MULTI);
    vec![
        by_types("ring buffer", Need::Record, "samples on their way to user space", RING_BUFFER, "use Linux 5.8 or later"),
        by_types(
            "tracepoints, raw and BTF",
            Need::Record,
            "following the children of a process",
            BTF_TRACEPOINTS,
            "use a kernel built with CONFIG_BPF_EVENTS=y",
        ),
        by_types("iterators", Need::Feature, "threads where they stand, and their mappings", ITERATORS, "use Linux 5.12 or later"),
        by_types("bpf_loop", Need::Record, "walking stacks", LOOP, "use Linux 5.17 or later"),
        uprobes(device("uprobe"), multi, rights),
        by_types(
            "uprobe multi",
            Need::Feature,
            "many probes at once, without CAP_SYS_ADMIN",
            UPROBE_MULTI,
            "use Linux 6.6 or later, built with CONFIG_UPROBES=y",
        ),
        by_types("uprobe session", Need::Feature, "entry and return of a function in one probe", UPROBE_SESSION, "use Linux 6.13 or later"),
        kprobes(device("kprobe")),
        lockdown(&std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default()),
    ]
}

fn uprobes(has_device: bool, has_multi: bool, rights: &Rights) -> Row {
    let row = Row::new("uprobes", Need::Feature, "probes in programs and libraries");
    match (has_device, rights.is_admin() || has_multi) {
        (true, true) => row,
        (true, false) => row
            .seen("they need CAP_SYS_ADMIN here")
            .but(State::Limited, "run it as root, or use Linux 6.6 or later, whose uprobe multi does not need it"),
        (false, _) => row.seen("the kernel has none").but(State::Missing, "use a kernel built with CONFIG_UPROBE_EVENTS=y"),
    }
}

fn kprobes(has_device: bool) -> Row {
    let row = Row::new("kprobes", Need::Feature, "probes in the kernel; everything has another way");
    if has_device {
        row
    } else {
        row.seen("the kernel has none").but(State::Missing, "nothing needs them; a kernel built with CONFIG_KPROBE_EVENTS=y has them")
    }
}

/// `none [integrity] confidentiality`: the one in brackets is in force (kernel_lockdown(7)).
fn lockdown(text: &str) -> Row {
    let row = Row::new("lockdown", Need::Record, "reading the kernel's memory in programs");
    let mode = text.split(['[', ']']).nth(1).unwrap_or("not in this kernel, or securityfs is not mounted");
    let row = row.seen(mode);
    if mode != "confidentiality" {
        return row;
    }
    row.but(State::Missing, "boot with lockdown=integrity, or without; the mode cannot be left while the machine runs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_judged() {
        let state = |release: &str| version(release).state;
        assert_eq!([state("6.18.44-fc-v669"), state("6.1.0"), state("10.0-rc1")], [State::Ok; 3]);
        assert_eq!([state("5.17.0-91-generic"), state("6.0"), state("what"), state("")], [State::Limited; 4]);
        assert_eq!([state("5.16.20"), state("4.18.0-553.el8")], [State::Missing; 2]);
    }

    #[test]
    fn only_whole_names_count() {
        let names = names_in(b"\x9f\xeb\x01\0bpf_ringbuf_map\0bpf_ringbuf\0xBPF_FUNC_loop\0");
        assert_eq!(names, HashSet::from([RING_BUFFER]));
    }

    #[test]
    fn a_kernel_without_types_is_said_to_have_none() {
        let types = Types(Err(io::Error::from(io::ErrorKind::NotFound)));
        assert!(btf(&types).forbids_recording());
        assert!(!types.has(LOOP));
        let rows = programs(&types, &Rights::own());
        let others = rows.iter().filter(|row| row.feature != "lockdown" && row.forbids_recording()).map(|row| row.feature);
        assert_eq!(others.collect::<Vec<_>>(), [""; 0], "what is not known is not said to be missing");
    }

    #[test]
    fn a_blob_is_judged_by_its_first_bytes() {
        let why = |start: &[u8]| judge(start).err().map(|error| error.to_string());
        assert_eq!(why(&MAGIC), None);
        assert_eq!(why(b""), Some("it is empty".to_owned()));
        assert_eq!(why(b"\x9f"), Some("it is not BTF of this machine".to_owned()));
        assert_eq!(why(b"\xeb\x9f"), Some("it is not BTF of this machine".to_owned()));
        assert!(types_for_record().is_ok(), "this kernel has types");
    }

    #[test]
    fn only_the_strictest_lockdown_forbids_recording() {
        assert!(lockdown("none integrity [confidentiality]\n").forbids_recording());
        for text in ["[none] integrity confidentiality\n", "none [integrity] confidentiality\n", ""] {
            assert_eq!(lockdown(text).state, State::Ok, "{text}");
        }
    }
}
