//! What a run is, in one value: built by `bin/` from arguments, and by a user of the library by hand.

mod bounds;
mod heap;
mod waits;

pub use bounds::{Bounds, ProbeWork};
pub use heap::HeapConfig;

use crate::model::custom::CustomProfile;
use crate::model::kind::{CustomKind, Kind};
use profiler_common::source::Source;
use profiler_common::wait::{WAITS_BLOCK, WAITS_MUTEX, WAITS_OFF_CPU};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
pub use waits::Waiting;

/// Whom to record; several join by *or*.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Everything that runs.
    All,
    /// A process, by the id that it has in our pid namespace.
    Pid(u32),
    /// A control group and everything below it: a path in the file system, or below the root of any mounted hierarchy.
    Cgroup(PathBuf),
    /// A container, by its id or the beginning of it.
    Container(String),
    /// A systemd unit.
    Unit(String),
    /// Processes whose name matches: `*` any run, `?` any character.
    Comm(String),
    /// A command to start; recording ends when it does.
    Command(Vec<std::ffi::OsString>),
}

/// The event that is sampled, by perf's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Event {
    /// The kernel's CPU clock; everywhere.
    #[default]
    CpuClock,
    /// Hardware cycles; where the machine has counters.
    Cycles,
    /// Page faults: who makes memory resident.
    PageFaults,
    /// Address spaces that grow and shrink: who asks the kernel for memory, and who gives it back.
    Mappings,
    /// File descriptors that are got, and not closed.
    Descriptors,
    /// Those of them that are sockets.
    Sockets,
    /// Calls of allocators: what is allocated, and what of it lives.
    Heap,
    /// Calls of allocators: what is allocated.
    Allocs,
    /// Threads that are not running: they sleep, or wait for a CPU.
    OffCpu,
    /// Waits for another thread, by who waits.
    Block,
    /// The same, by who ends them.
    Mutex,
    /// Threads that are started.
    ThreadCreate,
    /// Time on the CPU, and off it.
    Wall,
    /// What probes add and remove: which of the custom profiles, at most [`Source::CUSTOM_MAX`].
    Custom(u16),
}

impl Event {
    /// Whether calls are probed, and nothing ticks.
    pub const fn is_of_calls(self) -> bool {
        matches!(self, Self::Heap | Self::Allocs)
    }

    /// What makes these events; None: several do.
    pub const fn source(self) -> Option<Source> {
        Some(match self {
            Self::CpuClock | Self::Cycles => Source::CLOCK,
            Self::PageFaults => Source::FAULTS,
            Self::Mappings => Source::MAPPINGS,
            Self::Descriptors | Self::Sockets => Source::DESCRIPTORS,
            Self::Heap | Self::Allocs => Source::CALLS,
            Self::OffCpu => Source::OFF_CPU,
            Self::Block => Source::BLOCK,
            Self::Mutex => Source::MUTEX,
            Self::ThreadCreate => Source::THREADS,
            Self::Custom(at) => return Source::custom(at),
            Self::Wall => return None,
        })
    }

    /// What ticks, if anything does.
    pub const fn tick(self) -> Option<Tick> {
        match self {
            Self::CpuClock => Some(Tick::Clock),
            Self::Cycles => Some(Tick::Cycles),
            Self::PageFaults => Some(Tick::Faults),
            _ => None,
        }
    }
}

/// What is recorded at the kernel's own tracepoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traced {
    /// Mappings of memory.
    Mappings,
    /// System calls that get or close descriptors: every system call of the machine takes longer meanwhile.
    Descriptors,
    /// Threads that leave their CPU, are woken, and come back.
    Waits,
    /// Threads that are started.
    NewThreads,
}

/// What the kernel itself counts for each CPU, and interrupts at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tick {
    /// The CPU clock.
    Clock,
    /// Hardware cycles.
    Cycles,
    /// Page faults.
    Faults,
}

impl Tick {
    /// Samples a second and CPU, unless it is said.
    pub const fn usual_frequency_hz(self) -> u32 {
        match self {
            Self::Faults => 997,
            Self::Clock | Self::Cycles => 99,
        }
    }

