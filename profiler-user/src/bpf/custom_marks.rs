//! Marks at which programs tell of the blocks that they have sampled themselves: probed by the program of custom profiles, which reads arguments wherever a mark has
//! them, and counted with the calls of allocators.

use super::custom::CustomProbes;
use super::custom_values::of_mark_argument;
use super::error::BpfError;
use super::probe_links::{Points, create_link};
use super::probe_programs::{AttachType, ProbeObject};
use crate::model::allocator::{AllocatorMark, Told};
use crate::model::process::Pid;
use profiler_common::custom::{ACTION_ADD, ACTION_REMOVE, CustomSite, SITE_KEYED, SITE_OF_BLOCKS};
use profiler_common::source::Source;
use std::os::fd::{AsRawFd as _, BorrowedFd};

impl CustomProbes {
    /// Loads what probes marks, unless it is there: few programs have any.
    pub(super) fn load_for_marks(&mut self, object: &[u8]) -> Result<(), BpfError> {
        if self.entry.is_none() {
            self.entry = Some(ProbeObject::parse(object, &self.maps)?.load("custom_entry", AttachType::Multi)?);
        }
        Ok(())
    }

    /// Arms the marks of a file in a process. `are_followed`: blocks are, until they are given back.
    pub(super) fn arm_marks(
        &mut self,
        pid: Pid,
        file: BorrowedFd<'_>,
        (marks, are_followed): (&[AllocatorMark], bool),
    ) -> Result<(), BpfError> {
        let (mut frees, mut allocs) = (Points::default(), Points::default());
        for mark in marks {
            let points = match mark.tells {
                Told::Alloc(_) => &mut allocs,
                Told::Free(_) if are_followed => &mut frees,
                Told::Free(_) => continue,
            };
            points.push(mark.offset, u64::from(self.number(site(&mark.tells, are_followed))?), mark.semaphore);
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let Some(program) = &self.entry else { return Ok(()) };
        // First what ends blocks: one that is counted must not end unseen.
        for points in [frees, allocs].iter().filter(|points| !points.is_empty()) {
            let link = create_link(program, &path, points, (AttachType::Multi, 0, pid));
            self.told.keep(pid, [link.map_err(|source| BpfError::Probe { pid: pid.0, source })?]);
        }
        Ok(())
    }

    /// Takes all of them away.
    pub(super) fn disarm_marks(&mut self) {
        self.told.close();
    }
}

/// What the program is told at a mark.
fn site(tells: &Told, are_followed: bool) -> CustomSite {
    let source = u32::from(Source::CALLS.number());
    match tells {
        Told::Alloc([block, size, weighted]) => CustomSite {
            source,
            action: ACTION_ADD,
            flags: SITE_OF_BLOCKS | if are_followed { SITE_KEYED } else { 0 },
            tested: of_mark_argument(size),
            key: of_mark_argument(block),
            weight: of_mark_argument(weighted),
            ..CustomSite::default()
        },
        Told::Free(block) => CustomSite { source, action: ACTION_REMOVE, key: of_mark_argument(block), ..CustomSite::default() },
    }
}
