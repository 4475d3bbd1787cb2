//! The profile of memory of a Go program that runs, as its own `/debug/pprof/heap` would give it at this moment.
//!
//! The runtime counts an allocation towards the collection after the next, and a free towards the next, so that both of the same objects are published together
//! (`runtime/mprof.go`). What its own reader does under its locks is done here from outside, without any:
//!
//! - Counts of the cycle that is due are published by whoever comes first, the collector or a reader. So the due cycle of the ring is always added: once it is
//!   published it is zero.
//! - If then nothing at all is published, there was no collection yet, and all cycles are added.
//! - Whoever publishes while we read has published a part. Published counts change in no other way, so they are read until two readings agree, in one and the
//!   same cycle, and nobody held the lock of what is published between the two: then all of them stood so at that moment.

use super::error::GoHeapError;
use super::list::{Bucket, Counted, List, walk};
use super::pages::Pages;
use super::process::{has_ended, watch};
use crate::memory::MemoryReader;
use crate::model::go_heap::{GoHeapPlaces, GoRecord};
use crate::model::process::Pid;
use std::time::{Duration, Instant};

/// Cycles of the ring.
const RING: u32 = 3;
/// Cycles of a record: the published one, and those of the ring.
const CYCLES: usize = 1 + RING as usize;

/// How long a collector has to publish before the list is read anew.
const PAUSE: Duration = Duration::from_millis(1);

/// Whose profile.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The process. Whoever asks has made sure that it is the one meant; that it stays the same one while it is read is seen to here.
    pub pid: Pid,
    /// The difference between the addresses in the process and those in its file.
    pub bias: u64,
    /// Where the file says that the variables are.
    pub places: GoHeapPlaces,
    /// When it must be done.
    pub deadline: Instant,
    /// Bytes that the profile may take here; the process decides how long it is. A bucket takes 200 and its stack.
    pub bytes_max: usize,
}

/// What the runtime has counted, unscaled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoHeapProfile {
    /// `runtime.MemProfileRate`: the mean distance of two samples in bytes. 1: everything is counted; 0: nothing is any more.
    pub rate: i64,
    /// The buckets, the newest first; also those that have counted nothing yet.
    pub buckets: Vec<GoBucket>,
}

/// Allocations of one size by one stack. In use is what was allocated less what was freed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoBucket {
    /// Bytes of each object.
    pub size: u64,
    /// Return addresses in the process, leaf first; functions that were inlined have theirs already.
    pub stack: Vec<u64>,
    /// Objects allocated.
    pub alloc_objects: u64,
    /// Their bytes.
    pub alloc_bytes: u64,
    /// Objects freed.
    pub free_objects: u64,
    /// Their bytes.
    pub free_bytes: u64,
}

/// Reads the profile.
///
/// # Errors
/// The process has none, is gone, or does not let it be read.
pub fn read(memory: &mut MemoryReader, request: &Request) -> Result<GoHeapProfile, GoHeapError> {
    let process = watch(request.pid)?;
    let read = settled(&mut Pages::new(memory, request.pid, request.deadline), request);
    // If it ended meanwhile, its pid may have been another's.
    if has_ended(&process) { Err(GoHeapError::Gone) } else { read }
}

/// Reads until nothing was published between two readings.
fn settled(pages: &mut Pages<'_>, request: &Request) -> Result<GoHeapProfile, GoHeapError> {
    let mut last: Option<(u32, Vec<(u64, Counts)>)> = None;
    // Half of the time is for what cannot be read for ever; a reading that has begun has the other half.
    let until = request.deadline.checked_sub(request.deadline.saturating_duration_since(Instant::now()) / 2);
    while until.is_some_and(|until| Instant::now() < until) {
        let (buckets, cycle) = match once(pages, request)? {
            Reading::Moved => {
                last = None;
                std::thread::sleep(PAUSE);
                continue;
            }
            Reading::Whole(buckets, cycle) => (buckets, cycle),
        };
        match published(&buckets, cycle) {
            Published::Nothing => return profile(pages, request, buckets, sum_of_all),
            Published::Counts(counted) if last.as_ref().is_some_and(|last| last.0 == cycle && last.1 == counted) => {
                return profile(pages, request, buckets, |bucket| due(bucket, cycle));
            }
            Published::Counts(counted) => last = Some((cycle, counted)),
        }
    }
    Err(GoHeapError::Moving)
}

/// What a bucket counts: published, then the cycles of the ring. A cycle is allocations, frees, and until 1.26 the bytes of both.
type Cycles = [Counts; CYCLES];

fn list(request: &Request) -> List {
    let in_process = |address: u64| address.wrapping_add(request.bias);
    let Request { places, bytes_max, .. } = *request;
    List {
        head: in_process(places.buckets),
        counted: Counted::Memory,
        record_words: CYCLES * words_of(places.record),
        text: (in_process(places.text.0), in_process(places.text.1)),
        bytes_max,
    }
}

