//! The probes of custom profiles: one program for each sort of place, armed with a number that says what it adds or removes there.

use super::BpfError;
use super::btf::KernelTypes;
use super::custom_values::{FunctionSites, Probe};
use super::error::{is_before, is_before_probes};
use super::probe_links::{Links, Points, RETURN, create_link, has_links_of_many};
use super::probe_programs::{AttachType, ProbeObject, descriptor};

use crate::model::custom::{Action, CustomProfile, Place};
use crate::model::probe_points::Mark;
use crate::model::process::Pid;
use aya::maps::{Array, MapData};
use profiler_common::custom::CustomSite;
use profiler_common::limits::CUSTOM_SITES_MAX;
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

// include/uapi/linux/bpf.h
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
/// Words of a [`CustomSite`] as the map's value.
pub(super) const SITE_WORDS: usize = size_of::<CustomSite>() / 8;

/// `union bpf_attr`, the part for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct TracepointAttr {
    name: u64,
    prog_fd: u32,
    reserved: u32,
    cookie: u64,
}

/// Where a probe of a profile is in a file: file offsets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Spots {
    /// Of a function.
    Function(Vec<u64>),
    /// Of a mark.
    Marks(Vec<Mark>),
}

/// A probe, by the numbers of its profile and itself, and where it is in a file.
pub type Spotted = ((usize, usize), Spots);

/// The programs, and what is armed.
pub(super) struct CustomProbes {
    profiles: Vec<CustomProfile>,
    pub(super) entry: Option<OwnedFd>,
    leave: Option<OwnedFd>,
    trace: Option<OwnedFd>,
    sites: Array<MapData, [u64; SITE_WORDS]>,
    numbers: HashMap<CustomSite, u32>,
    /// Tracepoints to be armed: their names, and the numbers of their sites; removals first.
    tracepoints: Vec<(String, u32)>,
    traced: Vec<OwnedFd>,
    links: Links,
    /// What the programs refer to, for one that is loaded later; those of its maps stay open.
    pub(super) maps: Vec<(String, RawFd)>,
    /// Those at which programs tell of their own blocks.
    pub(super) told: Links,
}

impl CustomProbes {
    /// Loads the programs that the profiles need; the maps are those that aya has made.
    pub(super) fn load(
        profiles: &[CustomProfile],
        object: &[u8],
        maps: &[(String, RawFd)],
        sites: Array<MapData, [u64; SITE_WORDS]>,
    ) -> Result<Self, BpfError> {
        if is_before_probes() {
            return Err(BpfError::TooOldToTrace);
        }
        let has_tracepoints =
            profiles.iter().flat_map(|profile| &profile.probes).any(|probe| matches!(probe.place, Place::Tracepoint { .. }));
        let is_in_processes = profiles.iter().any(CustomProfile::has_probes_in_processes);
        if has_tracepoints && is_before((6, 10)) {
            return Err(BpfError::TooOldForTracepoints);
        }
        let object = (!profiles.is_empty()).then(|| ProbeObject::parse(object, maps)).transpose()?;
        let load =
            |is_needed: bool, name, attach| object.iter().filter(|_| is_needed).map(|object| object.load(name, attach)).next().transpose();
        let entry = load(is_in_processes, "custom_entry", AttachType::Multi)?;
        if entry.as_ref().is_some_and(|entry| !has_links_of_many(entry)) {
            return Err(BpfError::NoProbeLinks);
        }
        let mut probes = Self {
            profiles: profiles.to_vec(),
            leave: load(is_in_processes, "custom_return", AttachType::Multi)?,
            trace: load(has_tracepoints, "custom_trace", AttachType::RawTracepoint)?,
            entry,
            sites,
            numbers: HashMap::new(),
            tracepoints: Vec::new(),
            traced: Vec::new(),
            links: Links::default(),
            maps: maps.to_vec(),
            told: Links::default(),
        };
        if has_tracepoints {
            probes.find_tracepoints()?;
        }
        Ok(probes)
    }

    /// The loaded programs, by name.
    pub(super) fn programs(&self) -> Vec<(&'static str, &OwnedFd)> {
        let all = [("custom_entry", &self.entry), ("custom_return", &self.leave), ("custom_trace", &self.trace)];
        all.into_iter().filter_map(|(name, program)| Some((name, program.as_ref()?))).collect()
    }

    fn find_tracepoints(&mut self) -> Result<(), BpfError> {
        let types = KernelTypes::load()?;
        for action in [Action::Remove, Action::Add] {
            for (at, profile) in self.profiles.clone().iter().enumerate() {
                let probes = profile.probes.iter().enumerate().filter(|(_, probe)| probe.action == action);
                for (probe, _) in probes {
                    if let Some(traced) = (Probe { at: (at, probe), profile }).of_tracepoint(&types)? {
                        let number = self.number(traced.site)?;
                        self.tracepoints.push((traced.hook, number));
                    }
                }
            }
        }
        Ok(())
    }