    /// What makes the events.
    pub const fn source(self) -> Source {
        match self {
            Self::Clock | Self::Cycles => Source::CLOCK,
            Self::Faults => Source::FAULTS,
        }
    }
}

/// Which part of the machine's time is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// User code and the kernel.
    #[default]
    Any,
    /// Only user code.
    User,
    /// Only the kernel.
    Kernel,
}

/// Which moment of a recording is shown of what lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Moment {
    /// Its end.
    #[default]
    End,
    /// When most was in use.
    Peak,
}

/// How user stacks are walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Walk {
    /// By what the files say of their code (`.eh_frame`), and by frame pointers where there is nothing else.
    #[default]
    Tables,
    /// By frame pointers alone.
    FramePointers,
}

/// A run.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Whom.
    pub targets: Vec<Target>,
    /// What is sampled; each makes a profile of its own.
    pub events: Vec<Event>,
    /// The custom profiles that events are of.
    pub custom: Vec<CustomProfile>,
    /// Samples a second and CPU; for what no clock makes, about so many. None: what is usual for each event.
    pub frequency_hz: Option<u32>,
    /// Mean distance between sampled blocks, bytes, for calls of allocators; 1: every block.
    pub sample_bytes: u64,
    /// The share of the processes' own CPU time that probes of allocators may take; None: whatever it takes. Beyond it less is recorded.
    pub max_overhead: Option<f64>,
    /// How long blocks live.
    pub heap: HeapConfig,
    /// Which moment is shown of what lives.
    pub moment: Moment,
    /// What lives is shown twice: at the end, and so long before it.
    pub diff: Option<Duration>,
    /// How waits are recorded.
    pub waiting: Waiting,
    /// Which mode.
    pub mode: Mode,
    /// When it ends by itself.
    pub duration: Option<Duration>,
    /// Children of the targets are targets.
    pub inherit: bool,
    /// Tell threads apart.
    pub per_thread: bool,
    /// Record the profiler itself, too.
    pub include_self: bool,
    /// Folders with separate debug files, beside `/usr/lib/debug`.
    pub debug_dirs: Vec<PathBuf>,
    /// Memory of all our processes and maps together, bytes.
    pub memory_limit: u64,
    /// Measure what the programs themselves cost.
    pub self_cost: bool,
    /// How stacks without frame pointers are walked.
    pub walk: Walk,
    /// Memory of the unwind tables, bytes; a part of `memory_limit`.
    pub unwind_memory: u64,
    /// Bounds.
    pub bounds: Bounds,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            targets: vec![Target::All],
            events: vec![Event::CpuClock],
            custom: Vec::new(),
            frequency_hz: None,
            sample_bytes: 512 << 10,
            max_overhead: None,
            heap: HeapConfig::default(),
            moment: Moment::End,
            diff: None,
            waiting: Waiting::default(),
            mode: Mode::Any,
            duration: None,
            inherit: true,
            per_thread: false,
            include_self: false,
            debug_dirs: Vec::new(),
            memory_limit: 128 << 20,
            self_cost: false,
            walk: Walk::Tables,
            unwind_memory: 64 << 20,
            bounds: Bounds::default(),
        }
    }
}

impl Config {
    /// Whether less than everything that runs is asked for.
    pub(crate) fn is_narrowed(&self) -> bool {
        !self.targets.contains(&Target::All) || self.mode != Mode::Any
    }

    /// The kinds of profile that the run makes, in the order of its events.
    pub fn kinds(&self) -> Vec<Kind> {
        self.events.iter().map(|event| self.kind_of(*event)).collect()
    }

    /// When it ends by itself: a difference needs time for both of its ends.
    pub(crate) fn ends_after(&self) -> Option<Duration> {
        self.duration.or(self.diff.map(|apart| apart * 2))
    }

    /// Whether something is to be looked at while it runs, beside what arrives.
    pub(crate) fn wants_looks(&self) -> bool {
        self.max_overhead.is_some() || self.diff.is_some() || self.moment == Moment::Peak
    }

