//! What the machine has and how it is set: perf events, limits, namespaces, what of the kernel and of processes can be read.

use super::rights::Rights;
use super::row::{Need, Row, State};
use crate::sys::probe::{CPU_CLOCK, CPU_CYCLES, TYPE_HARDWARE, TYPE_SOFTWARE, perf_event_open};
use rustix::process::{Resource, getrlimit};
use std::io::{self, Read as _};
use std::path::Path;

/// Beyond it some distributions' kernels leave perf events to CAP_SYS_ADMIN; the plain kernel knows no more than 2.
const PARANOID_PLAIN_MAX: i64 = 2;
/// What `kernel.perf_event_mlock_kb` is unless somebody changes it: 512 KiB and a page, each user and CPU.
const MLOCK_DEFAULT_KB: i64 = 516;
/// Locked memory that the rings of a large machine fit into, bytes.
const MEMLOCK_PLENTY: u64 = 8 << 20;
/// Bytes of kallsyms that are looked at: where addresses are hidden, all are zero.
const KALLSYMS_LOOK: u64 = 64 << 10;
/// Descriptors of a recording: those of each CPU, and files, pipes and programs.
const DESCRIPTORS_A_CPU: u64 = 4;
const DESCRIPTORS: u64 = 256;
/// With fewer nothing can be recorded, or names are missing without a word.
const DESCRIPTORS_MIN: u64 = 64;
const DESCRIPTORS_MIN_A_CPU: u64 = 2;
/// A rate that people ask for.
const USUAL_RATE_HZ: i64 = 997;
/// The inodes of the machine's own namespaces (include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";
const INITIAL_CGROUP_NAMESPACE: &str = "cgroup:[4026531835]";

fn number(path: &str) -> Option<i64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The rows on perf events.
pub(super) fn perf_events(rights: &Rights) -> Vec<Row> {
    let cpu = u32::try_from(rustix::thread::sched_getcpu()).unwrap_or(0);
    let clock = perf_event_open(TYPE_SOFTWARE, CPU_CLOCK, cpu).map(drop);
    let cycles = perf_event_open(TYPE_HARDWARE, CPU_CYCLES, cpu).map(drop);
    let level = number("/proc/sys/kernel/perf_event_paranoid");
    vec![paranoid(level, &clock, *rights), cpu_clock(&clock), hardware_cycles(&cycles)]
}

fn paranoid(level: Option<i64>, clock: &io::Result<()>, rights: Rights) -> Row {
    let row = Row::new("perf_event_paranoid", Need::Feature, "who may open perf events without CAP_PERFMON");
    match level {
        None => row.seen("the kernel has no perf events").but(State::Missing, "use a kernel built with CONFIG_PERF_EVENTS=y"),
        Some(level) if level > PARANOID_PLAIN_MAX && clock.is_err() && !rights.is_admin() => row
            .seen(format!("{level}"))
            .but(State::Limited, "this kernel may leave perf events to CAP_SYS_ADMIN: sudo sysctl kernel.perf_event_paranoid=2"),
        Some(level) => row.seen(format!("{level}")),
    }
}

fn cpu_clock(result: &io::Result<()>) -> Row {
    let row = Row::new("perf events: cpu-clock", Need::Record, "the clock that ticks everywhere");
    match result {
        Ok(()) => row,
        Err(error) => {
            let advice = match error.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => "CAP_PERFMON is needed, and a container's seccomp filter must allow perf_event_open",
                Some(libc::EMFILE | libc::ENFILE) => "raise the limit on open files (ulimit -n)",
                _ => "use a kernel built with CONFIG_PERF_EVENTS=y",
            };
            row.seen(error.to_string()).but(State::Missing, advice)
        }
    }
}

fn hardware_cycles(result: &io::Result<()>) -> Row {
    let row = Row::new("perf events: hardware cycles", Need::Feature, "--clock cycles");
    match result {
        Ok(()) => row,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            row.seen(error.to_string()).but(State::Missing, "CAP_PERFMON is needed")
        }
        Err(error) => row
            .seen(error.to_string())
            .but(State::Missing, "this machine has no counters, or its hypervisor hides them; --clock cpu-clock does without"),
    }
}

