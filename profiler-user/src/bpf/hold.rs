//! A command is held when it becomes a program, and when its loader has mapped that one's libraries, until their functions are probed: so what it allocates first
//! is counted. It is stopped by a signal of the kernel side to itself, which it does not notice.

use super::error::BpfError;
use super::probe_links::{Points, create_link};
use super::probe_programs::{AttachType, ProbeObject};
use crate::model::process::Pid;
use aya::maps::{Array, MapData};
use profiler_common::hold;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// Words of a [`hold::Hold`].
const WORDS: usize = size_of::<hold::Hold>() / 8;

/// What holds it.
pub(super) struct Hold {
    state: Array<MapData, [u64; WORDS]>,
    /// The program that runs when a loader has mapped something.
    linked: OwnedFd,
    links: Vec<OwnedFd>,
}

impl Hold {
    /// Loads the program of loaders; it is nowhere yet.
    pub(super) fn load(object: &[u8], state: Array<MapData, [u64; WORDS]>, maps: &[(String, RawFd)]) -> Result<Self, BpfError> {
        let linked = ProbeObject::parse(object, maps)?.load("command_linked", AttachType::Multi)?;
        Ok(Self { state, linked, links: Vec::new() })
    }

    /// How often it was stopped.
    pub(super) fn stops(&self) -> Result<u64, BpfError> {
        let words = self.state.get(&0, 0).map_err(|error| BpfError::Map { map: "HOLD", reason: error.to_string() })?;
        let state: hold::Hold = zerocopy::transmute!(words);
        Ok(state.stops)
    }

    /// Has it stopped at this place of a file.
    pub(super) fn watch(&mut self, pid: Pid, file: BorrowedFd<'_>, offset: u64) -> Result<(), BpfError> {
        let mut points = Points::default();
        points.push(offset, 0, 0);
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = create_link(&self.linked, &path, &points, (AttachType::Multi, 0, pid));
        self.links.push(link.map_err(|source| BpfError::Probe { pid: pid.0, source })?);
        Ok(())
    }

    /// Nowhere any more.
    pub(super) fn let_go(&mut self) {
        self.links.clear();
    }

    /// Its program, by name.
    pub(super) fn program(&self) -> (&'static str, &OwnedFd) {
        ("command_linked", &self.linked)
    }
}
