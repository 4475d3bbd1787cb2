//! Sleeping until a drain is wanted: the timer, the ring at its high-water mark, or news of a process.

use super::watch::watch;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};
use std::io;
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Between drains when nothing wakes us: 2 wake-ups a second. A fuller ring wakes us earlier.
const TIMER: Duration = Duration::from_millis(500);
/// After news of a process, its other mappings follow within a moment: one drain takes them all. A process that ends within this time after its exec may
/// be gone when its files are looked for; its mappings are still known.
const SETTLE: Duration = Duration::from_millis(3);
/// An exec wakes us before anything of the new image is mapped, and what it maps later wakes nobody: so there is another drain so long after.
const LATER: Duration = Duration::from_millis(20);

/// Descriptors that ask for a drain.
pub(super) struct Wakers {
    descriptors: Vec<AsyncFd<OwnedFd>>,
    timer: AsyncFd<OwnedFd>,
}

impl Wakers {
    pub(super) fn new(descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        Ok(Self { descriptors: descriptors.into_iter().map(watch).collect::<io::Result<_>>()?, timer: watch(timer()?)? })
    }

    /// Returns when the next drain is due.
    pub(super) async fn due(&self) {
        tokio::select! {
            () = self.timer_expired() => {}
            // The thread itself sleeps: a signal may wait that long, and a sleep of the runtime would be two wake-ups.
            () = self.readable() => {
                // A timer that cannot be set goes on as it was: the files are looked for a moment later.
                let _ = set(self.timer.get_ref(), LATER);
                std::thread::sleep(SETTLE);
            }
        }
    }

    async fn timer_expired(&self) {
        if let Ok(mut ready) = self.timer.readable().await {
            let mut expirations = [0; 8];
            let _ = rustix::io::read(self.timer.get_ref(), &mut expirations);
            ready.clear_ready();
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

/// A timer of the kernel's: the runtime's own wheel wakes up twice for each such interval, to sort its slots.
fn timer() -> io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    set(&timer, TIMER)?;
    Ok(timer)
}

/// Lets it expire after `first`, and then as always.
fn set(timer: &OwnedFd, first: Duration) -> io::Result<()> {
    let spec = |duration: Duration| Timespec { tv_sec: 0, tv_nsec: i64::from(duration.subsec_nanos()) };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: spec(TIMER), it_value: spec(first) })?;
    Ok(())
}
