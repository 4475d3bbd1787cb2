//! What a Go program that runs has recorded of its goroutines' waits since it began: the profiles `block` and `mutex` of its own runtime
//! (`runtime.SetBlockProfileRate`, `runtime.SetMutexProfileFraction`).
//!
//! A bucket's number of waits and their time are written one after the other, under a lock that is not taken here: of a wait that is being counted while it is read
//! the number may be there, and its time not yet. Since 1.23 a stack is what frame pointers lead to, and what was inlined is unfolded by whoever names it.

use super::error::GoHeapError;
use super::list::{Bucket, Counted, List, walk};
use super::pages::Pages;
use super::process::{has_ended, watch};
use crate::memory::MemoryReader;
use crate::model::go_waits::{GoWaitList, GoWaitPlaces};
use crate::model::process::Pid;
use std::time::Instant;

/// Words of what a bucket counts: how many waits (a number with a fraction), and ticks.
const RECORD_WORDS: usize = 2;

/// What stands first in a stack that the runtime has unfolded already, as those of its own locks are (`logicalStackSentinel`, Go 1.23 to 1.27): no address.
const UNFOLDED: u64 = u64::MAX;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// By who waits.
    Block,
    /// By who ends the waits.
    Mutex,
}

/// Whose waits.
#[derive(Clone, Debug)]
pub struct Request {
    /// The process. Whoever asks has made sure that it is the one meant; that it stays the same one while it is read is seen to here.
    pub pid: Pid,
    /// The difference between the addresses in the process and those in its file.
    pub bias: u64,
    /// Where the file says that the variables are.
    pub places: GoWaitPlaces,
    /// Which profiles.
    pub which: Vec<Which>,
    /// When it must be done.
    pub deadline: Instant,
    /// Bytes that each profile may take here; the process decides how long it is.
    pub bytes_max: usize,
}

/// What was recorded, in ticks.
#[derive(Clone, PartialEq, Debug)]
pub struct GoWaits {
    /// Ticks a second as the runtime has found them; None if nobody has asked it yet.
    pub ticks_per_second: Option<u64>,
    /// The profiles that were asked for, in that order.
    pub profiles: Vec<GoWaitProfile>,
}

/// One of the profiles.
#[derive(Clone, PartialEq, Debug)]
pub struct GoWaitProfile {
    /// Which.
    pub which: Which,
    /// Of `block` the ticks of the shortest wait that is always recorded, of `mutex` one release in how many is; 0: nothing is recorded now.
    pub rate: i64,
    /// The buckets, the newest first.
    pub buckets: Vec<GoWaitBucket>,
}

/// Waits of one stack.
#[derive(Clone, PartialEq, Debug)]
pub struct GoWaitBucket {
    /// Where it lies: as long as the program runs, a bucket stays where it is.
    pub address: u64,
    /// Return addresses in the process, leaf first.
    pub stack: Vec<u64>,
    /// How many waits, those for which a recorded one stands included.
    pub count: f64,
    /// How long they were, in ticks.
    pub ticks: i64,
}

impl GoWaitBucket {
    /// What runtime/pprof shows as the number (`blockProfileInternal`, `mutexProfileInternal`, Go 1.26): what is behind the point is cut off, but a bucket of
    /// `block` has at least one.
    pub fn shown_count(&self, which: Which) -> u64 {
        (self.count as u64).max(u64::from(which == Which::Block))
    }

    /// The same of the time, ns.
    pub fn shown_ns(&self, ticks_per_second: f64) -> u64 {
        shown_ns(self.ticks, ticks_per_second)
    }
}

/// Ticks in ns as runtime/pprof shows them (`printCountCycleProfile`, Go 1.26).
pub fn shown_ns(ticks: i64, ticks_per_second: f64) -> u64 {
    (ticks as f64 / (ticks_per_second / 1e9)) as u64
}

/// Reads the profiles.
///
/// # Errors
/// The process has none, is gone, or does not let it be read.
pub fn read(memory: &mut MemoryReader, request: &Request) -> Result<GoWaits, GoHeapError> {
    let process = watch(request.pid)?;
    let read = profiles(&mut Pages::new(memory, request.pid, request.deadline), request);
    // If it ended meanwhile, its pid may have been another's.
    if has_ended(&process) { Err(GoHeapError::Gone) } else { read }
}

fn profiles(pages: &mut Pages<'_>, request: &Request) -> Result<GoWaits, GoHeapError> {
    let profiles = request.which.iter().map(|which| profile(pages, request, *which)).collect::<Result<_, _>>()?;
    let ticks = pages.u64(request.places.ticks_per_second.wrapping_add(request.bias))?;
    Ok(GoWaits { ticks_per_second: (ticks != 0).then_some(ticks), profiles })
}

fn profile(pages: &mut Pages<'_>, request: &Request, which: Which) -> Result<GoWaitProfile, GoHeapError> {
    let in_process = |address: u64| address.wrapping_add(request.bias);
    let (GoWaitList { buckets, rate }, counted) = match which {
        Which::Block => (request.places.block, Counted::Waits),
        Which::Mutex => (request.places.mutex, Counted::Releases),
    };
    let list = List {
        head: in_process(buckets),
        counted,
        record_words: RECORD_WORDS,
        text: (in_process(request.places.text.0), in_process(request.places.text.1)),
        bytes_max: request.bytes_max,
    };
    pages.forget();
    let rate = pages.u64(in_process(rate))?.cast_signed();
    let found = walk(pages, &list, |words, _| (words.first().copied().unwrap_or(0), words.get(1).copied().unwrap_or(0)))?;
    Ok(GoWaitProfile { which, rate, buckets: found.into_iter().map(of_bucket).collect() })
}

fn of_bucket(mut bucket: Bucket<(u64, u64)>) -> GoWaitBucket {
    if bucket.stack.first() == Some(&UNFOLDED) {
        bucket.stack.remove(0);
    }
    GoWaitBucket {
        address: bucket.address,
        stack: bucket.stack,
        count: f64::from_bits(bucket.record.0),
        ticks: bucket.record.1.cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_an_unfolded_stack_is_no_frame_of_it() {
        let of = |stack: &[u64]| of_bucket(Bucket { address: 8, size: 0, stack: stack.to_vec(), record: (1.0_f64.to_bits(), 5) });
        assert_eq!(of(&[u64::MAX, 3, 4]), GoWaitBucket { address: 8, stack: vec![3, 4], count: 1.0, ticks: 5 });
        assert_eq!((of(&[3, u64::MAX]).stack, of(&[u64::MAX]).stack), (vec![3, u64::MAX], vec![]));
    }

    #[test]
    fn what_is_shown_is_what_go_shows() {
        let bucket = |count, ticks| GoWaitBucket { address: 8, stack: Vec::new(), count, ticks };
        assert_eq!((bucket(0.7, 5).shown_count(Which::Block), bucket(0.7, 5).shown_count(Which::Mutex)), (1, 0));
        assert_eq!((bucket(41.99, 0).shown_count(Which::Block), bucket(f64::NAN, 0).shown_count(Which::Mutex)), (41, 0));
        assert_eq!(bucket(1.0, 2_000_000_001).shown_ns(2e9), 1_000_000_000);
        // What no runtime has written is bounded.
        assert_eq!((bucket(1e300, -5).shown_count(Which::Mutex), bucket(1.0, -5).shown_ns(2e9)), (u64::MAX, 0));
        assert_eq!(bucket(1.0, i64::MAX).shown_ns(1e-9), u64::MAX);
    }
}
