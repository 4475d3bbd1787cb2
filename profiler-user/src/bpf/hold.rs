//! A command is held when it becomes a program, and when its loader has mapped that one's libraries, until their functions are probed: so what it allocates first
//! is counted. It is stopped by a signal of the kernel side to itself, which it does not notice.

use super::capture::Capture;
use super::error::BpfError;
use super::probe_programs::{AttachType, ProbeObject};
use super::probes::{Points, create_link};
use super::program::EMBEDDED_OBJECT;
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
    pub(super) fn load(state: Array<MapData, [u64; WORDS]>, maps: &[(String, RawFd)]) -> Result<Self, BpfError> {
        let linked = ProbeObject::parse(EMBEDDED_OBJECT, maps)?.load("command_linked", AttachType::Multi)?;
        Ok(Self { state, linked, links: Vec::new() })
    }

    /// Its program, by name.
    pub(super) fn program(&self) -> (&'static str, &OwnedFd) {
        ("command_linked", &self.linked)
    }
}

impl Capture {
    /// How often the command was stopped.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn stops(&self) -> Result<u64, BpfError> {
        let Some(hold) = &self.programs.hold else { return Ok(0) };
        let words = hold.state.get(&0, 0).map_err(|error| BpfError::Map { map: "HOLD", reason: error.to_string() })?;
        let state: hold::Hold = zerocopy::transmute!(words);
        Ok(state.stops)
    }

    /// Has it stopped when its loader comes to this place of its file.
    ///
    /// # Errors
    /// The kernel refuses, or the process has ended.
    pub fn watch_loader(&mut self, pid: Pid, file: BorrowedFd<'_>, offset: u64) -> Result<(), BpfError> {
        let Some(hold) = &mut self.programs.hold else { return Ok(()) };
        let mut points = Points::default();
        points.push(offset, 0, 0);
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = create_link(&hold.linked, &path, &points, (AttachType::Multi, 0, pid));
        hold.links.push(link.map_err(|source| BpfError::Probe { pid: pid.0, source })?);
        Ok(())
    }

    /// It is not stopped any more.
    pub fn end_hold(&mut self) {
        if self.programs.hold.take().is_some() {
            self.programs.stop_noting_execs();
        }
    }
}
