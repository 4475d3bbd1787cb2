//! The compiled programs: embedded, given the constants of the run, loaded, and the followers attached.

use super::arena::Arena;
use super::counters::Cells;
use super::custom::CustomProbes;
use super::descriptors::Descriptors;
use super::error::{BpfError, is_before_probes};
use super::hold::Hold;
use super::live_blocks::LiveBlocks;
use super::options::CaptureOptions;
use super::probes::Probes;
use super::tallies::Tallies;
use super::targets::Targets;
use super::threads::ThreadIterator;
use super::traced::{Hook, hooks_of};
use super::trap_cost::{TrapAccount, TrapCost};
use super::waits::{self, Waits};
use crate::config::{Event, ProbeWork, Tick, Traced};
use crate::model::process::Pid;
use aya::maps::{Array, HashMap, Map, MapData, MapError, RingBuf};
use aya::programs::{BtfTracePoint, FExit, Iter, PerfEvent, Program, RawTracePoint};
use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel};
use profiler_common::limits::{
    CUSTOM_SITES_MAX, LOCKS_MAX, OPEN_DESCRIPTORS_MAX, OWN_PROCESSES_MAX, PENDING_CALLS_MAX, PROBE_PLACES_PER_CPU, SITES_MAX, SLEEPS_MAX,
    TARGET_CGROUPS_MAX, TARGET_COMMS_MAX,
};
use profiler_common::tally::{COUNTING_ALL, COUNTING_NOTHING, COUNTING_RETURNS};
use profiler_common::target::{TARGET_PROCESSES, TargetCgroup, TargetComm};
use profiler_common::unwind::range::ProcessRanges;
use profiler_common::wait::WAITS_MUTEX;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use zerocopy::IntoBytes as _;

/// The object that `cargo xtask ebpf` built from `profiler-ebpf`; 8-byte aligned, as an ELF file must be to be read in place.
#[cfg(not(target_arch = "aarch64"))]
pub static EMBEDDED_OBJECT: &[u8] = aya::include_bytes_aligned!("object/profiler.bpf.o");
/// The same, for arm64.
#[cfg(target_arch = "aarch64")]
pub static EMBEDDED_OBJECT: &[u8] = aya::include_bytes_aligned!("object/profiler.aarch64.bpf.o");

/// The loaded programs and the maps that we use.
pub(super) struct Programs {
    ebpf: Ebpf,
    pub(super) ring: RingBuf<MapData>,
    pub(super) counters: Cells,
    pub(super) targets: Targets,
    own: Array<MapData, [u32; OWN_PROCESSES_MAX]>,
    ranges: HashMap<MapData, u32, [u64; RANGES_WORDS]>,
    pub(super) arena: Arena,
    pub(super) tallies: Tallies,
    pub(super) live: LiveBlocks,
    pub(super) descriptors: Descriptors,
    pub(super) waits: Waits,
    counting: Array<MapData, u32>,
    began: Array<MapData, [u64; 2]>,
    /// Where calls are probed and not ticks sampled.
    pub(super) probes: Option<Probes>,
    pub(super) custom: Option<CustomProbes>,
    /// Where a command waits until its functions are probed.
    pub(super) hold: Option<Hold>,
}

/// A [`ProcessRanges`] as the map's value.
const RANGES_WORDS: usize = size_of::<ProcessRanges>() / 8;