    /// The kind of profile that an event of this run makes.
    pub(crate) fn kind_of(&self, event: Event) -> Kind {
        match event {
            Event::CpuClock => Kind::Cpu,
            Event::Cycles => Kind::CpuCycles,
            Event::PageFaults => Kind::Faults,
            Event::Mappings => Kind::Mmap,
            Event::Descriptors => Kind::Descriptors,
            Event::Sockets => Kind::Sockets,
            Event::Heap => Kind::Heap,
            Event::Allocs if self.events.contains(&Event::Heap) => Kind::AllocsOfHeap,
            Event::Allocs => Kind::Allocs,
            Event::OffCpu => Kind::OffCpu,
            Event::Block => Kind::Block,
            Event::Mutex => Kind::Mutex,
            Event::ThreadCreate => Kind::ThreadCreate,
            Event::Wall => Kind::Wall,
            Event::Custom(at) => self.custom.get(usize::from(at)).map_or(Kind::Cpu, |profile| Kind::Custom(CustomKind::of(profile))),
        }
    }

    /// What is recorded, each once: a profile may be of the events of two sources.
    pub(crate) fn sources(&self) -> BTreeSet<Source> {
        let of_wall = self.events.contains(&Event::Wall).then_some([Source::CLOCK, Source::OFF_CPU]);
        let mut sources: BTreeSet<Source> =
            self.events.iter().filter_map(|event| event.source()).chain(of_wall.into_iter().flatten()).collect();
        let shows = self.waiting.pairs && (sources.contains(&Source::OFF_CPU) || sources.contains(&Source::BLOCK));
        if shows || sources.contains(&Source::MUTEX) {
            sources.insert(Source::WAKERS);
        }
        sources
    }

    /// Whether a custom profile is recorded.
    pub(crate) fn has_custom(&self) -> bool {
        !self.custom.is_empty()
    }

    /// Whether one of them has probes in processes.
    pub(crate) fn has_custom_in_processes(&self) -> bool {
        self.custom.iter().any(CustomProfile::has_probes_in_processes)
    }

    /// What is recorded at tracepoints.
    pub(crate) fn traced(&self) -> Vec<Traced> {
        let is_asked = |source| self.sources().contains(&source);
        let all = [
            (is_asked(Source::MAPPINGS), Traced::Mappings),
            (is_asked(Source::DESCRIPTORS), Traced::Descriptors),
            (self.waits() != 0, Traced::Waits),
            (is_asked(Source::THREADS), Traced::NewThreads),
        ];
        all.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, traced)| traced).collect()
    }

    /// How calls of allocators are probed, if they are: what lives needs more than what is allocated.
    pub(crate) fn calls(&self) -> Option<Event> {
        [Event::Heap, Event::Allocs].into_iter().find(|event| self.events.contains(event))
    }

    /// Whether it is kept who ends each sleep.
    pub(crate) fn wakers(&self) -> bool {
        self.waiting.pairs && self.sources().contains(&Source::WAKERS)
    }

    /// What the programs of the scheduler count: bits of [`profiler_common::wait`].
    pub(crate) fn waits(&self) -> u32 {
        let sources = self.sources();
        let bit = |source, bit| if sources.contains(&source) { bit } else { 0 };
        bit(Source::OFF_CPU, WAITS_OFF_CPU) | bit(Source::BLOCK, WAITS_BLOCK) | bit(Source::MUTEX, WAITS_MUTEX)
    }

    /// Whether threads are listed that are there when the recording begins.
    pub(crate) fn lists_existing(&self) -> bool {
        self.waiting.existing_threads && self.sources().contains(&Source::THREADS)
    }

    /// How often something ticks, a second and CPU.
    pub fn frequency_of(&self, tick: Tick) -> u32 {
        self.frequency_hz.unwrap_or(tick.usual_frequency_hz())
    }

    /// What ticks, and how often.
    pub(crate) fn ticking(&self) -> Vec<(Tick, u32)> {
        let mut ticking: Vec<Tick> = self.events.iter().filter_map(|event| event.tick()).collect();
        if self.events.contains(&Event::Wall) && !ticking.iter().any(|tick| tick.source() == Source::CLOCK) {
            ticking.push(Tick::Clock);
        }
        ticking.into_iter().map(|tick| (tick, self.frequency_of(tick))).collect()
    }
}
