//! `Snapshot`: every thread of a process where it stands at one moment, with its stack; nobody is stopped.

use super::asked::capture_options;
use super::dumping::{Found, Stack, dump};
use super::finishing::Finishing;
use super::goroutines::{self, InFile};
use super::memory::{Memory, resident_bytes};
use super::recorder::RecordError;
use super::session::World;
use crate::bpf::{Capture, Drained, KernelTypes, Last, SeenThread, controller_index};
use crate::config::{Config, Event, Target};
use crate::go::goroutines::{Goroutine, NoStack};
use crate::memory::MemoryReader;
use crate::model::dump::Dump;
use crate::model::event::MonotonicNs;
use crate::model::kind::Kind;
use crate::model::process::{Pid, ProcessKey, Tid};
use crate::model::stack::{RawAddresses, RawStack, Tally, UserStack};
use crate::object::ObjectStore;
use crate::process::{Context, KernelLayout, Met, Normalized, Processes, Tables, Threads};
use crate::snapshot::{LookError, Missing};
use crate::symbolize::Sources;
use crate::symbolize::kernel::KernelSymbols;
use crate::sys::priority::Urgent;
use crate::target;
use profiler_common::ended::Ended;
use profiler_common::source::Source;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rounds for threads that run: each takes its chance that they stand still for a moment.
const ROUNDS: usize = 6;
/// After so many the clock is the better chance, if nobody but running threads is left.
const PATIENT_ROUNDS: usize = 1;
/// How long a thread that runs has to be met by a tick.
const TICKING: Duration = Duration::from_millis(60);
/// Ticks a second and CPU for those.
const TICKS_HZ: u32 = 997;
/// How long the whole may take; who hangs longer has no stack.
const DEADLINE: Duration = Duration::from_secs(8);

/// Whose stacks, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotOptions {
    /// The process.
    pub pid: u32,
    /// Kernel stacks, too.
    pub kernel: bool,
    /// Threads, of a Go program too, and not its goroutines.
    pub threads: bool,
    /// Folders with separate debug files, beside `/usr/lib/debug`.
    pub debug_dirs: Vec<PathBuf>,
    /// Memory of all our processes and maps together, bytes.
    pub memory_limit: u64,
}

/// Takes snapshots of one process: everything is loaded and its files are parsed, so that a snapshot is taken at once.
///
/// ```no_run
/// use profiler::pipeline::{Snapshot, SnapshotOptions};
///
/// // Parsers of foreign files run in a child without rights, which is this program started again.
/// profiler::init();
/// let options = SnapshotOptions { pid: 1, kernel: false, threads: false, debug_dirs: Vec::new(), memory_limit: 128 << 20 };
/// let dump = Snapshot::prepare(options)?.take()?;
/// for entry in &dump.entries {
///     println!("{} {} [{}]", entry.id, entry.name, entry.state);
/// }
/// # Ok::<(), profiler::pipeline::RecordError>(())
/// ```
pub struct Snapshot {
    pub(super) options: SnapshotOptions,
    pub(super) capture: Capture,
    pub(super) finishing: Finishing,
    pub(super) objects: ObjectStore,
    processes: Processes,
    pub(super) tables: Tables,
    pub(super) memory: MemoryReader,
    pub(super) kernel: KernelLayout,
    /// What its file says of goroutines, if it is a Go program's.
    go: Option<InFile>,
}

impl Snapshot {
    /// Loads the programs and reads how the process's files are walked.
    ///
    /// # Errors
    /// Rights, kernel features or the process are missing.
    pub fn prepare(options: SnapshotOptions) -> Result<Self, RecordError> {
        let config = Config {
            targets: vec![Target::Pid(options.pid)],
            events: vec![Event::CpuClock],
            frequency_hz: Some(TICKS_HZ),
            inherit: false,
            memory_limit: options.memory_limit,
            ..Config::default()
        };
        let types = KernelTypes::load()?;
        let filter = target::resolve(&config.targets, config.inherit.into(), &|name| controller_index(&types, name))?;
        let mut asked = capture_options(&config, &filter, types.offsets()?);
        asked.settings.kernel_stacks = u32::from(options.kernel);
        let capture = Capture::open(&asked)?;
        let memory = Arc::new(Memory::new(config.memory_limit));
        let mut snapshot = Self {
            finishing: Finishing::start(config.unwind_memory.min(config.memory_limit / 2), &memory).map_err(RecordError::Runtime)?,
            options,
            capture,
            objects: ObjectStore::new(),
            processes: Processes::default(),
            tables: Tables::default(),
            memory: MemoryReader::new(None),
            kernel: KernelLayout { slide: KernelSymbols::slide_of_this_boot() },
            go: None,
        };
        snapshot.learn()?;
        Ok(snapshot)
    }