impl Programs {
    /// Loads everything; nothing runs yet but the followers of a target's children.
    pub(super) fn load(options: &CaptureOptions) -> Result<Self, BpfError> {
        let mut ebpf = load_object(options)?;
        let numbers = map_descriptors(&ebpf);
        let ring = map(&mut ebpf, "RING")?;
        let counters = map(&mut ebpf, "COUNTERS_CELLS")?;
        let targets = map(&mut ebpf, "TARGET_PROCESSES")?;
        let marks = map(&mut ebpf, "TARGET_MARKS")?;
        let own = map(&mut ebpf, "OWN_PROCESSES")?;
        let ranges = map(&mut ebpf, "PROCESS_RANGES")?;
        let arena = Arena::open()?;
        arena.stand_in(declared(&ebpf, "CHUNKS")?)?;
        let tallies = map(&mut ebpf, "TALLIES")?;
        let live = map(&mut ebpf, "LIVE")?;
        let thinning = map(&mut ebpf, "THINNING")?;
        let live = LiveBlocks::new(live, thinning, options.ages);
        let descriptors = map(&mut ebpf, "DESCRIPTORS")?;
        let counting = map(&mut ebpf, "COUNTING")?;
        let began = map(&mut ebpf, "BEGAN")?;
        let waits = map(&mut ebpf, "DELAYS")?;
        let sleeps = map(&mut ebpf, "SLEEPS")?;
        let waits = Waits::new(waits, sleeps);
        let sites = map(&mut ebpf, "SITES")?;
        let probes = options.calls.map(|calls| Probes::load((calls, options.budget), EMBEDDED_OBJECT, &numbers, sites)).transpose()?;
        let sites = map(&mut ebpf, "CUSTOM_SITES")?;
        let has_custom = !options.custom.is_empty() || options.calls.is_some();
        let custom = has_custom.then(|| CustomProbes::load(&options.custom, EMBEDDED_OBJECT, &numbers, sites)).transpose()?;
        let hold = map(&mut ebpf, "HOLD")?;
        let hold = (options.settings.held != 0).then(|| Hold::load(EMBEDDED_OBJECT, hold, &numbers)).transpose()?;
        let mut programs = Self {
            ebpf,
            ring,
            counters,
            targets: Targets::new(targets, marks),
            own,
            ranges,
            arena,
            tallies,
            live,
            descriptors,
            waits,
            counting,
            began,
            probes,
            custom,
            hold,
        };
        if programs.hold.is_some() {
            programs.attach("command_began", "sched_process_exec")?;
        }
        for (pid, process) in &options.processes {
            programs.targets.add(pid.0, process.start_boot_ns)?;
        }
        if options.settings.target & TARGET_PROCESSES != 0 {
            if options.settings.inherit != 0 {
                programs.attach("follow_fork", "sched_process_fork")?;
            }
            programs.attach("forget_process", "sched_process_free")?;
        }
        Ok(programs)
    }

    /// Has recorded from now on all that is traced, custom profiles among it.
    pub(super) fn trace_all(&mut self, traced: &[Traced]) -> Result<(), BpfError> {
        traced.iter().try_for_each(|traced| self.trace(*traced))?;
        self.custom.as_mut().map_or(Ok(()), CustomProbes::trace)
    }

    /// No more of it, but for those that count waits: they stand still with the probes, and are asked later what they have missed.
    pub(super) fn stop_tracing_most(&mut self, traced: &[Traced]) {
        self.custom.iter_mut().for_each(CustomProbes::stop_tracing);
        let stopped = traced.iter().filter(|traced| !matches!(traced, Traced::Waits | Traced::NewThreads));
        stopped.for_each(|traced| self.stop_tracing(*traced));
    }

    /// Has recorded from now on what the kernel's own tracepoints tell.
    pub(super) fn trace(&mut self, traced: Traced) -> Result<(), BpfError> {
        if is_before_probes() {
            return Err(BpfError::TooOldToTrace);
        }
        hooks_of(traced).iter().try_for_each(|hooks| self.hook(hooks))
    }

    /// No more of it.
    pub(super) fn stop_tracing(&mut self, traced: Traced) {
        for (name, _) in hooks_of(traced).iter().copied().flatten() {
            // Whatever is left of it ends with us.
            let _ = match self.ebpf.program_mut(name) {
                Some(Program::RawTracePoint(program)) => program.unload(),
                Some(Program::BtfTracePoint(program)) => program.unload(),
                Some(Program::FExit(program)) => program.unload(),
                _ => Ok(()),
            };
        }
    }

    /// A command is not held any more when it becomes another program.
    pub(super) fn stop_noting_execs(&mut self) {
        if let Ok(program) = self.program::<RawTracePoint>("command_began") {
            let _ = program.unload();
        }
    }

    /// Says which processes are ours.
    pub(super) fn set_own(&mut self, pids: &[u32]) -> Result<(), BpfError> {
        let mut own = [0; OWN_PROCESSES_MAX];
        own.iter_mut().zip(pids).for_each(|(slot, pid)| *slot = *pid);
        self.own.set(0, own, 0).map_err(|error| map_error("OWN_PROCESSES", &error))
    }

    /// Gives a process a list of ranges in the arena.
    pub(super) fn set_ranges(&mut self, pid: u32, ranges: &ProcessRanges) -> Result<(), BpfError> {
        let words: [u64; RANGES_WORDS] = zerocopy::transmute!(*ranges);
        self.ranges.insert(pid, words, 0).map_err(|error| map_error("PROCESS_RANGES", &error))
    }

    /// Takes it away; it may have none.
    pub(super) fn remove_ranges(&mut self, pid: u32) {
        let _ = self.ranges.remove(&pid);
    }

    /// Says what the programs of probes do.
    pub(super) fn count_calls(&mut self, work: ProbeWork) -> Result<(), BpfError> {
        let counting = match work {
            ProbeWork::Nothing => COUNTING_NOTHING,
            ProbeWork::All => COUNTING_ALL,
            ProbeWork::Returns => COUNTING_RETURNS,
        };
        set_counting(&mut self.counting, counting)
    }

