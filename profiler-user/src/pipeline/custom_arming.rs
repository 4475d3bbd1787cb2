//! Where the probes of custom profiles are: in the files that the processes of the target map, by the names that the user has given.

use super::arming::object_of;
use super::file_finder::FileFinder;
use super::file_name::is_file;
use super::probed::{Probed, Whom};
use crate::bpf::{BpfError, Capture, Spots, Spotted};
use crate::model::custom::{CustomProfile, Function, Place};
use crate::model::event::{ProcessEvent, TimedEvent};
use crate::model::mapping::ObjectId;
use crate::model::probe_points::{Found, FoundPoints, WantedPoints};
use crate::model::process::Pid;
use crate::object::ObjectStore;
use crate::process::Processes;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long the start of a recording waits until the files that are mapped already are looked through.
const START_MAX: Duration = Duration::from_secs(10);

/// One probe in processes: of which profile, and its number there.
struct Wanted {
    at: (usize, usize),
    place: Place,
}

/// The probes of a recording's custom profiles.
pub(super) struct CustomArming {
    probed: Probed,
    finder: FileFinder<Option<FoundPoints>>,
    wanted: Vec<Wanted>,
    /// What files have of all that is wanted; None while that is being found out.
    known: HashMap<ObjectId, Option<FoundPoints>>,
    armed: HashSet<(Pid, ObjectId)>,
    /// Probes that are somewhere.
    placed: BTreeSet<(usize, usize)>,
    /// Probes whose file was found, and is without them.
    missing: BTreeMap<(usize, usize), String>,
    told: BTreeSet<(usize, usize)>,
    trouble: Option<BpfError>,
}

impl CustomArming {
    /// Arms nothing yet.
    pub(super) fn new(whom: Whom, profiles: &[CustomProfile]) -> io::Result<Self> {
        let mut wanted = Vec::new();
        for (at, profile) in profiles.iter().enumerate() {
            let in_processes = profile.probes.iter().enumerate().filter(|(_, probe)| library(&probe.place).is_some());
            wanted.extend(in_processes.map(|(probe, of)| Wanted { at: (at, probe), place: of.place.clone() }));
        }
        let points = points(&wanted);
        Ok(Self {
            probed: Probed::new(whom),
            finder: FileFinder::start("profiler-custom", move |reader, object, file| {
                reader.points(object, std::os::fd::AsFd::as_fd(file), &points).ok()
            })?,
            wanted,
            known: HashMap::new(),
            armed: HashSet::new(),
            placed: BTreeSet::new(),
            missing: BTreeMap::new(),
            told: BTreeSet::new(),
            trouble: None,
        })
    }

    /// Readable when a file was looked through.
    pub(super) fn finder_news(&self) -> io::Result<OwnedFd> {
        self.finder.news()
    }

    /// Arms what is there; gives the processes that have probes. A name that its file does not have is an error, not an empty profile.
    ///
    /// # Errors
    /// What is missing, or why nothing could be armed.
    pub(super) fn begin(&mut self, processes: &Processes, objects: &ObjectStore, capture: &mut Capture) -> Result<BTreeSet<Pid>, BpfError> {
        self.probed.begin(processes);
        self.settle(processes, objects, capture);
        if let Some(trouble) = self.trouble.take() {
            return Err(trouble);
        }
        match self.missing.iter().find(|(at, _)| !self.placed.contains(at)) {
            Some((_, why)) => Err(BpfError::Custom(why.clone())),
            None => Ok(self.armed.iter().map(|(pid, _)| *pid).collect()),
        }
    }

    /// Arms what is there, and waits until the files are looked through, but not for ever.
    pub(super) fn settle(&mut self, processes: &Processes, objects: &ObjectStore, capture: &mut Capture) {
        let until = Instant::now() + START_MAX;
        self.look(processes, objects, capture);
        while Instant::now() < until && self.finder.wait(until - Instant::now()) {
            self.take_over();
            self.look(processes, objects, capture);
        }
    }

    /// Something has happened to a process.
    pub(super) fn note(&mut self, TimedEvent { time, event }: &TimedEvent, capture: &mut Capture) {
        self.probed.note(event);
        if let ProcessEvent::Exec { pid, .. } = event
            && self.probed.follows(*pid)
        {
            capture.note_exec(*pid, *time);
        }
        if let ProcessEvent::Exit { pid, tid } = event
            && pid.0 == tid.0
        {
            self.armed.retain(|(armed, _)| armed != pid);
            capture.disarm_custom(*pid);
        }
    }

    /// Arms what is new; gives the processes that were looked at.
    pub(super) fn go_on(&mut self, processes: &Processes, objects: &ObjectStore, capture: &mut Capture) -> Vec<Pid> {
        self.take_over();
        let looked_at = self.probed.go_on(processes);
        self.look(processes, objects, capture);
        looked_at
    }

    /// What the user is to be told of probes that were looked for since.
    pub(super) fn news(&mut self) -> Vec<String> {
        let mut news: Vec<String> = self.trouble.take().map(|trouble| trouble.to_string()).into_iter().collect();
        for (at, why) in &self.missing {
            if !self.placed.contains(at) && self.told.insert(*at) {
                news.push(why.clone());
            }
        }
        news
    }

