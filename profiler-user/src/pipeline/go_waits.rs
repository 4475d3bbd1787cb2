//! The waits of goroutines, which no futex shows: what Go's runtimes have recorded of them in the time of the recording, where they do.

use super::arming::{bias, object_of};
use super::file_finder::FileFinder;
use super::go_heap;
use super::go_reading::{Lists, Reading, Recorded};
use super::go_wait_notes::Notes;
use super::probed::{Probed, Whom};
use crate::aggregate::Aggregator;
use crate::go::waits::Which;
use crate::model::answer::LoadSegment;
use crate::model::event::ProcessEvent;
use crate::model::go_heap::NoGoHeap;
use crate::model::go_waits::GoWaitPlaces;
use crate::model::mapping::ObjectId;
use crate::model::process::Pid;
use crate::model::stack::{RawStack, Tally};
use crate::model::window::{CLASS_GOROUTINE, Counts, SampleKey};
use crate::object::ObjectStore;
use crate::process::Processes;
use crate::reader::Reader;
use profiler_common::source::Source;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// How long the start of a recording waits for the programs that run already; who is found later is read later, and it is said how much of the time is known.
const START_MAX: Duration = Duration::from_secs(2);
/// How long its end waits.
const END_MAX: Duration = Duration::from_secs(6);
/// Go programs that are read; a machine has a few dozen.
const PROGRAMS_MAX: usize = 512;

/// What a file is to a profile of waits.
enum Finding {
    NotGo,
    Go(Result<(GoWaitPlaces, Vec<LoadSegment>), NoGoHeap>),
}

/// Who is followed.
pub(super) struct GoWaits {
    probed: Probed,
    finder: FileFinder<Finding>,
    /// What files are; None while that is being found out.
    known: HashMap<ObjectId, Option<Finding>>,
    which: Vec<Which>,
    /// Processes that have run before the recording began.
    old: HashSet<Pid>,
    /// The Go programs, and where their lists are, or why that is not known.
    programs: BTreeMap<Pid, Result<Lists, NoGoHeap>>,
    /// Those that have ended, or could not be read any more.
    ended: BTreeSet<Pid>,
    reading: Reading,
}

impl GoWaits {
    /// Follows nobody yet.
    pub(super) fn new(whom: Whom, which: Vec<Which>) -> io::Result<Self> {
        Ok(Self {
            probed: Probed::new(whom),
            finder: FileFinder::start("profiler-gofile", look)?,
            known: HashMap::new(),
            reading: Reading::start(which.clone())?,
            which,
            old: HashSet::new(),
            programs: BTreeMap::new(),
            ended: BTreeSet::new(),
        })
    }

    /// Readable when a file was looked through.
    pub(super) fn news(&self) -> io::Result<OwnedFd> {
        self.finder.news()
    }

    /// Takes in who runs already, and keeps what they have recorded by now.
    pub(super) fn begin(&mut self, processes: &Processes, objects: &ObjectStore) {
        self.old = processes.pids().collect();
        self.probed.begin(processes);
        let until = Instant::now() + START_MAX;
        self.look(processes, objects);
        while Instant::now() < until && self.finder.wait(until - Instant::now()) {
            self.take_over();
            self.look(processes, objects);
        }
        self.reading.settle(until.saturating_duration_since(Instant::now()));
    }

    /// Something has happened to a process.
    pub(super) fn note(&mut self, event: &ProcessEvent) {
        self.probed.note(event);
        match event {
            // Another program has counted nothing yet.
            ProcessEvent::Exec { pid, .. } => self.forget(*pid),
            ProcessEvent::Exit { pid, tid } if pid.0 == tid.0 => {
                if self.programs.contains_key(pid) {
                    self.ended.insert(*pid);
                }
                self.forget(*pid);
            }
            _ => {}
        }
    }

    fn forget(&mut self, pid: Pid) {
        self.old.remove(&pid);
        if self.programs.remove(&pid).is_some() {
            self.reading.forget(pid);
        }
    }

    /// Takes in who is new.
    pub(super) fn go_on(&mut self, processes: &Processes, objects: &ObjectStore) {
        self.take_over();
        self.probed.go_on(processes);
        self.look(processes, objects);
    }

    fn take_over(&mut self) {
        for (object, finding) in self.finder.found() {
            self.known.insert(object, Some(finding));
        }
    }

    /// Looks at the processes that have changed. One whose files are not all known stays to be looked at.
    fn look(&mut self, processes: &Processes, objects: &ObjectStore) {
        for pid in self.probed.take_changed() {
            let Some(space) = processes.space(pid).filter(|_| !self.programs.contains_key(&pid)) else { continue };
            let mapped: BTreeSet<ObjectId> = space.iter().filter_map(|range| object_of(&range.kind)).collect();
            if !self.are_known(&mapped, objects) {
                self.probed.again(pid);
            }
            let go =
                |object: &ObjectId| if let Some(Some(Finding::Go(found))) = self.known.get(object) { Some((*object, found)) } else { None };
            let Some((object, found)) = mapped.iter().find_map(go) else { continue };
            let range = space.iter().find(|range| object_of(&range.kind) == Some(object));
            let lists = match (found, range) {
                (Err(why), _) => Err(why.clone()),
                (Ok((places, segments)), Some(range)) => match bias(&range.mapped, segments) {
                    Some(bias) => Ok(Lists { pid, bias, places: *places }),
                    None => continue,
                },
                (Ok(_), None) => continue,
            };
            self.follow(pid, lists);
        }
    }