    /// Tries out what a trap costs here.
    pub(super) fn try_traps(&mut self) -> Result<Option<TrapAccount>, BpfError> {
        let Some(probes) = &self.probes else { return Ok(None) };
        let counting = &mut self.counting;
        let cost = TrapCost::measure(probes, || set_counting(counting, COUNTING_RETURNS))?;
        set_counting(counting, COUNTING_NOTHING)?;
        Ok(Some(TrapAccount::new(cost, probes.ran())))
    }

    /// Loads the program that runs at what ticks, and gives its descriptor.
    pub(super) fn ticked(&mut self, tick: Tick) -> Result<OwnedFd, BpfError> {
        let name = match tick {
            Tick::Clock | Tick::Cycles => "cpu",
            Tick::Faults => "fault",
        };
        let program: &mut PerfEvent = self.program(name)?;
        program.load().map_err(|error| BpfError::Load(describe(&error)))?;
        let descriptor = program.fd().map_err(|error| BpfError::Load(describe(&error)))?;
        descriptor.as_fd().try_clone_to_owned().map_err(|error| BpfError::Load(error.to_string()))
    }

    /// Loads a program that looks at threads, for one process or for all.
    pub(super) fn threads(&mut self, name: &'static str, pid: Option<Pid>) -> Result<ThreadIterator, BpfError> {
        let types = Btf::from_sys_fs().map_err(|error| BpfError::Load(describe(&error)))?;
        self.iterator(name, pid, &types)
    }

    /// Loads those that look at the sleepers of all processes, at the beginning and at the end.
    pub(super) fn sleepers(&mut self) -> Result<[ThreadIterator; 2], BpfError> {
        let types = Btf::from_sys_fs().map_err(|error| BpfError::Load(describe(&error)))?;
        Ok([self.iterator("note_sleepers", None, &types)?, self.iterator("sleepers_left", None, &types)?])
    }

    fn iterator(&mut self, name: &'static str, pid: Option<Pid>, types: &Btf) -> Result<ThreadIterator, BpfError> {
        let program: &mut Iter = self.program(name)?;
        program.load("task", types).map_err(|error| BpfError::Load(describe(&error)))?;
        let descriptor = program.fd().map_err(|error| BpfError::Load(describe(&error)))?;
        ThreadIterator::open(descriptor.as_fd(), pid)
    }

    /// Loads those that look at threads, to see how large they are.
    pub(super) fn load_iterators(&mut self) -> Result<(), BpfError> {
        self.threads("threads", None)?;
        self.sleepers().map(|_| ())
    }

    /// Says when the recording began: ns of the clocks `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`.
    pub(super) fn set_began(&mut self, began_ns: [u64; 2]) -> Result<(), BpfError> {
        self.began.set(0, began_ns, 0).map_err(|error| map_error("BEGAN", &error))
    }