    /// Reads what the process has mapped, and gets the tables of all of it.
    fn learn(&mut self) -> Result<(), RecordError> {
        let pid = Pid(self.options.pid);
        let seen = self.capture.look_at_threads(pid)?;
        let first = seen.first().ok_or(RecordError::Ended(self.options.pid))?;
        self.meet(&raw(first, Vec::new(), NO_USER_STACK).of);
        self.finishing.prepare(pid, &self.processes, &self.objects, &mut self.capture);
        self.finishing.settle(&self.objects, &self.processes, &mut self.capture)?;
        self.memory.start()?;
        if !self.options.threads {
            self.go = self.processes.space(pid).and_then(|space| goroutines::find(space, &self.objects));
        }
        Ok(())
    }

    pub(super) fn meet(&mut self, stack: &RawStack) -> Met {
        let mut world = World { objects: &mut self.objects };
        let mut context = Context { kernel: self.kernel, threads: Threads::Together, describe: &mut world };
        self.tables.meet(stack, &mut self.processes, &mut context)
    }

    /// Takes one.
    ///
    /// # Errors
    /// The process has ended, or the helper that reads its memory cannot be had.
    pub fn take(mut self) -> Result<Dump, RecordError> {
        let urgent = Urgent::raise([0]);
        // Another helper may be needed later, which is started by this thread, and as urgent.
        self.memory.start()?;
        let urgent = (Urgent::raise(self.memory.pid()), urgent);
        let (pid, began) = (Pid(self.options.pid), Instant::now());
        let mut found: BTreeMap<u32, Found> = BTreeMap::new();
        let mut wanted: Option<BTreeMap<u32, u32>> = None;
        for round in 0..ROUNDS {
            let again = self.look(wanted.as_ref(), &mut found, began + DEADLINE)?;
            if again.is_empty() {
                wanted = None;
                break;
            }
            wanted = Some(again);
            if round >= PATIENT_ROUNDS && self.are_all_running(wanted.as_ref(), &found) {
                break;
            }
        }
        if let Some(running) = wanted.filter(|running| !running.is_empty()) {
            self.wait_for_ticks(running, &mut found)?;
        }
        if found.is_empty() {
            return Err(RecordError::Ended(pid.0));
        }
        let mut notes = Vec::new();
        let taken = match self.goroutines(&found, began + DEADLINE) {
            Some(Ok(stacks)) => Some(stacks),
            Some(Err(why)) => {
                notes.push(why);
                None
            }
            None => None,
        };
        let kind = if taken.is_some() { Kind::Goroutine } else { Kind::Threads };
        let stacks = taken.unwrap_or_else(|| self.threads(&found));
        let took = began.elapsed();
        drop((urgent, found));
        let left = (self.options.memory_limit / 8 * 7).saturating_sub(resident_bytes());
        let dictionary = Arc::new(std::mem::take(&mut self.tables.dictionary));
        let mut sources = Sources::new(&self.objects, &self.options.debug_dirs, left);
        let mut dump = dump(kind, stacks, (dictionary, took), &mut sources);
        dump.profile.comments.extend(notes);
        Ok(dump)
    }

    /// The threads with their stacks, normalized.
    fn threads(&self, found: &BTreeMap<u32, Found>) -> Vec<Stack> {
        let stack = |found: &Found| Stack { entry: found.entry(), labels: Vec::new(), stack: found.stack, origins: None };
        found.values().map(stack).collect()
    }

    /// The goroutines, if it is a Go program's process; or why they cannot be shown.
    fn goroutines(&mut self, found: &BTreeMap<u32, Found>, deadline: Instant) -> Option<Result<Vec<Stack>, String>> {
        let file = self.go.take()?;
        let first = found.values().next()?;
        let process = first.record.process;
        let read = file.read(&mut self.memory, Pid(self.options.pid), deadline);
        // Its pid may have been another's meanwhile.
        let is_same = self
            .capture
            .look_at_threads(Pid(self.options.pid))
            .is_ok_and(|now| now.first().is_some_and(|now| now.record.process == process));
        let goroutines = match read {
            Ok(_) if !is_same => return Some(Err("the process ended while its goroutines were read".into())),
            Ok(goroutines) => goroutines,
            Err(why) => return Some(Err(why)),
        };
        let now = first.record.now_ns;
        Some(Ok(goroutines.into_iter().map(|goroutine| self.goroutine((process, now), goroutine, found)).collect()))
    }

