//! A command whose calls are probed is stopped when it has become a program, and when its loader has mapped that one's libraries, and goes on when their
//! functions are probed and their tables are there: so what it allocates first is counted. Its children are not stopped, which others would notice.

use super::arming::object_of;
use super::command::Command;
use super::file_finder::FileFinder;
use super::session::Session;
use crate::bpf::{BpfError, Capture, CaptureOptions, Last};
use crate::config::Config;
use crate::model::mapping::ObjectId;
use crate::model::probe_points::{Found, WantedPoints};
use crate::model::process::Pid;
use crate::object::ObjectStore;
use crate::process::Processes;
use crate::sys::spawn::{SpawnError, Successor};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The function that loaders call for debuggers when they have mapped libraries, and when they are about to (`r_brk` of <link.h>; glibc and musl).
const LINKED: &str = "_dl_debug_state";
/// What has happened is in order after so long (`bpf/order.rs`).
const IN_ORDER: Duration = Duration::from_millis(2);
/// How long the command waits until a file is looked through.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// The command, while it may be stopped.
pub(super) struct Held {
    handled: u64,
    finder: FileFinder<Option<u64>>,
    /// Where files have the function of a loader; None while that is being found out.
    known: HashMap<ObjectId, Option<Option<u64>>>,
    watched: HashSet<ObjectId>,
    of_child: Signal,
    /// It goes on, too, if we are killed.
    _successor: Successor,
}

impl Held {
    /// Has a command whose functions are probed stopped; before it is let go.
    pub(super) fn of(config: &Config, command: Option<&Command>, options: &mut CaptureOptions) -> Result<Option<Self>, SpawnError> {
        let is_probed = config.calls().is_some() || config.has_custom_in_processes();
        let Some(command) = command.filter(|_| is_probed) else { return Ok(None) };
        options.settings.held = command.pid().0;
        // Before anything is attached or mapped that must end with this process.
        let successor = command.successor()?;
        Self::new(successor).map(Some).map_err(SpawnError::Watch)
    }

    fn new(successor: Successor) -> io::Result<Self> {
        let wanted = WantedPoints { functions: vec![LINKED.to_owned()], marks: Vec::new() };
        let finder = FileFinder::start("profiler-loader", move |reader, object, file| {
            let found = reader.points(object, file.as_fd(), &wanted).ok()?;
            found.functions.into_iter().find_map(|found| if let Found::At(places) = found { places.first().copied() } else { None })
        })?;
        Ok(Self {
            handled: 0,
            finder,
            known: HashMap::new(),
            watched: HashSet::new(),
            of_child: signal(SignalKind::child())?,
            _successor: successor,
        })
    }

    /// Returns when something has happened to a child of ours.
    pub(super) async fn told(&mut self) {
        self.of_child.recv().await;
    }

    /// Has the command stopped where its loader tells of libraries. The loader is one of the files that are mapped at its first stop.
    fn watch_loader(&mut self, pid: Pid, processes: &Processes, objects: &ObjectStore, capture: &mut Capture) -> Result<(), BpfError> {
        let Some(space) = processes.space(pid) else { return Ok(()) };
        let mapped: BTreeSet<ObjectId> = space.iter().filter_map(|range| object_of(&range.kind)).collect();
        for object in &mapped {
            if !self.known.contains_key(object)
                && let Some(file) = objects.file(*object).and_then(|file| file.try_clone_to_owned().ok())
            {
                self.known.insert(*object, None);
                self.finder.ask(*object, file);
            }
        }
        let until = Instant::now() + LOOK_MAX;
        while Instant::now() < until && self.finder.wait(until - Instant::now()) {}
        self.known.extend(self.finder.found().into_iter().map(|(object, place)| (object, Some(place))));
        for object in mapped {
            if let (Some(Some(Some(place))), Some(file)) = (self.known.get(&object), objects.file(object))
                && self.watched.insert(object)
            {
                capture.watch_loader(pid, file, *place)?;
            }
        }
        Ok(())
    }
}

impl Session {
    /// Something has happened to the command. If it was stopped for us, it goes on when what it has mapped is probed.
    ///
    /// # Errors
    /// The maps of the kernel side cannot be read or written.
    pub(super) fn look_at_command(&mut self, held: &mut Held, command: &Command) -> Result<(), BpfError> {
        let stops = self.capture.stops()?;
        if stops == held.handled {
            return Ok(());
        }
        held.handled = stops;
        let caught_up = self.catch_up(held, command.pid());
        command.signal(libc::SIGCONT);
        match caught_up {
            // It was killed meanwhile, or the kernel refuses what it has allowed before: what is not armed is said in the end.
            Err(BpfError::Probe { .. }) => Ok(()),
            other => other,
        }
    }

    fn catch_up(&mut self, held: &mut Held, pid: Pid) -> Result<(), BpfError> {
        std::thread::sleep(IN_ORDER);
        self.drain(Last::No)?;
        if let Some(arming) = &mut self.arming {
            arming.settle(&self.processes, &self.objects, &mut self.capture);
        }
        if let Some(custom) = &mut self.custom {
            custom.settle(&self.processes, &self.objects, &mut self.capture);
        }
        if let Some(finishing) = &mut self.finishing {
            finishing.prepare(pid, &self.processes, &self.objects, &mut self.capture);
            finishing.settle(&self.objects, &self.processes, &mut self.capture)?;
        }
        held.watch_loader(pid, &self.processes, &self.objects, &mut self.capture)
    }

    /// Nobody is stopped any more, and whoever is goes on.
    pub(super) fn end_hold(&mut self, held: Option<Held>, command: Option<&Command>) {
        let (Some(held), Some(command)) = (held, command) else { return };
        // What cannot be read may have been stopped.
        if self.capture.end_hold().unwrap_or(u64::MAX) != held.handled {
            command.signal(libc::SIGCONT);
        }
    }
}