    /// Attaches the first of the programs whose hook this kernel has.
    fn hook(&mut self, hooks: &[(&'static str, Hook)]) -> Result<(), BpfError> {
        let mut result = Ok(());
        for (name, hook) in hooks {
            result = match hook {
                Hook::Tracepoint(tracepoint) => self.attach(name, tracepoint),
                Hook::TypedTracepoint(tracepoint) => self.attach_typed(name, tracepoint),
                Hook::Return(function) => self.attach_to_return(name, function),
            };
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn attach_to_return(&mut self, name: &'static str, function: &str) -> Result<(), BpfError> {
        let types = Btf::from_sys_fs().map_err(|error| BpfError::Load(describe(&error)))?;
        let program: &mut FExit = self.program(name)?;
        let loaded = program.load(function, &types).and_then(|()| program.attach());
        loaded.map(|_| ()).map_err(|error| BpfError::Load(describe(&error)))
    }

    fn attach_typed(&mut self, name: &'static str, tracepoint: &str) -> Result<(), BpfError> {
        let types = Btf::from_sys_fs().map_err(|error| BpfError::Load(describe(&error)))?;
        let program: &mut BtfTracePoint = self.program(name)?;
        let loaded = program.load(tracepoint, &types).and_then(|()| program.attach());
        loaded.map(|_| ()).map_err(|error| BpfError::Load(describe(&error)))
    }

    fn attach(&mut self, name: &'static str, tracepoint: &str) -> Result<(), BpfError> {
        let program: &mut RawTracePoint = self.program(name)?;
        let loaded = program.load().and_then(|()| program.attach(tracepoint));
        loaded.map(|_| ()).map_err(|error| BpfError::Load(describe(&error)))
    }

    fn program<'a, P>(&'a mut self, name: &'static str) -> Result<&'a mut P, BpfError>
    where
        &'a mut P: TryFrom<&'a mut Program, Error = aya::programs::ProgramError>,
    {
        let program = self.ebpf.program_mut(name).ok_or_else(|| BpfError::Load(format!("the embedded object has no program {name}")))?;
        program.try_into().map_err(|error| BpfError::Load(describe(&error)))
    }

    /// The loaded programs, by name.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, &Program)> {
        self.ebpf.programs()
    }
}

fn set_counting(map: &mut Array<MapData, u32>, counting: u32) -> Result<(), BpfError> {
    map.set(0, counting, 0).map_err(|error| map_error("COUNTING", &error))
}

fn load_object(options: &CaptureOptions) -> Result<Ebpf, BpfError> {
    let mut cgroups = [TargetCgroup::default(); TARGET_CGROUPS_MAX];
    cgroups.iter_mut().zip(&options.cgroups).for_each(|(slot, group)| *slot = *group);
    let mut comms = [TargetComm::default(); TARGET_COMMS_MAX];
    comms.iter_mut().zip(&options.comms).for_each(|(slot, comm)| *slot = *comm);
    let has_descriptors = options.traced.contains(&Traced::Descriptors);
    let has_custom = !options.custom.is_empty();
    let is_followed = options.calls == Some(Event::Heap) || has_custom;
    let are_probed = options.calls.is_some() || has_custom;
    EbpfLoader::new()
        .btf(None)
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global("SETTINGS", options.settings.as_bytes(), true)
        .override_global("OFFSETS", options.offsets.as_bytes(), true)
        .override_global("TARGET_CGROUPS", cgroups.as_bytes(), true)
        .override_global("TARGET_COMMS", comms.as_bytes(), true)
        .map_max_entries("RING", options.ring_bytes)
        .map_max_entries("TARGET_PROCESSES", options.target_processes)
        .map_max_entries("PROBE_PLACES", if are_probed || !options.traced.is_empty() { probe_places() } else { 1 })
        .map_max_entries("SLEEPS", if options.settings.waits != 0 { SLEEPS_MAX } else { 1 })
        .map_max_entries("LOCKS", if options.settings.waits & WAITS_MUTEX != 0 { LOCKS_MAX } else { 1 })
        .map_max_entries("LOCK_PLACES", if options.settings.waits & WAITS_MUTEX != 0 { LOCKS_MAX } else { 1 })
        .map_max_entries("DELAYS", if waits::are_counted(options) { options.tallies } else { 1 })
        .map_max_entries("SITES", if options.calls.is_some() { SITES_MAX } else { 1 })
        .map_max_entries("CUSTOM_SITES", if are_probed { CUSTOM_SITES_MAX } else { 1 })
        .map_max_entries("TALLIES", if are_probed || has_descriptors { options.tallies } else { 1 })
        .map_max_entries("TALLY_OWNERS", if are_probed || has_descriptors || waits::are_counted(options) { options.tallies } else { 1 })
        .map_max_entries("DESCRIPTORS", if has_descriptors { OPEN_DESCRIPTORS_MAX } else { 1 })
        .map_max_entries("LIVE", if is_followed { options.live_blocks } else { 1 })
        .map_max_entries("PENDING", if is_followed { PENDING_CALLS_MAX } else { 64 })
        .load(EMBEDDED_OBJECT)
        .map_err(|error| BpfError::Load(describe(&error)))
}

/// Places for the programs of probes: some for each CPU that there may be.
fn probe_places() -> u32 {
    PROBE_PLACES_PER_CPU * aya::util::nr_cpus().map_or(256, |cpus| cpus as u32)
}

/// The maps by name, as numbers that stay open as long as the maps.
fn map_descriptors(ebpf: &Ebpf) -> Vec<(String, RawFd)> {
    ebpf.maps().filter_map(|(name, map)| Some((name.to_owned(), data_of(map)?.fd().as_fd().as_raw_fd()))).collect()
}

/// What all maps that the programs refer to have in common.
fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

/// A map of the object, which is ours from now on.
fn map<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, BpfError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or_else(|| BpfError::Load(format!("the embedded object has no map {name}")))?;
    M::try_from(map).map_err(|error| map_error(name, &error))
}

/// The descriptor of a map that the programs refer to.
fn declared<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<BorrowedFd<'a>, BpfError> {
    match ebpf.map(name) {
        Some(aya::maps::Map::Array(data)) => Ok(data.fd().as_fd()),
        _ => Err(BpfError::Load(format!("the embedded object has no array {name}"))),
    }
}

fn map_error(map: &'static str, error: &dyn std::error::Error) -> BpfError {
    BpfError::Map { map, reason: describe(error) }
}

/// An error with its causes, on one line and at most some hundred characters: a verifier's log has thousands of lines, and its end says why.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().rev().nth(1_500) {
        Some((at, _)) => format!("... {}", &text[at..]),
        None => text,
    }
}
