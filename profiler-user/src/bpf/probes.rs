//! Probes on an allocator's functions: which programs, where, for which process.

use super::error::BpfError;
use super::probe_links::{Links, Points, RETURN, create_link, has_links_of_many};
use super::probe_programs::{AttachType, ProbeObject};
use super::program_cost;
use crate::config::Event;
use crate::model::allocator::{Allocator, AllocatorCall, AllocatorFunction, ProbePlace};
use crate::model::process::Pid;
use aya::maps::{Array, MapData};
use profiler_common::limits::{SITE_OWN_MAX, SITES_MAX};
use profiler_common::tally::{self, Site, cookie};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// Words of a [`Site`] as the map's value.
pub(super) const SITE_WORDS: usize = size_of::<Site>() / 8;

/// The programs of a recording's kind.
enum Programs {
    /// What is allocated.
    Allocs { entry: OwnedFd },
    /// What lives, where the kernel asks whether a return is wanted.
    Session { both: OwnedFd, free: OwnedFd },
    /// What lives, elsewhere.
    Pair { entry: OwnedFd, leave: OwnedFd, free: OwnedFd },
}

/// The programs, their sites, and what is armed.
pub(super) struct Probes {
    programs: Programs,
    sites: Array<MapData, [u64; SITE_WORDS]>,
    /// The numbers of those that are used.
    numbers: HashMap<[u64; SITE_WORDS], u32>,
    /// What can take the place of `programs` when they turn out too dear.
    lesser: Option<OwnedFd>,
    /// What the programs have run whose place was taken.
    ran: Ran,
    links: Links,
}

/// Where a call is trapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trap {
    /// Where it begins.
    Entry,
    /// Where it begins, and where it returns.
    EntryAndReturn,
}

/// Which returns of calls are seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Returns {
    NotSeen,
    /// Those that the entry has asked for.
    WhereAsked,
    Seen,
}

/// How often programs of probes have run, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Ran {
    /// At calls that make a block, and at their returns.
    pub(super) calls_and_returns: u64,
    /// At calls that give one back.
    pub(super) frees: u64,
    /// All together, nanoseconds.
    pub(super) time_ns: u64,
}

impl Probes {
    /// Loads the programs for a kind of profile; the maps are those that aya has made.
    pub(super) fn load(
        (event, budget): (Event, bool),
        object: &[u8],
        maps: &[(String, RawFd)],
        sites: Array<MapData, [u64; SITE_WORDS]>,
    ) -> Result<Self, BpfError> {
        let object = ProbeObject::parse(object, maps)?;
        let multi = |name| object.load(name, AttachType::Multi);
        // The smallest one says whether the kernel is too old, before its verifier gives up at a larger one.
        let free = multi("heap_free")?;
        if !has_links_of_many(&free) {
            return Err(BpfError::NoProbeLinks);
        }
        let programs = match event {
            Event::Allocs => Programs::Allocs { entry: multi("allocs_entry")? },
            _ => match object.load("heap_session", AttachType::Session) {
                Ok(both) => Programs::Session { both, free },
                Err(_) => Programs::Pair { entry: multi("heap_entry")?, leave: multi("heap_return")?, free },
            },
        };
        let lesser = (budget && event == Event::Heap).then(|| multi("allocs_entry")).transpose()?;
        Ok(Self { programs, lesser, ran: Ran::default(), sites, numbers: HashMap::new(), links: Links::default() })
    }

    /// The loaded programs, by name.
    pub(super) fn programs(&self) -> Vec<(&'static str, &OwnedFd)> {
        match &self.programs {
            Programs::Allocs { entry } => vec![("allocs_entry", entry)],
            Programs::Session { both, free } => vec![("heap_session", both), ("heap_free", free)],
            Programs::Pair { entry, leave, free } => vec![("heap_entry", entry), ("heap_return", leave), ("heap_free", free)],
        }
    }

