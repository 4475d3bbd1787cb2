//! A command that is recorded from its first instruction: started and held, let go when the clock ticks, its end awaited, signals passed on.

use super::watch::watch;
use crate::model::process::Pid;
use crate::sys::spawn::{HeldChild, RunningChild, SpawnError, Successor, spawn_held};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use tokio::io::unix::AsyncFd;

/// How a recorded command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandEnd {
    /// Its exit status, or 128 + n when signal n ended it.
    pub code: i32,
}

/// A command, from held to ended.
pub(super) enum Command {
    Held(HeldChild),
    Running { child: RunningChild, end: AsyncFd<std::os::fd::OwnedFd> },
}

impl Command {
    /// Starts it; it waits before its first instruction.
    pub(super) fn hold(words: &[OsString]) -> Result<Self, SpawnError> {
        let (program, arguments) = words.split_first().ok_or(SpawnError::Empty)?;
        Ok(Self::Held(spawn_held(program, arguments)?))
    }

    pub(super) fn pid(&self) -> Pid {
        Pid(match self {
            Self::Held(child) => child.pid(),
            Self::Running { child, .. } => child.pid(),
        })
    }

    /// Who lets it go on if we are killed while it is stopped; nobody once it runs.
    pub(super) fn successor(&self) -> Result<Successor, SpawnError> {
        match self {
            Self::Held(child) => child.successor(),
            Self::Running { .. } => Err(SpawnError::Empty),
        }
    }

    /// Lets it go.
    pub(super) fn release(self) -> Result<Self, SpawnError> {
        match self {
            Self::Held(child) => {
                let child = child.release()?;
                let descriptor = child.as_fd().try_clone_to_owned().map_err(SpawnError::Watch)?;
                let end = watch(descriptor).map_err(SpawnError::Watch)?;
                Ok(Self::Running { child, end })
            }
            running => Ok(running),
        }
    }

    /// Whether it has not ended.
    pub(super) fn is_running(&self) -> bool {
        let Self::Running { child, .. } = self else { return true };
        // A descriptor of a process is readable from its end on.
        rustix::event::poll(&mut [PollFd::new(&child.as_fd(), PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready == 0)
    }

    /// Returns when it has ended; it is not yet waited for.
    pub(super) async fn ended(&self) {
        match self {
            Self::Running { end, .. } => {
                let _ = end.readable().await;
            }
            Self::Held(_) => std::future::pending().await,
        }
    }

    /// Passes a signal on.
    pub(super) fn signal(&self, signal: i32) {
        if let Self::Running { child, .. } = self {
            child.signal(signal);
        }
    }

    /// Waits for its end and gives its status.
    pub(super) fn wait(self) -> Result<CommandEnd, SpawnError> {
        match self {
            Self::Held(_) => Err(SpawnError::Empty),
            Self::Running { child, .. } => Ok(CommandEnd { code: child.wait()? }),
        }
    }
}
