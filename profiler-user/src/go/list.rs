//! A list of buckets as it lies in memory. A bucket's head, its stack and its place in the list never change once it can be found; what it counts does.
//!
//! Layout (`runtime/mprof.go` of 1.21.13 to 1.27.3, words of eight bytes): next with the same hash, next of all, kind, hash, size, length of the stack; the stack;
//! then what it counts. Each kind has a list of its own.

use super::error::GoHeapError;
use super::pages::Pages;

/// Words of a bucket's head.
const HEAD_WORDS: usize = 6;
/// Longest stack that the runtime takes back from a bucket (32 before 1.23).
const STACK_MAX: u64 = 1024;

/// What a list counts: the kind that its buckets say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Counted {
    Memory = 1,
    Waits = 2,
    Releases = 3,
}

/// Which list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    /// Where the pointer to its first bucket is, in the process.
    pub head: u64,
    pub counted: Counted,
    /// Words of what a bucket counts.
    pub record_words: usize,
    /// Go's code in the process.
    pub text: (u64, u64),
    /// Bytes that it may have with us.
    pub bytes_max: usize,
}

/// A bucket as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bucket<T> {
    pub address: u64,
    pub size: u64,
    pub stack: Vec<u64>,
    pub record: T,
}

/// Follows a list from its first bucket; the newest comes first. `record` makes of a bucket's words what it counts, and is told its size.
pub(super) fn walk<T>(pages: &mut Pages<'_>, list: &List, record: impl Fn(&[u64], u64) -> T) -> Result<Vec<Bucket<T>>, GoHeapError> {
    let (mut buckets, mut left) = (Vec::new(), list.bytes_max);
    let mut at = pages.u64(list.head)?;
    // A bucket that was seen before is met again if the list is a circle; which one is remembered moves on at each power of two.
    let mut seen = 0;
    while at != 0 {
        if at == seen {
            return Err(GoHeapError::Circle);
        }
        if buckets.len().is_power_of_two() {
            seen = at;
        }
        let (bucket, next) = bucket(pages, at, list, &record)?;
        let bytes = size_of::<Bucket<T>>() + size_of_val(bucket.stack.as_slice());
        left = left.checked_sub(bytes).ok_or(GoHeapError::TooLarge(list.bytes_max))?;
        buckets.push(bucket);
        at = next;
    }
    check_code(&buckets, list.text)?;
    Ok(buckets)
}

/// Stacks begin and end in Go's code, but for those that were cut in the middle of something else: if most have nothing of it, the list is another one.
fn check_code<T>(buckets: &[Bucket<T>], text: (u64, u64)) -> Result<(), GoHeapError> {
    let known = buckets.iter().filter(|bucket| bucket.stack.iter().any(|pc| (text.0..=text.1).contains(pc))).count();
    match buckets.first() {
        Some(first) if known * 2 < buckets.len() => {
            Err(GoHeapError::Implausible { address: first.address, what: "its stacks are not in the program's code" })
        }
        _ => Ok(()),
    }
}

/// The bucket at an address, and where the next one is.
fn bucket<T>(pages: &mut Pages<'_>, address: u64, list: &List, record: impl Fn(&[u64], u64) -> T) -> Result<(Bucket<T>, u64), GoHeapError> {
    let wrong = |what| GoHeapError::Implausible { address, what };
    if !address.is_multiple_of(8) {
        return Err(wrong("it is not aligned"));
    }
    let mut head = [0; HEAD_WORDS];
    words(pages, address, &mut head)?;
    let [_, next, kind, hash, size, length] = head;
    if kind != list.counted as u64 {
        return Err(wrong("it is of another kind"));
    }
    if length > STACK_MAX {
        return Err(wrong("its stack is longer than any"));
    }
    let mut body = vec![0; length as usize + list.record_words];
    words(pages, address.saturating_add(8 * HEAD_WORDS as u64), &mut body)?;
    let record_at = body.len() - list.record_words;
    let record = record(&body[record_at..], size);
    body.truncate(record_at);
    body.shrink_to_fit();
    if hash != hash_of(&body, size) {
        return Err(wrong("its hash is not that of its stack"));
    }
    Ok((Bucket { address, size, stack: body, record }, next))
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