    /// The number that a site's program is told.
    pub(super) fn number(&mut self, site: CustomSite) -> Result<u32, BpfError> {
        if let Some(number) = self.numbers.get(&site) {
            return Ok(*number);
        }
        let number = self.numbers.len() as u32;
        if number >= CUSTOM_SITES_MAX {
            return Err(BpfError::Map { map: "CUSTOM_SITES", reason: "no room for more probes".into() });
        }
        let words: [u64; SITE_WORDS] = zerocopy::transmute!(site);
        self.sites.set(number, words, 0).map_err(|error| BpfError::Map { map: "CUSTOM_SITES", reason: error.to_string() })?;
        self.numbers.insert(site, number);
        Ok(number)
    }

    /// Arms the tracepoints.
    pub(super) fn trace(&mut self) -> Result<(), BpfError> {
        let Some(program) = &self.trace else { return Ok(()) };
        for (name, number) in &self.tracepoints {
            let link = open_tracepoint(program, name, u64::from(*number))
                .map_err(|error| BpfError::Custom(format!("setting a probe at tracepoint {name}: {error}")))?;
            self.traced.push(link);
        }
        Ok(())
    }

    /// No more of them.
    pub(super) fn stop_tracing(&mut self) {
        self.traced.clear();
    }

    /// Arms places of a file in a process.
    pub(super) fn arm(&mut self, pid: Pid, file: BorrowedFd<'_>, spotted: &[Spotted]) -> Result<(), BpfError> {
        // First what removes: a key that is added must not be removed unseen. And of a call its end, for what has begun must not end unseen.
        let (mut removing, mut leaving, mut adding) = <(Armed, Armed, Armed)>::default();
        for ((at, probe), spots) in spotted {
            let Some(profile) = self.profiles.get(*at).cloned() else { continue };
            let is_removal = profile.probes[*probe].action == Action::Remove;
            let this = Probe { at: (*at, *probe), profile: &profile };
            match spots {
                Spots::Function(offsets) => {
                    let (first, last) = match this.of_function() {
                        FunctionSites::Entry(site) => (Some(site), None),
                        FunctionSites::Return(site) => (None, Some(site)),
                        FunctionSites::Both(first, last) => (Some(first), Some(last)),
                    };
                    for (site, is_return) in [(first, false), (last, true)] {
                        let Some(site) = site else { continue };
                        let number = self.number(site)?;
                        let armed = if is_removal {
                            &mut removing
                        } else if is_return {
                            &mut leaving
                        } else {
                            &mut adding
                        };
                        offsets.iter().for_each(|offset| armed.push(is_return, *offset, (u64::from(number), 0)));
                    }
                }
                Spots::Marks(marks) => {
                    for mark in marks {
                        let number = self.number(this.of_mark(mark)?)?;
                        let armed = if is_removal { &mut removing } else { &mut adding };
                        armed.push(false, mark.offset, (u64::from(number), mark.semaphore));
                    }
                }
            }
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut links = Vec::new();
        for armed in [removing, leaving, adding] {
            for (program, points, flags) in [(&self.leave, armed.returns, RETURN), (&self.entry, armed.entries, 0)] {
                if let (Some(program), false) = (program, points.is_empty()) {
                    let made = create_link(program, &path, &points, (AttachType::Multi, flags, pid));
                    links.push(made.map_err(|source| BpfError::Probe { pid: pid.0, source })?);
                }
            }
        }
        self.links.keep(pid, links);
        Ok(())
    }

    /// Disarms what is armed in a process.
    pub(super) fn disarm(&mut self, pid: Pid) {
        self.links.close_aside(pid);
    }
}

/// What is armed together.
#[derive(Default)]
struct Armed {
    entries: Points,
    returns: Points,
}

impl Armed {
    fn push(&mut self, is_return: bool, offset: u64, (cookie, semaphore): (u64, u64)) {
        let points = if is_return { &mut self.returns } else { &mut self.entries };
        points.push(offset, cookie, semaphore);
    }
}

fn open_tracepoint(program: &OwnedFd, name: &str, cookie: u64) -> io::Result<OwnedFd> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let attr = TracepointAttr { name: name.as_ptr() as u64, prog_fd: program.as_raw_fd() as u32, reserved: 0, cookie };
    // SAFETY: the attributes, and the name, outlive the call.
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, RAW_TRACEPOINT_OPEN, &raw const attr, size_of::<TracepointAttr>()) })
}
