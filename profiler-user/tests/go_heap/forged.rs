//! Lists that no runtime wrote: in this test's own memory, read as if it were a Go program. What the runtime's rules make of cycles that are not published yet, and
//! how lists end that lie.

use crate::subject::program;
use profiler::go::GoHeapError;
use profiler::go::heap::{GoHeapProfile, Request, read};
use profiler::memory::MemoryReader;
use profiler::model::go_heap::{GoHeapPlaces, GoRecord};
use profiler::model::process::Pid;
use std::time::{Duration, Instant};

/// Where the forged program's code would be.
const TEXT: u64 = 0x40_0000;
/// Words in front of a stack.
const HEAD: usize = 6;

/// A list in our memory: the words `mbuckets`, `MemProfileRate`, `mProfCycle` and `profMemActiveLock`, and the buckets, first to last.
struct Forged {
    variables: Box<[u64; 4]>,
    buckets: Vec<Vec<u64>>,
}

/// A bucket of one frame and 64 bytes, with its hash; the counts of a cycle: objects allocated and freed.
fn bucket(pc: u64, cycles: [[u64; 2]; 4]) -> Vec<u64> {
    let counts = cycles.iter().flat_map(|[allocs, frees]| [*allocs, *frees, allocs * 64, frees * 64]);
    let mut words = vec![0, 0, 1, hash(&[pc, 64]), 64, 1, pc];
    words.extend(counts);
    words
}

/// As the runtime does it, in Go's order of steps.
fn hash(words: &[u64]) -> u64 {
    let mut h = 0_u64;
    for word in words {
        h = h.wrapping_add(*word);
        h = h.wrapping_add(h.wrapping_shl(10));
        h ^= h.wrapping_shr(6);
    }
    h = h.wrapping_add(h.wrapping_shl(3));
    h ^ h.wrapping_shr(11)
}

impl Forged {
    fn new(cycle: u64, mut buckets: Vec<Vec<u64>>) -> Self {
        let mut next = 0;
        for bucket in buckets.iter_mut().rev() {
            bucket[1] = next;
            next = bucket.as_ptr() as u64;
        }
        Self { variables: Box::new([next, 512 << 10, cycle, 0]), buckets }
    }

    fn read_within(&self, bytes_max: usize) -> Result<GoHeapProfile, GoHeapError> {
        let at = |word: usize| &raw const self.variables[word] as u64;
        let places = GoHeapPlaces {
            buckets: at(0),
            rate: at(1),
            cycle: at(2),
            lock: at(3),
            record: GoRecord::ObjectsAndBytes,
            text: (TEXT, TEXT + 0x1000),
        };
        let deadline = Instant::now() + Duration::from_secs(2);
        let request = Request { pid: Pid(std::process::id()), bias: 0, places, deadline, bytes_max };
        read(&mut MemoryReader::new(Some(program())), &request)
    }

    fn read(&self) -> Result<GoHeapProfile, GoHeapError> {
        self.read_within(1 << 20)
    }

    /// Objects allocated and freed of each bucket.
    fn objects(&self) -> Vec<(u64, u64)> {
        let buckets = self.read().unwrap().buckets;
        assert!(
            buckets.iter().all(|bucket| bucket.alloc_bytes == 64 * bucket.alloc_objects && bucket.free_bytes == 64 * bucket.free_objects)
        );
        buckets.iter().map(|bucket| (bucket.alloc_objects, bucket.free_objects)).collect()
    }
}

#[test]
fn the_cycle_that_is_due_is_added_and_those_to_come_are_not() {
    if !crate::ready(&[]) {
        return;
    }
    let cycles = [[10, 1], [200, 20], [3000, 300], [40_000, 4000]];
    // Cycle 7, flushed and not: 7 % 3 is 1.
    for flushed in [0, 1] {
        let forged = Forged::new(7 << 1 | flushed, vec![bucket(TEXT, cycles), bucket(TEXT + 8, [[1, 0], [0, 0], [0, 0], [5, 0]])]);
        assert_eq!(forged.objects(), [(3010, 301), (1, 0)]);
    }
    assert_eq!(Forged::new(6 << 1, vec![bucket(TEXT, cycles)]).objects(), [(210, 21)]);
    // Nothing is published: no collection yet.
    let young = Forged::new(0, vec![bucket(TEXT, [[0, 0], [0, 0], [3, 1], [40, 0]]), bucket(TEXT + 8, [[0, 0], [0, 0], [0, 0], [7, 0]])]);
    assert_eq!(young.objects(), [(43, 1), (7, 0)]);
    assert_eq!(young.read().unwrap().rate, 512 << 10);
}

#[test]
fn what_is_being_published_is_not_read() {
    if !crate::ready(&[]) {
        return;
    }
    let mut forged = Forged::new(2, vec![bucket(TEXT, [[1, 0]; 4])]);
    forged.variables[3] = 1;
    assert!(matches!(forged.read(), Err(GoHeapError::Moving)));
    forged.variables[3] = 0;
    assert_eq!(forged.objects(), [(2, 0)]);
}

#[test]
fn lists_that_lie_end_in_words() {
    if !crate::ready(&[]) {
        return;
    }
    let counts = [[1, 0]; 4];
    let many = |count: u64| (0..count).map(|at| bucket(TEXT + at, counts)).collect::<Vec<_>>();
    let changed = |bucket: usize, word: usize, value: u64| {
        let mut forged = Forged::new(2, many(3));
        forged.buckets[bucket][word] = value;
        forged.read()
    };
    assert_eq!(Forged::new(2, many(3)).read().unwrap().buckets.len(), 3);
    assert!(matches!(changed(1, 2, 2), Err(GoHeapError::Implausible { what, .. }) if what.contains("kind")));
    assert!(matches!(changed(1, 3, 5), Err(GoHeapError::Implausible { what, .. }) if what.contains("hash")));
    assert!(matches!(changed(1, 5, 1 << 40), Err(GoHeapError::Implausible { what, .. }) if what.contains("longer")));
    assert!(matches!(changed(1, HEAD, 12345), Err(GoHeapError::Implausible { .. })));
    assert!(matches!(changed(2, 1, 4096), Err(GoHeapError::Unreadable { address: 4096, .. })));
    assert!(matches!(changed(2, 1, u64::MAX - 7), Err(GoHeapError::Unreadable { .. })));
    assert!(matches!(changed(2, 1, 4097), Err(GoHeapError::Implausible { what, .. }) if what.contains("aligned")));
    for (from, to) in [(0, 0), (2, 0), (2, 1), (99, 40)] {
        let mut forged = Forged::new(2, many(100));
        forged.buckets[from][1] = forged.buckets[to].as_ptr() as u64;
        assert!(matches!(forged.read(), Err(GoHeapError::Circle)), "{from} to {to}");
    }
    assert!(matches!(Forged::new(2, many(1000)).read_within(100_000), Err(GoHeapError::TooLarge(100_000))));
    let elsewhere = Forged::new(2, (0..9).map(|at| bucket(at, counts)).collect());
    assert!(matches!(elsewhere.read(), Err(GoHeapError::Implausible { what, .. }) if what.contains("code")));
    assert!(Forged::new(2, Vec::new()).read().unwrap().buckets.is_empty());
}
