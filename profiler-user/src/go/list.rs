//! The list of buckets as it lies in memory. A bucket's head, its stack and its place in the list never change once it can be found; what it counts does.
//!
//! Layout (`runtime/mprof.go` of 1.21.13 to 1.27.3, words of eight bytes): next with the same hash, next of all, kind, hash, size, length of the stack; the stack;
//! then the published counts and those of three cycles to come. A cycle is allocations, frees, and until 1.26 the bytes of both.

use super::error::GoHeapError;
use super::pages::Pages;
use crate::model::go_heap::{GoHeapPlaces, GoRecord};

/// Words of a bucket's head.
const HEAD_WORDS: usize = 6;
/// The kind of a bucket of the memory profile.
const MEMORY: u64 = 1;
/// Longest stack that the runtime takes back from a bucket (32 before 1.23).
const STACK_MAX: u64 = 1024;
/// Cycles of a record: the published one, and three.
const CYCLES: usize = 4;

/// Counts of one cycle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub alloc_objects: u64,
    pub free_objects: u64,
    pub alloc_bytes: u64,
    pub free_bytes: u64,
}

impl Counts {
    /// As the runtime adds: it may wrap.
    pub(super) fn add(&mut self, other: &Self) {
        self.alloc_objects = self.alloc_objects.wrapping_add(other.alloc_objects);
        self.free_objects = self.free_objects.wrapping_add(other.free_objects);
        self.alloc_bytes = self.alloc_bytes.wrapping_add(other.alloc_bytes);
        self.free_bytes = self.free_bytes.wrapping_add(other.free_bytes);
    }
}

/// A bucket as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bucket {
    pub address: u64,
    pub size: u64,
    pub stack: Vec<u64>,
    /// Published, then the three of the ring.
    pub cycles: [Counts; CYCLES],
}

/// Bytes that a list may have with us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound(pub usize);

/// Follows the list from its first bucket; the newest comes first.
pub(super) fn walk(pages: &mut Pages<'_>, places: &GoHeapPlaces, bias: u64, bound: Bound) -> Result<Vec<Bucket>, GoHeapError> {
    let text = (places.text.0.wrapping_add(bias), places.text.1.wrapping_add(bias));
    let (mut buckets, mut left) = (Vec::new(), bound.0);
    let mut at = pages.u64(places.buckets.wrapping_add(bias))?;
    // A bucket that was seen before is met again if the list is a circle; which one is remembered moves on at each power of two.
    let mut seen = 0;
    while at != 0 {
        if at == seen {
            return Err(GoHeapError::Circle);
        }
        if buckets.len().is_power_of_two() {
            seen = at;
        }
        let (bucket, next) = bucket(pages, at, places.record)?;
        let bytes = size_of::<Bucket>() + size_of_val(bucket.stack.as_slice());
        left = left.checked_sub(bytes).ok_or(GoHeapError::TooLarge(bound.0))?;
        buckets.push(bucket);
        at = next;
    }
    check_code(&buckets, text)?;
    Ok(buckets)
}

/// Stacks begin and end in Go's code, but for those that were cut in the middle of something else: if most have nothing of it, the list is another one.
fn check_code(buckets: &[Bucket], text: (u64, u64)) -> Result<(), GoHeapError> {
    let known = buckets.iter().filter(|bucket| bucket.stack.iter().any(|pc| (text.0..=text.1).contains(pc))).count();
    match buckets.first() {
        Some(first) if known * 2 < buckets.len() => {
            Err(GoHeapError::Implausible { address: first.address, what: "its stacks are not in the program's code" })
        }
        _ => Ok(()),
    }
}

/// The bucket at an address, and where the next one is.
fn bucket(pages: &mut Pages<'_>, address: u64, record: GoRecord) -> Result<(Bucket, u64), GoHeapError> {
    let wrong = |what| GoHeapError::Implausible { address, what };
    if !address.is_multiple_of(8) {
        return Err(wrong("it is not aligned"));
    }
    let mut head = [0; HEAD_WORDS];
    words(pages, address, &mut head)?;
    let [_, next, kind, hash, size, length] = head;
    if kind != MEMORY {
        return Err(wrong("it is of another kind"));
    }
    if length > STACK_MAX {
        return Err(wrong("its stack is longer than any"));
    }
    let record_words = CYCLES * words_of(record);
    let mut body = vec![0; length as usize + record_words];
    words(pages, address.saturating_add(8 * HEAD_WORDS as u64), &mut body)?;
    let record_at = body.len() - record_words;
    let cycles = cycles(&body[record_at..], size, record);
    body.truncate(record_at);
    body.shrink_to_fit();
    if hash != hash_of(&body, size) {
        return Err(wrong("its hash is not that of its stack"));
    }
    Ok((Bucket { address, size, stack: body, cycles }, next))
}

fn words_of(record: GoRecord) -> usize {
    match record {
        GoRecord::ObjectsAndBytes => 4,
        GoRecord::Objects => 2,
    }
}

fn cycles(words: &[u64], size: u64, record: GoRecord) -> [Counts; CYCLES] {
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

fn words(pages: &mut Pages<'_>, address: u64, into: &mut [u64]) -> Result<(), GoHeapError> {
    let mut bytes = vec![0; 8 * into.len()];
    pages.copy(address, &mut bytes)?;
    for (word, bytes) in into.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    Ok(())
}

/// The hash under which the runtime finds a bucket (`stkbucket`): Jenkins' one-at-a-time over the words of the stack and the size. What is no bucket does not have it.
fn hash_of(stack: &[u64], size: u64) -> u64 {
    let mixed = stack.iter().chain([&size]).fold(0_u64, |hash, word| {
        let hash = hash.wrapping_add(*word);
        let hash = hash.wrapping_add(hash << 10);
        hash ^ hash >> 6
    });
    let hash = mixed.wrapping_add(mixed << 3);
    hash ^ hash >> 11
}
