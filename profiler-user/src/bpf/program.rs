//! The compiled programs: embedded, given the constants of the run, loaded, and the followers attached.

use super::arena::Arena;
use super::counters::Cells;
use super::custom::CustomProbes;
use super::descriptors::Descriptors;
use super::embedded::{EMBEDDED_OBJECT, declared, describe, load_object, map, map_descriptors, map_error};
use super::error::{BpfError, is_before_probes};
use super::hold::Hold;
use super::live_blocks::LiveBlocks;
use super::lock_words::{LockMaps, LockWords};
use super::options::CaptureOptions;
use super::probes::Probes;
use super::spaces::Spaces;
use super::tallies::Tallies;
use super::targets::Targets;
use super::threads::ThreadIterator;
use super::traced::{Hook, hooks_of};
use super::trap_cost::{TrapAccount, TrapCost};
use super::waits::Waits;
use crate::config::{ProbeWork, Tick, Traced};
use crate::model::process::Pid;
use aya::maps::{Array, HashMap, MapData, RingBuf};
use aya::programs::{BtfTracePoint, FExit, Iter, PerfEvent, Program, ProgramError, RawTracePoint};
use aya::{Btf, Ebpf};
use profiler_common::limits::OWN_PROCESSES_MAX;
use profiler_common::tally::{COUNTING_ALL, COUNTING_NOTHING, COUNTING_RETURNS};
use profiler_common::target::TARGET_PROCESSES;
use profiler_common::unwind::range::ProcessRanges;
use profiler_common::wait::WAITS_MUTEX;
use std::os::fd::{AsFd as _, OwnedFd};

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
    spaces: Spaces,
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

fn lock_words(ebpf: &mut Ebpf) -> Result<LockWords, BpfError> {
    let (places_of, places) = (map(ebpf, "LOCKS")?, map(ebpf, "LOCK_PLACES")?);
    Ok(LockWords::new(LockMaps { places_of, places, used: map(ebpf, "LOCKS_USED")?, free: map(ebpf, "LOCKS_FREE")? }))
}

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
        let live = LiveBlocks::new(map(&mut ebpf, "LIVE")?, map(&mut ebpf, "THINNING")?, options.ages);
        let descriptors = map(&mut ebpf, "DESCRIPTORS")?;
        let counting = map(&mut ebpf, "COUNTING")?;
        let began = map(&mut ebpf, "BEGAN")?;
        let words = (options.settings.waits & WAITS_MUTEX != 0).then(|| lock_words(&mut ebpf)).transpose()?;
        let waits = Waits::new(map(&mut ebpf, "DELAYS")?, map(&mut ebpf, "SLEEPS")?, words);
        let spaces = Spaces::new(map(&mut ebpf, "ADDRESS_SPACES")?);
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
            spaces,
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
        if traced == Traced::Mappings {
            // As short as can be before the programs look: what changes between is charged to the next one who changes it.
            for (name, _) in hooks_of(traced).iter().copied().flatten() {
                self.loaded(name)?;
            }
            self.spaces.note_all()?;
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

    /// Attaches the first of the programs whose hook this kernel has. If none is to be had, the error says why of each.
    fn hook(&mut self, hooks: &[(&'static str, Hook)]) -> Result<(), BpfError> {
        let mut reasons = Vec::new();
        for (name, hook) in hooks {
            let result = match hook {
                Hook::Tracepoint(tracepoint) => self.attach(name, tracepoint),
                Hook::TypedTracepoint(tracepoint) => self.attach_typed(name, tracepoint),
                Hook::Return(function) => self.attach_to_return(name, function),
            };
            match result {
                Ok(()) => return Ok(()),
                Err(BpfError::Load(reason)) => reasons.push(format!("{name}: {reason}")),
                Err(error) => return Err(error),
            }
        }
        Err(BpfError::Load(reasons.join("; ")))
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
        let attached = self.loaded(name)?.attach(tracepoint);
        attached.map(|_| ()).map_err(|error| BpfError::Load(describe(&error)))
    }

    /// A program of a raw tracepoint, which is loaded by then.
    fn loaded(&mut self, name: &'static str) -> Result<&mut RawTracePoint, BpfError> {
        let program: &mut RawTracePoint = self.program(name)?;
        match program.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
            Err(error) => Err(BpfError::Load(describe(&error))),
        }
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