/// One look at the whole list.
enum Reading {
    /// A collection has begun a new cycle meanwhile, or somebody is publishing.
    Moved,
    /// Neither; and the number of the cycle.
    Whole(Vec<Bucket<Cycles>>, u32),
}

fn once(pages: &mut Pages<'_>, request: &Request) -> Result<Reading, GoHeapError> {
    let before = cycle(pages, request)?;
    let buckets = walk(pages, &list(request), |words, size| cycles(words, size, request.places.record))?;
    let after = cycle(pages, request)?;
    let is_held = pages.u64(request.places.lock.wrapping_add(request.bias))? != 0;
    Ok(if after != before || is_held { Reading::Moved } else { Reading::Whole(buckets, before) })
}

/// The number of the cycle, read anew. Its lowest bit says whether the cycle was published, which is no matter here.
fn cycle(pages: &mut Pages<'_>, request: &Request) -> Result<u32, GoHeapError> {
    pages.forget();
    Ok(pages.u32(request.places.cycle.wrapping_add(request.bias))? >> 1)
}

/// What is published, or due to be.
enum Published {
    /// There was no collection yet.
    Nothing,
    /// The counts of the buckets that have any.
    Counts(Vec<(u64, Counts)>),
}

fn published(buckets: &[Bucket<Cycles>], cycle: u32) -> Published {
    let counted = buckets.iter().map(|bucket| (bucket.address, due(bucket, cycle)));
    // New buckets have none: they are no difference between two readings.
    let counted: Vec<(u64, Counts)> = counted.filter(|(_, counts)| *counts != Counts::default()).collect();
    let is_nothing = counted.iter().all(|(_, counts)| counts.alloc_objects == 0 && counts.free_objects == 0);
    if is_nothing { Published::Nothing } else { Published::Counts(counted) }
}

fn due(bucket: &Bucket<Cycles>, cycle: u32) -> Counts {
    let [mut counts, ring @ ..] = bucket.record;
    counts.add(&ring[(cycle % RING) as usize]);
    counts
}

fn sum_of_all(bucket: &Bucket<Cycles>) -> Counts {
    let [mut counts, ring @ ..] = bucket.record;
    ring.iter().for_each(|cycle| counts.add(cycle));
    counts
}

fn profile(
    pages: &mut Pages<'_>,
    request: &Request,
    buckets: Vec<Bucket<Cycles>>,
    counts: impl Fn(&Bucket<Cycles>) -> Counts,
) -> Result<GoHeapProfile, GoHeapError> {
    let rate = pages.u64(request.places.rate.wrapping_add(request.bias))?.cast_signed();
    if buckets.is_empty() && rate <= 0 {
        return Err(GoHeapError::Off);
    }
    let bucket = |bucket: Bucket<Cycles>| {
        let Counts { alloc_objects, free_objects, alloc_bytes, free_bytes } = counts(&bucket);
        GoBucket { size: bucket.size, stack: bucket.stack, alloc_objects, alloc_bytes, free_objects, free_bytes }
    };
    Ok(GoHeapProfile { rate, buckets: buckets.into_iter().map(bucket).collect() })
}

/// Counts of one cycle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counts {
    alloc_objects: u64,
    free_objects: u64,
    alloc_bytes: u64,
    free_bytes: u64,
}

impl Counts {
    /// As the runtime adds: it may wrap.
    fn add(&mut self, other: &Self) {
        self.alloc_objects = self.alloc_objects.wrapping_add(other.alloc_objects);
        self.free_objects = self.free_objects.wrapping_add(other.free_objects);
        self.alloc_bytes = self.alloc_bytes.wrapping_add(other.alloc_bytes);
        self.free_bytes = self.free_bytes.wrapping_add(other.free_bytes);
    }
}

fn words_of(record: GoRecord) -> usize {
    match record {
        GoRecord::ObjectsAndBytes => 4,
        GoRecord::Objects => 2,
    }
}

fn cycles(words: &[u64], size: u64, record: GoRecord) -> Cycles {
    let mut cycles = [Counts::default(); CYCLES];
    for (cycle, words) in cycles.iter_mut().zip(words.chunks_exact(words_of(record))) {
        *cycle = match *words {
            [alloc_objects, free_objects, alloc_bytes, free_bytes] => Counts { alloc_objects, free_objects, alloc_bytes, free_bytes },
            [alloc_objects, free_objects] => {
                let bytes = |objects: u64| objects.wrapping_mul(size);
                Counts { alloc_objects, free_objects, alloc_bytes: bytes(alloc_objects), free_bytes: bytes(free_objects) }
            }
            _ => Counts::default(),
        };
    }
    cycles
}
