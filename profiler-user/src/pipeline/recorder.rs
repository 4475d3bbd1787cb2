//! `Recorder`: what `profiler record` does, as a library.

use super::arming::Arming;
use super::asked::{capture_options, go_waits, named_alone, whom};
use super::budget::LOOK;
use super::command::{Command, CommandEnd};
use super::custom_arming::CustomArming;
use super::finishing::Finishing;
use super::followed::Followed;
use super::held::Held;
use super::memory::{Memory, resident_bytes};
use super::own_processes::OwnProcesses;
use super::placements::Placements;
use super::session::{Ended, Parts, Session};
use super::signals::Signals;
use super::stop::{Ends, after};
use super::wakers::Wakers;
use crate::bpf::{BpfError, Capture, KernelTypes, Last, ProgramCost, controller_index, map_bytes};
use crate::config::{Config, Target, Walk};
use crate::memory::MemoryError;
use crate::model::allocator::Placement;
use crate::model::process::Pid;
use crate::model::profile::Profile;
use crate::model::window::Window;
use crate::object::ObjectStore;
use crate::process::KernelLayout;
use crate::symbolize::kernel::KernelSymbols;
use crate::symbolize::{Sources, symbolize};
use crate::sys::spawn::SpawnError;
use crate::target::{self, Filter, TargetError};
use crate::unwind::Costs;
use profiler_common::target::{TARGET_PROCESSES, TargetProcess};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Why a recording failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The target is not there, or not one.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Capturing is not possible here.
    #[error(transparent)]
    Capture(#[from] BpfError),
    /// The command could not be started.
    #[error(transparent)]
    Command(#[from] SpawnError),
    /// The runtime of timers and descriptors could not be set up.
    #[error("setting up timers and descriptors: {0}; the limit on open files (ulimit -n) may be too low")]
    Runtime(#[source] io::Error),
    /// The process of a snapshot has no threads any more.
    #[error("process {0} has ended")]
    Ended(u32),
    /// The helper that reads memory cannot be had.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Of so many processes probes are not taken away in a moment.
const MANY_PROBED: usize = 250;

/// How a recording is going.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Time since the clock started.
    pub elapsed: Duration,
    /// Samples so far.
    pub samples: u64,
    /// Samples lost so far.
    pub lost: u64,
    /// Processes that run.
    pub processes: usize,
}

/// What the caller of a recording is told, and may ask for, while it runs. Called between drains, so answers should be quick.
pub trait Control {
    /// The clock ticks, and from here on a signal ends the recording; a command is about to be let go.
    fn started(&mut self) {}

    /// About once a second.
    fn progress(&mut self, _progress: &Progress) {}

    /// Something has happened that changes what is recorded.
    fn told(&mut self, _news: &str) {}
}

impl Control for () {}

/// Records what a [`Config`] describes.
///
/// ```standalone_crate
/// use profiler::config::{Config, Mode, Target};
/// use profiler::pipeline::Recorder;
///
/// // Parsers of foreign files run in a child without rights, which is this program started again.
/// profiler::init();
/// # if let Err(missing) = profiler::capability::missing_for_record() {
/// #     assert!(std::env::var_os("CI").is_none(), "{missing}");
/// #     eprintln!("SKIPPED: {missing}");
/// #     return Ok(());
/// # }
/// let busy = ["sh", "-c", "i=0; while [ $i -lt 1000000 ]; do i=$((i + 1)); done; exit 3"];
/// let config = Config { targets: vec![Target::Command(busy.map(Into::into).to_vec())], mode: Mode::User, ..Config::default() };
/// let mut recording = Recorder::new(config).record(&mut ())?;
/// let profiles = recording.profiles();
/// assert_eq!(profiles[0].kind.name(), "cpu");
/// assert!(profiles[0].total(0) > 0);
/// assert!(profiles[0].locations.iter().any(|location| location.lines.is_ok()), "some of the shell's code, or of its libraries', has a name");
/// assert_eq!(recording.wait_for_command()?.map(|end| end.code), Some(3));
/// # Ok::<(), profiler::pipeline::RecordError>(())
/// ```
#[derive(Debug)]
pub struct Recorder {
    config: Config,
}

/// A recording that has ended; nothing is symbolized yet.
pub struct Recording {
    /// What was counted: a window for each kind of profile.
    pub windows: Vec<Window>,
    /// The files behind its mappings.
    objects: ObjectStore,
    /// What the programs cost; empty unless it was measured.
    pub self_cost: Vec<ProgramCost>,
    /// Where allocators were probed; empty unless that was measured.
    pub placements: Vec<Placement>,
    /// What the unwind tables took.
    pub unwinding: Costs,
    config: Config,
    command: Option<Command>,
    /// Signals that arrive before the command has ended are its.
    hearing: Option<(tokio::runtime::Runtime, Signals)>,
}

impl Recorder {
    /// A recorder for a run.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Records until the configured time is over, the targets have ended, or SIGINT or SIGTERM arrives. Blocks the calling thread.
    ///
    /// # Errors
    /// Rights, kernel features or the target are missing, or the command cannot be started.
    pub fn record(self, control: &mut dyn Control) -> Result<Recording, RecordError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RecordError::Runtime)?;
        let (mut recording, signals) = runtime.block_on(self.run(control))?;
        recording.hearing = Some((runtime, signals));
        Ok(recording)
    }

    async fn run(self, control: &mut dyn Control) -> Result<(Recording, Signals), RecordError> {
        let config = self.config;
        let types = KernelTypes::load()?;
        let mut filter = target::resolve(&config.targets, config.inherit.into(), &|name| controller_index(&types, name))?;
        let command = config.targets.iter().find_map(|target| if let Target::Command(words) = target { Some(words) } else { None });
        let mut command = command.map(|words| Command::hold(words)).transpose()?;
        if let Some(command) = &command {
            filter.bits |= TARGET_PROCESSES;
            filter.processes.push((command.pid(), TargetProcess { start_boot_ns: 0 }));
        }
        let mut options = capture_options(&config, &filter, types.offsets()?);
        let mut held = Held::of(&config, command.as_ref(), &mut options)?;
        let mut capture = Capture::open(&options)?;
        follow_children(&config, &types, &filter, &mut capture)?;
        drop(types);
        let this = (!config.include_self).then(std::process::id);
        let own = OwnProcesses::new(this, command.as_ref().map(Command::pid));
        capture.set_own(own.pids())?;
        let memory = Arc::new(Memory::new(config.memory_limit.saturating_sub(map_bytes())));
        let finishing = match config.walk {
            Walk::Tables => Some(Finishing::start(config.unwind_memory, &memory).map_err(RecordError::Runtime)?),
            Walk::FramePointers => None,
        };
        let mut descriptors = capture.wakers().map_err(RecordError::Runtime)?;
        if let Some(finishing) = &finishing {
            descriptors.push(finishing.news().map_err(RecordError::Runtime)?);
        }
        let followed = Followed::new(filter.processes.iter().map(|(pid, _)| *pid), config.inherit);
        let arming = arming(&config, &filter, &mut descriptors).map_err(RecordError::Runtime)?;
        let custom = custom(&config, &filter, &mut descriptors).map_err(RecordError::Runtime)?;
        let go_waits = go_waits(&config, &filter, &mut descriptors).map_err(RecordError::Runtime)?;
        let wakers = Wakers::new(descriptors).map_err(RecordError::Runtime)?;
        let kernel = KernelLayout { slide: KernelSymbols::slide_of_this_boot() };
        // Before the clock starts and a command is let go: from here on a signal ends the recording, and never the profiler in the middle of it.
        let mut signals = Signals::new(command.is_some()).map_err(RecordError::Runtime)?;
        let mut session = Session::start(capture, Parts { finishing, arming, custom, go_waits, own, followed, memory }, &config, kernel)?;
        control.started();
        command = command.map(Command::release).transpose()?;
        let named: Vec<Pid> = if command.is_none() { named_alone(&config) } else { Vec::new() };
        let ending = Ending {
            held: held.as_mut(),
            command: command.as_ref(),
            named: &named,
            duration: config.ends_after(),
            signals: &mut signals,
            wants_looks: config.wants_looks(),
        };
        let ended = until_ended(&mut session, &wakers, ending, control).await;
        session.end_hold(held, command.as_ref());
        ended?;
        let Ended { windows, objects, capture, unwinding, arming } = session.finish(&config)?;
        let placements = arming.as_ref().map(Arming::placements).unwrap_or_default();
        let self_cost = if config.self_cost { capture.self_cost() } else { Vec::new() };
        // For each probe of each process the kernel asks those of all others whether they still want it.
        if capture.probed() >= MANY_PROBED {
            control.told(&format!("taking the probes of {} processes away, which takes the kernel some seconds", capture.probed()));
        }
        drop(capture);
        Ok((Recording { windows, objects, self_cost, placements, unwinding, config, command, hearing: None }, signals))
    }
}

