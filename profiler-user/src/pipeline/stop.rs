//! When a recording ends by itself: its time is over, or everything that it was asked for has ended.

use super::watch::watch;
use crate::model::process::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Returns when the time is over; never without a time.
pub(super) async fn after(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// The named processes, as descriptors that tell their end.
pub(super) struct Ends {
    processes: Vec<AsyncFd<OwnedFd>>,
}

impl Ends {
    /// Opens the processes; those that have ended already count as ended.
    pub(super) fn watch(pids: &[Pid]) -> Self {
        let open = |pid: &Pid| {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid.0).ok()?)?;
            let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            watch(descriptor).ok()
        };
        Self { processes: pids.iter().filter_map(open).collect() }
    }

    /// Returns when all have ended.
    pub(super) async fn all(&self) {
        for process in &self.processes {
            let _ = process.readable().await;
        }
    }
}