    fn goroutine(&mut self, (process, now): (ProcessKey, u64), mut goroutine: Goroutine, found: &BTreeMap<u32, Found>) -> Stack {
        let ran_by = goroutine.thread.and_then(|tid| found.get(&tid)).filter(|found| found.trouble.is_none());
        let origins = self.place(process, goroutines::origins(&goroutine));
        let user = std::mem::replace(&mut goroutine.stack, Err(NoStack::Moving));
        let mut trouble = user.as_ref().err().map(|why| goroutines::trouble(*why).to_owned());
        let stack = match (user, ran_by) {
            (Ok(user), _) => self.place(process, user),
            (Err(NoStack::Running), Some(found)) => {
                trouble = None;
                found.stack
            }
            (Err(_), _) => self.place(process, NO_USER_STACK),
        };
        if trouble.is_none() && !matches!(stack.ended, Ended::Root) {
            trouble = Some(stack.ended.label().to_owned());
        }
        let (entry, labels) = goroutines::entry(&goroutine, now, trouble);
        Stack { entry, labels, stack, origins: Some(origins) }
    }

    /// Walks a stack and normalizes it.
    fn place(&mut self, process: ProcessKey, user: UserStack) -> Normalized {
        let addresses = RawAddresses { hash: 0, kernel: Vec::new(), list: 0, user };
        let of = RawStack { process, tid: Tid(process.tgid), time: MonotonicNs(0), addresses: Arc::new(addresses) };
        let tally = Tally { of, events: 1, weight: 1, source: Source::CLOCK, class: 0, counted_under: None };
        let met = self.meet(&tally.of);
        let (met, tally) = self.finishing.finish((met.clone(), tally.clone()), &self.objects, &mut self.capture).unwrap_or((met, tally));
        self.tables.place(&met, &tally, self.kernel)
    }

    /// Whether nobody is left but threads that were on a CPU each time.
    fn are_all_running(&self, wanted: Option<&BTreeMap<u32, u32>>, found: &BTreeMap<u32, Found>) -> bool {
        let is_running =
            |tid: &u32| found.get(tid).is_some_and(|found| found.trouble == Some(Missing::Moved) && found.record.is_on_cpu != 0);
        wanted.is_some_and(|wanted| wanted.keys().all(is_running))
    }

    /// Those that run are met by the clock; one that others have run in place of since has no tick, and is looked at again.
    fn wait_for_ticks(&mut self, mut left: BTreeMap<u32, u32>, found: &mut BTreeMap<u32, Found>) -> Result<(), RecordError> {
        left.retain(|tid, _| found.get(tid).is_some_and(|found| found.trouble == Some(Missing::Moved)));
        if left.is_empty() {
            return Ok(());
        }
        self.capture.start()?;
        let until = Instant::now() + TICKING;
        while !left.is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
            for drained in self.capture.drain(Last::No).ordered {
                let Drained::Stack(tally) = drained else { continue };
                if left.remove(&tally.of.tid.0).is_some() {
                    self.take_tick(tally, found);
                }
            }
            if !left.is_empty() {
                left = self.look(Some(&left), found, until + DEADLINE)?;
            }
        }
        self.capture.stop();
        Ok(())
    }

    fn take_tick(&mut self, tally: Tally<RawStack>, found: &mut BTreeMap<u32, Found>) {
        let met = self.meet(&tally.of);
        let (tid, waiting) = (tally.of.tid.0, (met, tally));
        if let (Some(sample), Some(found)) = (self.finishing.finish(waiting, &self.objects, &mut self.capture), found.get_mut(&tid)) {
            found.stack = self.tables.place(&sample.0, &sample.1, self.kernel);
            found.trouble = None;
            found.record.is_on_cpu = 1;
        }
    }
}

/// What there is where nothing is.
pub(super) const NO_USER_STACK: UserStack = UserStack::Walked { addresses: Vec::new(), ended: Ended::NoUserStack };

/// A thread as a sample of one.
pub(super) fn raw(seen: &SeenThread, kernel: Vec<u64>, user: UserStack) -> Tally<RawStack> {
    let addresses = RawAddresses { hash: 0, kernel, list: 0, user };
    let process: ProcessKey = seen.record.process;
    let of = RawStack { process, tid: Tid(seen.record.tid), time: MonotonicNs(seen.record.now_ns), addresses: Arc::new(addresses) };
    Tally { of, events: 1, weight: 1, source: Source::CLOCK, class: 0, counted_under: None }
}

pub(super) fn look_failed(error: LookError) -> RecordError {
    match error {
        LookError::Threads(error) => RecordError::Capture(error),
        LookError::Memory(error) => RecordError::Memory(error),
    }
}
