//! Threads that sleep when a recording of waits begins, and those that still do when it is over: two looks at all tasks of the machine, by programs that know
//! whom the recording is about.

use super::error::BpfError;
use super::threads::{SeenThread, ThreadIterator, parse as threads, parse_one};
use profiler_common::wait::Sleep;
use zerocopy::FromBytes as _;

/// A thread that was off its CPU when the counting stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sleeper {
    /// Since when, and why.
    pub sleep: Sleep,
    /// The thread, as it is now.
    pub seen: SeenThread,
}

/// The two looks.
pub(super) struct Sleepers {
    first: ThreadIterator,
    last: ThreadIterator,
    /// Threads that the first one has listed.
    existing: Vec<SeenThread>,
}

impl Sleepers {
    /// With what looks, which was loaded before there is anything to see: loading takes longer than a look.
    pub(super) fn new([first, last]: [ThreadIterator; 2]) -> Self {
        Self { first, last, existing: Vec::new() }
    }

    /// Now, on the clock of the starts of tasks, ns.
    pub(super) fn boot_now_ns() -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }

    /// The first look. Who comes back while it is taken has slept unseen: it takes a microsecond for each thread of the machine.
    pub(super) fn note(&mut self) -> Result<(), BpfError> {
        self.existing = threads(&self.first.read_bytes()?);
        Ok(())
    }

    /// Threads that the first one has listed.
    pub(super) fn existing(&mut self) -> Vec<SeenThread> {
        std::mem::take(&mut self.existing)
    }

    /// The last look.
    pub(super) fn left(&self) -> Result<Vec<Sleeper>, BpfError> {
        Ok(parse(&self.last.read_bytes()?))
    }
}

/// The records one behind the other.
fn parse(mut bytes: &[u8]) -> Vec<Sleeper> {
    let mut sleepers = Vec::new();
    while let Some((sleep, rest)) = Sleep::read_from_prefix(bytes).ok()
        && let Some((seen, rest)) = parse_one(rest)
    {
        sleepers.push(Sleeper { sleep, seen });
        bytes = rest;
    }
    sleepers
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::snapshot::ThreadRecord;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    #[test]
    fn sleepers_are_read_one_behind_the_other_and_a_torn_one_is_left_out() {
        let mut bytes = Vec::new();
        for (left_ns, kernel_frames) in [(10, 2), (20, 0), (30, 5)] {
            bytes.extend(Sleep { left_ns, ..Sleep::default() }.as_bytes());
            bytes.extend(ThreadRecord { kernel_frames, ..ThreadRecord::new_zeroed() }.as_bytes());
            bytes.extend([7u64, 8].as_bytes().iter().take(8 * kernel_frames as usize));
        }
        let sleepers = parse(&bytes);
        let read: Vec<_> = sleepers.iter().map(|sleeper| (sleeper.sleep.left_ns, sleeper.seen.kernel.clone())).collect();
        assert_eq!(read, [(10, vec![7, 8]), (20, vec![])]);
    }
}