/// Takes in children that were started between the first look and the moment from which they are followed.
fn follow_children(config: &Config, types: &KernelTypes, filter: &Filter, capture: &mut Capture) -> Result<(), RecordError> {
    if config.inherit {
        for (pid, _) in target::resolve(&config.targets, config.inherit.into(), &|name| controller_index(types, name))?.processes {
            if filter.processes.iter().all(|(known, _)| *known != pid) {
                capture.add_target(pid)?;
            }
        }
    }
    Ok(())
}

/// What may end a recording.
struct Ending<'a> {
    /// The command may be stopped, and is to be let go on.
    held: Option<&'a mut Held>,
    command: Option<&'a Command>,
    named: &'a [Pid],
    duration: Option<Duration>,
    signals: &'a mut Signals,
    /// There is more to look at than what arrives.
    wants_looks: bool,
}

/// Drains until something ends the recording.
async fn until_ended(session: &mut Session, wakers: &Wakers, ending: Ending<'_>, control: &mut dyn Control) -> Result<(), RecordError> {
    let Ending { mut held, command, named, duration, signals, wants_looks } = ending;
    let mut looks = tokio::time::interval(LOOK);
    let ends = Ends::watch(named);
    let time_over = after(duration);
    let all_ended = async { if named.is_empty() { std::future::pending().await } else { ends.all().await } };
    let command_ended = async {
        match command {
            Some(command) => command.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(time_over, all_ended, command_ended);
    let (mut told, mut named_have_ended) = (Duration::ZERO, false);
    loop {
        tokio::select! {
            () = &mut time_over => return Ok(()),
            () = &mut all_ended, if !named_have_ended => {
                named_have_ended = true;
                session.drain(Last::No)?;
            }
            () = &mut command_ended => return Ok(()),
            signal = signals.next() => {
                if signals.ends_recording(signal, command) {
                    return Ok(());
                }
            }
            () = news_of_command(held.as_deref_mut()) => {
                if let (Some(held), Some(command)) = (held.as_deref_mut(), command) {
                    session.look_at_command(held, command)?;
                }
            }
            () = wakers.due() => session.drain(Last::No)?,
            _ = looks.tick(), if wants_looks => session.look()?,
        }
        // Their children may go on.
        if named_have_ended && session.have_all_ended() {
            return Ok(());
        }
        session.news().iter().for_each(|news| control.told(news));
        if session.elapsed() >= told + Duration::from_secs(1) {
            told = session.elapsed();
            let lost = session.lost();
            control.progress(&Progress { elapsed: told, samples: session.samples(), lost, processes: session.living() });
        }
    }
}

/// Returns when something has happened to a command that may be stopped.
async fn news_of_command(held: Option<&mut Held>) {
    match held {
        Some(held) => held.told().await,
        None => std::future::pending().await,
    }
}

/// Who looks for the functions of allocators, and is heard.
fn arming(config: &Config, filter: &Filter, wakers: &mut Vec<OwnedFd>) -> io::Result<Option<Arming>> {
    let arming = config
        .calls()
        .map(|_| Arming::new(whom(filter, config.inherit), &config.heap.allocators, config.self_cost.then(Placements::default)));
    let arming = arming.transpose()?;
    if let Some(arming) = &arming {
        wakers.push(arming.news()?);
    }
    Ok(arming)
}

/// Who looks for the places of custom probes, and is heard.
fn custom(config: &Config, filter: &Filter, wakers: &mut Vec<OwnedFd>) -> io::Result<Option<CustomArming>> {
    if !config.has_custom() {
        return Ok(None);
    }
    let custom = CustomArming::new(whom(filter, config.inherit), &config.custom)?;
    wakers.push(custom.finder_news()?);
    Ok(Some(custom))
}

impl Recording {
    /// Symbolizes what was recorded: a profile for each window. Files are parsed in child processes without rights; a file that breaks them stays without
    /// names.
    pub fn profiles(&self) -> Vec<Profile> {
        // Names take memory here, too.
        let left = (self.config.memory_limit / 8 * 7).saturating_sub(resident_bytes());
        let mut sources = Sources::new(&self.objects, &self.config.debug_dirs, left);
        symbolize(&self.windows, &mut sources)
    }

    /// Whether the recorded command has not ended yet: the time was over before it, or a second signal gave it up.
    pub fn is_command_running(&self) -> bool {
        self.command.as_ref().is_some_and(Command::is_running)
    }

    /// Waits for the recorded command, if there was one, and gives its status. Signals that arrive meanwhile are passed on to it.
    ///
    /// # Errors
    /// It could not be waited for.
    pub fn wait_for_command(&mut self) -> Result<Option<CommandEnd>, RecordError> {
        let Some(command) = self.command.take() else { return Ok(None) };
        if let Some((runtime, mut signals)) = self.hearing.take() {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        () = command.ended() => break,
                        signal = signals.next() => signals.pass_on(signal, &command),
                    }
                }
            });
        }
        Ok(Some(command.wait()?))
    }
}
