//! The thread that reads what Go's runtimes have recorded of waits: a page that does not come keeps it waiting, and not the recording. What a process had recorded
//! before is kept here, and taken off what it has recorded in the end.

use crate::go::GoHeapError;
use crate::go::waits::{GoWaitBucket, GoWaitProfile, GoWaits, Request, Which, read, shown_ns};
use crate::memory::MemoryReader;
use crate::model::go_waits::GoWaitPlaces;
use crate::model::process::Pid;
use crate::sys::ticks::Ticks;
use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long reading one process may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// Bytes that a list of buckets may take while it is read.
const BYTES_MAX: usize = 16 << 20;
/// Buckets of all processes together that are kept from the beginning to the end, and bytes of each.
const KEPT_MAX: usize = 1 << 18;
const KEPT_BYTES: usize = 40;

/// Where in a process its lists are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lists {
    pub(super) pid: Pid,
    pub(super) bias: u64,
    pub(super) places: GoWaitPlaces,
}

/// What the thread is to do.
enum Order {
    /// What this process has recorded by now does not belong to the recording.
    Begin(Lists),
    /// Whatever was kept of a process is another's.
    Forget(Pid),
    /// What has it recorded?
    End(Lists),
}

/// What was recorded of waits of one stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row {
    /// Return addresses, leaf first.
    pub(super) stack: Vec<u64>,
    pub(super) waits: u64,
    pub(super) ns: u64,
}

/// What a process has recorded in one of its profiles.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Recorded {
    pub(super) which: Which,
    /// As the runtime has it in the end; of `block` ns, and not ticks.
    pub(super) rate: u64,
    pub(super) rows: Vec<Row>,
    /// What lies before was taken off; None: nothing lies before.
    pub(super) span: Option<Duration>,
}

/// What is said of a process.
pub(super) enum Said {
    /// It was read for the first time, or cannot be.
    Begun,
    /// The end.
    Ended(Pid, Result<Vec<Recorded>, GoHeapError>),
}

/// The thread, as the recording sees it.
pub(super) struct Reading {
    orders: Sender<Order>,
    said: Receiver<Said>,
    beginning: usize,
}

impl Reading {
    /// Starts the thread; its helper is started when there is something to read.
    pub(super) fn start(which: Vec<Which>) -> io::Result<Self> {
        let (orders, ordered) = channel();
        let (says, said) = channel();
        let reads = Reads { which, memory: MemoryReader::new(None), kept: HashMap::new(), left: KEPT_MAX, began: Ticks::now() };
        std::thread::Builder::new().name("profiler-gowait".into()).spawn(move || reads.serve(&ordered, &says))?;
        Ok(Self { orders, said, beginning: 0 })
    }

    /// Has what a process has recorded by now kept.
    pub(super) fn begin(&mut self, lists: Lists) {
        self.beginning += usize::from(self.orders.send(Order::Begin(lists)).is_ok());
    }

    /// Forgets a process.
    pub(super) fn forget(&self, pid: Pid) {
        // A thread that has ended has nothing to forget.
        let _ = self.orders.send(Order::Forget(pid));
    }

    /// Waits until what was asked for at the beginning is there, but not longer.
    pub(super) fn settle(&mut self, most: Duration) {
        let until = Instant::now() + most;
        while self.beginning > 0 {
            match self.said.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(_) => self.beginning -= 1,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Asks all of these processes, and gives what was said within a time; of those that are missing nothing was.
    pub(super) fn end(&self, lists: &[Lists], most: Duration) -> HashMap<Pid, Result<Vec<Recorded>, GoHeapError>> {
        let until = Instant::now() + most;
        let asked = lists.iter().filter(|lists| self.orders.send(Order::End(**lists)).is_ok()).count();
        let mut ended = HashMap::new();
        while ended.len() < asked {
            match self.said.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Said::Ended(pid, read)) => _ = ended.insert(pid, read),
                Ok(Said::Begun) => {}
                Err(_) => break,
            }
        }
        ended
    }
}

/// What a process had recorded when it was first read.
struct Kept {
    at: Instant,
    /// By profile and place of the bucket: how many waits were shown, and ticks.
    buckets: HashMap<(bool, u64), (u64, i64)>,
}

/// The thread's own side.
struct Reads {
    which: Vec<Which>,
    memory: MemoryReader,
    kept: HashMap<Pid, Result<Kept, GoHeapError>>,
    /// Buckets for which there is room.
    left: usize,
    began: Ticks,
}

impl Reads {
    fn serve(mut self, orders: &Receiver<Order>, says: &Sender<Said>) {
        for order in orders {
            let said = match order {
                Order::Begin(lists) => {
                    let kept = self.read(lists).and_then(|waits| self.keep(&waits));
                    self.kept.insert(lists.pid, kept);
                    Said::Begun
                }
                Order::Forget(pid) => {
                    self.forget(pid);
                    continue;
                }
                Order::End(lists) => Said::Ended(lists.pid, self.end(lists)),
            };
            if says.send(said).is_err() {
                return;
            }
        }
    }

    fn forget(&mut self, pid: Pid) {
        if let Some(Ok(kept)) = self.kept.remove(&pid) {
            self.left += kept.buckets.len();
        }
    }

    fn read(&mut self, Lists { pid, bias, places }: Lists) -> Result<GoWaits, GoHeapError> {
        let deadline = Instant::now() + DEADLINE;
        read(&mut self.memory, &Request { pid, bias, places, which: self.which.clone(), deadline, bytes_max: BYTES_MAX })
    }

