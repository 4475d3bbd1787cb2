//! Sleeping until a drain is wanted: the timer, the ring at its high-water mark, or news of a process.

use super::watch::watch;
use std::io;
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, sleep_until};

/// Between drains when nothing wakes us: 4 wake-ups a second.
const TIMER: Duration = Duration::from_millis(250);
/// After news of a process, its other mappings follow within a moment: one drain takes them all.
const SETTLE: Duration = Duration::from_millis(2);

/// Descriptors that ask for a drain.
pub(super) struct Wakers {
    descriptors: Vec<AsyncFd<OwnedFd>>,
}

impl Wakers {
    pub(super) fn new(descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        Ok(Self { descriptors: descriptors.into_iter().map(watch).collect::<io::Result<_>>()? })
    }

    /// Returns when the next drain is due.
    pub(super) async fn due(&self) {
        let timer = sleep_until(Instant::now() + TIMER);
        tokio::select! {
            () = timer => {}
            () = self.readable() => sleep(SETTLE).await,
        }
    }

    async fn readable(&self) {
        std::future::poll_fn(|context| {
            let mut any = Poll::Pending;
            for descriptor in &self.descriptors {
                if let Poll::Ready(Ok(mut ready)) = descriptor.poll_read_ready(context) {
                    // What made it readable is about to be drained; the next edge wakes us again.
                    ready.clear_ready();
                    any = Poll::Ready(());
                }
            }
            any
        })
        .await;
    }
}
