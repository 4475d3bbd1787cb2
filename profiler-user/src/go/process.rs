//! That a process is the same one before and after it was read.

use super::error::GoHeapError;
use crate::model::process::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;

/// A descriptor of the process: as long as it says that the process has not ended, nobody else has its pid.
pub(super) fn watch(pid: Pid) -> Result<OwnedFd, GoHeapError> {
    let pid = i32::try_from(pid.0).ok().and_then(rustix::process::Pid::from_raw).ok_or(GoHeapError::Gone)?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(|_| GoHeapError::Gone)
}

pub(super) fn has_ended(process: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now))).is_ok_and(|ready| ready > 0)
}