    /// Arms an allocator's functions in a process. The file is that of the mapping.
    pub(super) fn arm(&mut self, pid: Pid, file: BorrowedFd<'_>, allocator: &Allocator) -> Result<(), BpfError> {
        let (mut makers, mut frees) = (Points::default(), Points::default());
        for function in &allocator.functions {
            let Some(place) = self.place_of(function) else { continue };
            let cookie = self.site(function, place, allocator)?;
            let points = if function.call == AllocatorCall::Free { &mut frees } else { &mut makers };
            points.push(place.offset, cookie, 0);
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut links = Vec::new();
        let mut link = |program: &OwnedFd, points: &Points, attach, flags| {
            if points.is_empty() {
                return Ok(());
            }
            links.push(create_link(program, &path, points, (attach, flags, pid)).map_err(|source| BpfError::Probe { pid: pid.0, source })?);
            Ok(())
        };
        match &self.programs {
            Programs::Allocs { entry } => link(entry, &makers, AttachType::Multi, 0)?,
            Programs::Session { both, free } => {
                // First what ends blocks: a block that is counted must not end unseen.
                link(free, &frees, AttachType::Multi, 0)?;
                link(both, &makers, AttachType::Session, 0)?;
            }
            Programs::Pair { entry, leave, free } => {
                link(free, &frees, AttachType::Multi, 0)?;
                link(leave, &makers, AttachType::Multi, RETURN)?;
                link(entry, &makers, AttachType::Multi, 0)?;
            }
        }
        self.links.keep(pid, links);
        Ok(())
    }

    /// Where a function is probed by the programs as they are now; None: it is not.
    pub(super) fn place_of(&self, function: &AllocatorFunction) -> Option<ProbePlace> {
        match (&self.programs, function.call) {
            (Programs::Allocs { .. }, AllocatorCall::Free) => None,
            (Programs::Allocs { .. }, _) | (_, AllocatorCall::Free) => Some(function.after_entry),
            _ => Some(function.at_entry),
        }
    }

    /// Describes a place to the programs, and gives the number that they are told there.
    fn site(&mut self, function: &AllocatorFunction, place: ProbePlace, allocator: &Allocator) -> Result<u64, BpfError> {
        let call = call_number(function.call);
        let mut own = [[0; 2]; SITE_OWN_MAX];
        let relative = |offset: u64| offset.wrapping_sub(place.offset) as i64;
        own.iter_mut().zip(&allocator.own).for_each(|(slot, (first, end))| *slot = [relative(*first), relative(*end)]);
        let site = Site { call, pushed: place.pushed, forwards: u32::from(function.forwards), reserved: 0, own };
        let words: [u64; SITE_WORDS] = zerocopy::transmute!(site);
        let number = self.number(words)?;
        let cookie = cookie::of(number, call, function.forwards);
        Ok(if place.is_emulated { cookie } else { cookie::stepped(cookie) })
    }

    /// The number of a site: one for all processes that map the file, and for all places that look the same to the programs.
    fn number(&mut self, words: [u64; SITE_WORDS]) -> Result<u32, BpfError> {
        if let Some(number) = self.numbers.get(&words) {
            return Ok(*number);
        }
        let number = self.numbers.len() as u32;
        if number >= SITES_MAX {
            return Err(BpfError::Map { map: "SITES", reason: "no room for more functions".into() });
        }
        self.sites.set(number, words, 0).map_err(|error| BpfError::Map { map: "SITES", reason: error.to_string() })?;
        self.numbers.insert(words, number);
        Ok(number)
    }

    /// From now on only what is allocated is counted. Nothing may be armed any more.
    pub(super) fn count_allocs(&mut self) {
        if let Some(entry) = self.lesser.take() {
            self.ran = self.ran();
            self.programs = Programs::Allocs { entry };
        }
    }

    /// How often the programs have run, and for how long; only where that is measured.
    pub(super) fn ran(&self) -> Ran {
        self.programs().into_iter().filter_map(|(name, program)| program_cost::of_descriptor(name, program)).fold(self.ran, |ran, cost| {
            let is_free = cost.name == "heap_free";
            Ran {
                time_ns: ran.time_ns + cost.time.as_nanos() as u64,
                frees: ran.frees + if is_free { cost.runs } else { 0 },
                calls_and_returns: ran.calls_and_returns + if is_free { 0 } else { cost.runs },
            }
        })
    }

    /// Processes in which something is armed.
    pub(super) fn processes(&self) -> usize {
        self.links.processes()
    }

    /// Which returns are seen.
    pub(super) fn returns(&self) -> Returns {
        match &self.programs {
            Programs::Allocs { .. } => Returns::NotSeen,
            Programs::Session { .. } => Returns::WhereAsked,
            Programs::Pair { .. } => Returns::Seen,
        }
    }

    /// Links a probe of our own text, and those of others at the same place, to see what its trap costs.
    pub(super) fn try_out(&self, path: &str, offset: u64, trap: Trap, others: &[Pid]) -> io::Result<Vec<OwnedFd>> {
        let points = Points::one(offset);
        let own = Pid(std::process::id());
        let links = std::iter::once(&own)
            .chain(others)
            .map(|pid| self.tried(trap, |program, attach, flags| create_link(program, path, &points, (attach, flags, *pid))));
        Ok(links.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn tried(&self, trap: Trap, link: impl Fn(&OwnedFd, AttachType, u32) -> io::Result<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
        Ok(match (&self.programs, trap) {
            (Programs::Allocs { entry } | Programs::Pair { entry, .. }, Trap::Entry) => vec![link(entry, AttachType::Multi, 0)?],
            (Programs::Session { free, .. }, Trap::Entry) => vec![link(free, AttachType::Multi, 0)?],
            (Programs::Allocs { .. }, Trap::EntryAndReturn) => Vec::new(),
            (Programs::Session { both, .. }, Trap::EntryAndReturn) => vec![link(both, AttachType::Session, 0)?],
            (Programs::Pair { entry, leave, .. }, Trap::EntryAndReturn) => {
                vec![link(leave, AttachType::Multi, RETURN)?, link(entry, AttachType::Multi, 0)?]
            }
        })
    }

    /// Disarms everything.
    pub(super) fn disarm_all(&mut self) {
        self.links.close();
    }

    /// Disarms what is armed in a process, which has ended.
    pub(super) fn disarm(&mut self, pid: Pid) {
        self.links.close_aside(pid);
    }
}

const fn call_number(call: AllocatorCall) -> u32 {
    match call {
        AllocatorCall::Malloc => tally::CALL_MALLOC,
        AllocatorCall::Calloc => tally::CALL_CALLOC,
        AllocatorCall::Realloc => tally::CALL_REALLOC,
        AllocatorCall::Memalign => tally::CALL_MEMALIGN,
        AllocatorCall::AlignedNew => tally::CALL_ALIGNED_NEW,
        AllocatorCall::PosixMemalign => tally::CALL_POSIX_MEMALIGN,
        AllocatorCall::Free => tally::CALL_FREE,
    }
}