    /// What there is to say of a profile: a probe that is nowhere adds nothing.
    pub(super) fn notes(&self, profile: usize) -> Vec<String> {
        let nowhere = self.wanted.iter().filter(|wanted| wanted.at.0 == profile && !self.placed.contains(&wanted.at));
        let note = |wanted: &Wanted| {
            let unmapped = || format!("{}: no process that was recorded maps {}", wanted.place, library(&wanted.place).unwrap_or_default());
            self.missing.get(&wanted.at).cloned().unwrap_or_else(unmapped)
        };
        nowhere.map(note).collect()
    }

    fn take_over(&mut self) {
        for (object, found) in self.finder.found() {
            self.known.insert(object, Some(found.unwrap_or_default()));
        }
    }

    /// Looks at the processes that have changed. One whose files are not all known stays to be looked at.
    fn look(&mut self, processes: &Processes, objects: &ObjectStore, capture: &mut Capture) {
        for pid in self.probed.take_changed() {
            let Some(space) = processes.space(pid) else { continue };
            let mut named: BTreeMap<ObjectId, BTreeSet<usize>> = BTreeMap::new();
            for range in space.iter() {
                let Some(object) = object_of(&range.kind).filter(|object| !self.armed.contains(&(pid, *object))) else { continue };
                let is_named =
                    |wanted: &(usize, &Wanted)| library(&wanted.1.place).is_some_and(|library| is_file(library, &range.mapped.path));
                let found: Vec<usize> = self.wanted.iter().enumerate().filter(is_named).map(|(at, _)| at).collect();
                if !found.is_empty() {
                    named.entry(object).or_default().extend(found);
                }
            }
            for (object, wanted) in named {
                match self.known.get(&object) {
                    Some(Some(found)) => {
                        let spotted = self.spotted(&wanted, &found.clone());
                        self.arm((pid, object), &spotted, objects, capture);
                    }
                    known => {
                        if known.is_none() {
                            self.ask(object, objects);
                        }
                        self.probed.again(pid);
                    }
                }
            }
        }
    }

    fn ask(&mut self, object: ObjectId, objects: &ObjectStore) {
        if let Some(file) = objects.file(object).and_then(|file| file.try_clone_to_owned().ok()) {
            self.known.insert(object, None);
            self.finder.ask(object, file);
        }
    }

    /// What is armed in a file; what is missing there is noted.
    fn spotted(&mut self, wanted: &BTreeSet<usize>, found: &FoundPoints) -> Vec<Spotted> {
        let (mut functions, mut marks) = (found.functions.iter(), found.marks.iter());
        let mut spotted = Vec::new();
        for (number, Wanted { at, place }) in self.wanted.iter().enumerate() {
            let spots = match place {
                Place::Usdt { .. } => marks.next().map(|found| spots(found, Spots::Marks)),
                _ => functions.next().map(|found| spots(found, Spots::Function)),
            };
            match spots {
                _ if !wanted.contains(&number) => {}
                Some(Ok(spots)) => {
                    self.placed.insert(*at);
                    spotted.push((*at, spots));
                }
                other => {
                    let meant = other.and_then(Result::err).flatten().map_or(String::new(), |name| format!("; is it {name}?"));
                    let library = library(place).unwrap_or_default();
                    let what = if matches!(place, Place::Usdt { .. }) { "mark" } else { "function with a symbol" };
                    self.missing.insert(*at, format!("{place}: {library} has no such {what}{meant}"));
                }
            }
        }
        spotted
    }

    fn arm(&mut self, (pid, object): (Pid, ObjectId), spotted: &[Spotted], objects: &ObjectStore, capture: &mut Capture) {
        let Some(file) = objects.file(object) else { return };
        self.armed.insert((pid, object));
        if spotted.is_empty() {
            return;
        }
        if let Err(trouble) = capture.arm_custom(pid, file, spotted) {
            self.trouble = Some(trouble);
        }
    }
}

fn spots<T: Clone>(found: &Found<T>, of: impl Fn(Vec<T>) -> Spots) -> Result<Spots, Option<String>> {
    match found {
        Found::At(places) => Ok(of(places.clone())),
        Found::Nowhere(meant) => Err(meant.clone()),
    }
}

/// All that is looked for, in one question to each file.
fn points(wanted: &[Wanted]) -> WantedPoints {
    let mut points = WantedPoints::default();
    for wanted in wanted {
        match &wanted.place {
            Place::Entry(function) | Place::Return(function) => points.functions.push(function.name.clone()),
            Place::Usdt { provider, name, .. } => points.marks.push((provider.clone(), name.clone())),
            Place::Tracepoint { .. } => {}
        }
    }
    points
}

/// The file that a probe is in.
fn library(place: &Place) -> Option<&str> {
    match place {
        Place::Entry(Function { library, .. }) | Place::Return(Function { library, .. }) | Place::Usdt { library, .. } => Some(library),
        Place::Tracepoint { .. } => None,
    }
}