/// The rows on what surrounds the profiler.
pub(super) fn surroundings() -> Vec<Row> {
    let is_initial = |kind: &str, initial: &str| {
        std::fs::read_link(Path::new("/proc/self/ns").join(kind)).map_or(true, |link| link == Path::new(initial))
    };
    vec![
        memlock(getrlimit(Resource::Memlock).current, number("/proc/sys/kernel/perf_event_mlock_kb")),
        open_files(getrlimit(Resource::Nofile).current, cpus()),
        sample_rate(number("/proc/sys/kernel/perf_event_max_sample_rate")),
        kallsyms(),
        map_files(),
        // With hidepid another user's process is as if it were not there; the first process is root's.
        visible_processes(std::fs::metadata("/proc/1").is_ok()),
        pid_namespace(is_initial("pid", INITIAL_PID_NAMESPACE)),
        cgroup_namespace(is_initial("cgroup", INITIAL_CGROUP_NAMESPACE)),
    ]
}

/// The rings of perf events count against both limits together; `None` is no limit.
fn memlock(limit: Option<u64>, perf_kb: Option<i64>) -> Row {
    let row = Row::new("memlock", Need::Feature, "the rings of perf events");
    let seen = limit.map_or_else(|| "unlimited".to_owned(), |limit| format!("{} KiB", limit >> 10));
    let row = row.seen(format!("{seen}, kernel.perf_event_mlock_kb {}", perf_kb.unwrap_or(0)));
    let is_plenty = limit.is_none_or(|limit| limit >= MEMLOCK_PLENTY) || perf_kb.is_some_and(|kb| kb >= MLOCK_DEFAULT_KB);
    if is_plenty { row } else { row.but(State::Limited, "sudo sysctl kernel.perf_event_mlock_kb=516, or raise ulimit -l") }
}

/// A CPU takes a few descriptors, and the files that names come from are open meanwhile.
fn open_files(limit: Option<u64>, cpus: u64) -> Row {
    let purpose = "an event a CPU, and the files that names come from";
    let need = if are_too_few(limit, cpus) { Need::Record } else { Need::Feature };
    let row = Row::new("open files", need, purpose).seen(limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string()));
    let wanted = descriptors_wanted(cpus);
    match limit {
        Some(limit) if limit < wanted => {
            row.but(if need == Need::Record { State::Missing } else { State::Limited }, format!("ulimit -n {wanted}"))
        }
        _ => row,
    }
}

/// Descriptors that a recording never lacks.
fn descriptors_wanted(cpus: u64) -> u64 {
    (DESCRIPTORS + DESCRIPTORS_A_CPU * cpus).next_power_of_two()
}

fn are_too_few(limit: Option<u64>, cpus: u64) -> bool {
    limit.is_some_and(|limit| limit < DESCRIPTORS_MIN + DESCRIPTORS_MIN_A_CPU * cpus)
}

/// The limit on open files is so low that nothing can be recorded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("recording needs more open files than the limit of {limit} allows: raise it (ulimit -n {wanted})")]
pub struct OpenFilesError {
    limit: u64,
    wanted: u64,
}

/// Checks the limit on open files.
///
/// # Errors
/// It is too low; with one that suffices.
pub fn open_files_for_record() -> Result<(), OpenFilesError> {
    let (limit, cpus) = (getrlimit(Resource::Nofile).current, cpus());
    match limit {
        Some(limit) if are_too_few(Some(limit), cpus) => Err(OpenFilesError { limit, wanted: descriptors_wanted(cpus) }),
        _ => Ok(()),
    }
}

/// CPUs, each of which has events of its own; not only those that this process may run on.
fn cpus() -> u64 {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let parts = online.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<u64>().ok()?.saturating_sub(first.parse().ok()?).saturating_add(1))
    });
    parts.sum::<u64>().max(1)
}

fn sample_rate(hz: Option<i64>) -> Row {
    let row = Row::new("sample rate", Need::Feature, "how high -F can be, up to 10000")
        .seen(hz.map_or_else(String::new, |hz| format!("at most {hz} Hz")));
    if hz.is_none_or(|hz| hz >= USUAL_RATE_HZ) {
        return row;
    }
    row.but(State::Limited, "the kernel lowers it under load: sudo sysctl kernel.perf_event_max_sample_rate=100000, or a lower -F")
}

fn visible_processes(are_visible: bool) -> Row {
    let row = Row::new("processes in /proc", Need::Feature, "names and labels of other users' processes");
    if are_visible { row } else { row.seen("they are hidden: mounted with hidepid").but(State::Limited, "CAP_SYS_PTRACE sees them") }
}