    fn follow(&mut self, pid: Pid, lists: Result<Lists, NoGoHeap>) {
        if self.programs.len() >= PROGRAMS_MAX {
            return;
        }
        if let (Ok(lists), true) = (&lists, self.old.contains(&pid)) {
            self.reading.begin(*lists);
        }
        self.programs.insert(pid, lists);
    }

    /// Whether it is known what these files are; if not, it is asked for.
    fn are_known(&mut self, mapped: &BTreeSet<ObjectId>, objects: &ObjectStore) -> bool {
        let mut are_known = true;
        for object in mapped {
            match self.known.get(object) {
                Some(finding) => are_known &= finding.is_some(),
                None => {
                    if let Some(file) = objects.file(*object).and_then(|file| file.try_clone_to_owned().ok()) {
                        self.known.insert(*object, None);
                        self.finder.ask(*object, file);
                        are_known = false;
                    }
                }
            }
        }
        are_known
    }

    /// Reads them all at the end.
    pub(super) fn end(&self) -> Recordings {
        let lists: Vec<Lists> = self.programs.values().filter_map(|lists| lists.as_ref().ok().copied()).collect();
        let mut read = self.reading.end(&lists, END_MAX);
        let mut recordings = Recordings { programs: Vec::new(), notes: Notes::new(self.which.clone()) };
        for (pid, lists) in &self.programs {
            let read = match lists {
                Ok(_) => read.remove(pid).map(|read| read.map_err(|error| error.to_string())),
                Err(why) => Some(Err(why.to_string())),
            };
            match read {
                Some(Ok(recorded)) => {
                    recordings.notes.recorded(*pid, &recorded);
                    let minor = lists.as_ref().map_or(0, |lists| lists.places.minor);
                    recordings.programs.push((*pid, minor, recorded));
                }
                Some(Err(why)) => recordings.notes.unknown(*pid, &why),
                None => recordings.notes.unknown(*pid, "it could not be read in time"),
            }
        }
        recordings.notes.ended(&self.ended);
        if self.programs.len() >= PROGRAMS_MAX {
            recordings.notes.too_many(PROGRAMS_MAX);
        }
        recordings
    }
}

/// A file that cannot be read is no program of Go's.
fn look(reader: &mut Reader, object: ObjectId, file: &OwnedFd) -> Finding {
    match reader.go_waits(object, file.as_fd()) {
        Ok(Ok(places)) => Finding::Go(Ok((places, reader.identify(object, file.as_fd()).map(|facts| facts.segments).unwrap_or_default()))),
        Ok(Err(NoGoHeap::NotGo)) | Err(_) => Finding::NotGo,
        Ok(Err(why)) => Finding::Go(Err(why)),
    }
}

/// What was read of the processes.
pub(super) struct Recordings {
    /// Whose, the minor number of its Go, and what it has recorded.
    pub(super) programs: Vec<(Pid, u32, Vec<Recorded>)>,
    pub(super) notes: Notes,
}

/// The same as rows of windows.
#[derive(Default)]
pub(super) struct GoWaitRows {
    pub(super) rows: Vec<(Source, SampleKey, Counts)>,
    pub(super) notes: Notes,
}

impl GoWaitRows {
    /// Puts the rows of a source to what was seen of it. They are counted by others: what was seen here and what was lost is no matter of theirs.
    pub(super) fn settle(&self, source: Source, aggregator: &mut Aggregator) {
        self.rows.iter().filter(|(of, ..)| *of == source).for_each(|(_, key, counts)| aggregator.take_in(*key, *counts));
    }

    /// What there is to say of a source's.
    pub(super) fn notes(&self, of: Source) -> Vec<String> {
        [Which::Block, Which::Mutex].into_iter().filter(|which| source(*which) == of).flat_map(|which| self.notes.of(which)).collect()
    }
}

/// What makes the events of a profile.
fn source(which: Which) -> Source {
    match which {
        Which::Block => Source::BLOCK,
        Which::Mutex => Source::MUTEX,
    }
}

/// A stack as what is normalized, and what was counted of it.
pub(super) fn tallies(pid: Pid, recorded: &Recorded) -> impl Iterator<Item = (Tally<RawStack>, Counts)> + '_ {
    let source = source(recorded.which);
    recorded.rows.iter().map(move |row| (go_heap::stack(pid, &row.stack, source), Counts { events: row.waits, weight: row.ns }))
}

/// The key of a row: nothing that was seen at a futex has the same.
pub(super) fn key(key: SampleKey) -> SampleKey {
    SampleKey { class: CLASS_GOROUTINE, ..key }
}