    fn keep(&mut self, waits: &GoWaits) -> Result<Kept, GoHeapError> {
        let count: usize = waits.profiles.iter().map(|profile| profile.buckets.len()).sum();
        self.left = self.left.checked_sub(count).ok_or(GoHeapError::TooLarge(KEPT_BYTES * KEPT_MAX))?;
        let of = |profile: &GoWaitProfile| {
            let which = profile.which;
            let bucket = profile.buckets.iter().map(move |b| ((which == Which::Block, b.address), (b.shown_count(which), b.ticks)));
            bucket.collect::<Vec<_>>()
        };
        Ok(Kept { at: Instant::now(), buckets: waits.profiles.iter().flat_map(of).collect() })
    }

    fn end(&mut self, lists: Lists) -> Result<Vec<Recorded>, GoHeapError> {
        // Without what lies before, all that it ever recorded would be taken for what it did in this time.
        let kept = self.kept.remove(&lists.pid).transpose()?;
        let waits = self.read(lists)?;
        let measured = || self.began.per_second(Ticks::now());
        let per_second = waits.ticks_per_second.map(|ticks| ticks.cast_signed() as f64).or_else(measured).filter(|ticks| *ticks >= 1.0);
        let per_second = per_second.ok_or(GoHeapError::Implausible {
            address: lists.places.ticks_per_second.wrapping_add(lists.bias),
            what: "there are no ticks in a second",
        })?;
        let recorded = |profile: &GoWaitProfile| Recorded {
            which: profile.which,
            rate: rate(profile, per_second),
            rows: rows(profile, kept.as_ref(), per_second),
            span: kept.as_ref().map(|kept| kept.at.elapsed()),
        };
        Ok(waits.profiles.iter().map(recorded).collect())
    }
}

/// A rate of `block` as it was asked for: `SetBlockProfileRate` takes ns, and leaves 1 as it is (Go 1.26).
fn rate(profile: &GoWaitProfile, per_second: f64) -> u64 {
    let rate = u64::try_from(profile.rate).unwrap_or(0);
    if profile.which == Which::Mutex || rate <= 1 { rate } else { (rate as f64 * 1e9 / per_second).round() as u64 }
}

/// What was recorded since. Both ends are what Go's own profile shows at that moment, as its `?seconds=` has it.
fn rows(profile: &GoWaitProfile, kept: Option<&Kept>, per_second: f64) -> Vec<Row> {
    let row = |bucket: &GoWaitBucket| {
        let before = kept.and_then(|kept| kept.buckets.get(&(profile.which == Which::Block, bucket.address)));
        let (waits, ticks) = before.copied().unwrap_or_default();
        let ns_before = shown_ns(ticks, per_second);
        Row {
            stack: bucket.stack.clone(),
            waits: bucket.shown_count(profile.which).saturating_sub(waits),
            ns: bucket.shown_ns(per_second).saturating_sub(ns_before),
        }
    };
    profile.buckets.iter().map(row).filter(|row| row.waits > 0 || row.ns > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(which: Which, rate: i64, buckets: &[(u64, f64, i64)]) -> GoWaitProfile {
        let bucket = |(address, count, ticks): &(u64, f64, i64)| GoWaitBucket {
            address: *address,
            stack: vec![*address],
            count: *count,
            ticks: *ticks,
        };
        GoWaitProfile { which, rate, buckets: buckets.iter().map(bucket).collect() }
    }

    fn reads() -> Reads {
        Reads { which: Vec::new(), memory: MemoryReader::new(None), kept: HashMap::new(), left: 4, began: Ticks::now() }
    }

    #[test]
    fn what_was_there_before_is_taken_off_and_what_has_not_changed_is_left_out() {
        let before = [profile(Which::Block, 1, &[(8, 10.0, 2_000), (16, 5.5, 50)]), profile(Which::Mutex, 1, &[(8, 1.0, 1)])];
        let kept = reads().keep(&GoWaits { ticks_per_second: None, profiles: before.to_vec() }).unwrap();
        let now = profile(Which::Block, 1, &[(24, 0.25, 8), (8, 12.0, 6_000), (16, 5.9, 50)]);
        let row = |stack, waits, ns| Row { stack: vec![stack], waits, ns };
        assert_eq!(rows(&now, Some(&kept), 2e9), [row(24, 1, 4), row(8, 2, 2_000)]);
        assert_eq!(rows(&now, None, 2e9).len(), 3);
        // The other profile's buckets are others.
        assert_eq!(rows(&profile(Which::Mutex, 1, &[(16, 5.5, 50)]), Some(&kept), 2e9), [row(16, 5, 25)]);
    }

    #[test]
    fn what_is_kept_of_all_processes_is_bounded_and_has_its_room_again() {
        let mut reads = reads();
        let waits = |count: u64| GoWaits {
            ticks_per_second: None,
            profiles: vec![profile(Which::Block, 1, &(0..count).map(|at| (at, 1.0, 1)).collect::<Vec<_>>())],
        };
        let kept = reads.keep(&waits(3)).unwrap();
        assert!(matches!(reads.keep(&waits(2)), Err(GoHeapError::TooLarge(_))));
        reads.kept.insert(Pid(1), Ok(kept));
        reads.forget(Pid(1));
        assert!(reads.keep(&waits(4)).is_ok());
    }

    #[test]
    fn a_rate_of_block_is_told_as_it_was_asked_for() {
        assert_eq!(rate(&profile(Which::Block, 1, &[]), 2e9), 1);
        assert_eq!(rate(&profile(Which::Block, 20_000, &[]), 2e9), 10_000);
        assert_eq!((rate(&profile(Which::Mutex, 5, &[]), 2e9), rate(&profile(Which::Mutex, -5, &[]), 2e9)), (5, 0));
    }
}