fn kallsyms() -> Row {
    let row = Row::new("kallsyms", Need::Feature, "names of the kernel's functions");
    let mut text = String::new();
    let read = std::fs::File::open("/proc/kallsyms").and_then(|file| file.take(KALLSYMS_LOOK).read_to_string(&mut text));
    match read {
        Err(error) => row.seen(error.to_string()).but(State::Missing, "use a kernel built with CONFIG_KALLSYMS=y"),
        Ok(_) if has_addresses(&text) => row,
        Ok(_) => row.seen("its addresses are hidden").but(State::Missing, "CAP_SYSLOG is needed, and kernel.kptr_restrict below 2"),
    }
}

/// Lines of address, kind and name: whether an address is not zero.
fn has_addresses(text: &str) -> bool {
    text.lines().any(|line| line.split(' ').next().is_some_and(|address| address.bytes().any(|digit| digit != b'0')))
}

fn map_files() -> Row {
    let row = Row::new("map_files", Need::Feature, "the very file that is mapped, in containers and after an upgrade too");
    let first = std::fs::read_dir("/proc/self/map_files")
        .and_then(|mut entries| entries.next().unwrap_or_else(|| Err(io::ErrorKind::NotFound.into())));
    match first.and_then(|entry| std::fs::File::open(entry.path())) {
        Ok(_) => row,
        Err(error) => {
            row.seen(error.to_string()).but(State::Limited, "CAP_CHECKPOINT_RESTORE is needed; without it files are found by their paths")
        }
    }
}

fn pid_namespace(is_initial: bool) -> Row {
    let row = Row::new("pid namespace", Need::Record, "process ids as the kernel counts them");
    if is_initial {
        row
    } else {
        row.seen("not the machine's own").but(State::Missing, "run it in the machine's own (docker run --pid=host, hostPID: true)")
    }
}

fn cgroup_namespace(is_initial: bool) -> Row {
    let row = Row::new("cgroup namespace", Need::Feature, "--cgroup, --container and --unit");
    if is_initial {
        row
    } else {
        row.seen("not the machine's own").but(State::Limited, "run it in the machine's own (docker run --cgroupns=host)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(number: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(number))
    }

    #[test]
    fn hidden_addresses_are_told_from_shown_ones() {
        assert!(!has_addresses("0000000000000000 A fixed_percpu_data\n0000000000000000 T _text\n"));
        assert!(has_addresses("0000000000000000 A fixed_percpu_data\nffffffff81000000 T _text\n"));
        assert!(!has_addresses(""));
    }

    #[test]
    fn a_clock_that_does_not_open_forbids_recording_and_says_why() {
        let row = cpu_clock(&refused(libc::EACCES));
        assert!(row.forbids_recording() && row.advice.contains("CAP_PERFMON"));
        assert!(cpu_clock(&refused(libc::EMFILE)).advice.contains("ulimit -n"));
        assert_eq!(cpu_clock(&Ok(())).state, State::Ok);
    }

    #[test]
    fn a_machine_without_counters_still_records() {
        let row = hardware_cycles(&refused(libc::ENOENT));
        assert!(row.state == State::Missing && !row.forbids_recording() && row.advice.contains("cpu-clock"));
    }

    #[test]
    fn a_small_limit_is_small_only_where_perf_has_none_of_its_own() {
        assert_eq!(memlock(Some(64 << 10), Some(516)).state, State::Ok);
        assert_eq!(memlock(None, Some(0)).state, State::Ok);
        assert_eq!(memlock(Some(64 << 10), Some(0)).state, State::Limited);
    }

    #[test]
    fn a_foreign_pid_namespace_forbids_recording() {
        assert!(pid_namespace(false).forbids_recording());
        assert!(!cgroup_namespace(false).forbids_recording());
    }

    #[test]
    fn limits_are_judged_by_what_a_recording_takes() {
        assert_eq!(open_files(Some(128), 2).advice, "ulimit -n 512");
        assert!(open_files(Some(64), 2).forbids_recording() && !open_files(Some(128), 2).forbids_recording());
        assert!(cpus() >= std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64));
        assert_eq!([open_files(Some(1024), 64).state, open_files(None, 4096).state], [State::Ok; 2]);
        assert_eq!(open_files(Some(1024), 400).state, State::Limited);
        assert_eq!([sample_rate(Some(99)).state, visible_processes(false).state], [State::Limited; 2]);
        assert_eq!([sample_rate(Some(100_000)).state, sample_rate(None).state, visible_processes(true).state], [State::Ok; 3]);
    }
}
