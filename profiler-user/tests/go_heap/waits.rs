//! What Go's runtime records of its goroutines' waits, read from outside: the program's own figures, row by row; and lists that lie.

use crate::subject::{self, BUILDS, Subject, build_subject, program};
use profiler::go::GoHeapError;
use profiler::go::waits::{GoWaitProfile, GoWaits, Request, Which, read};
use profiler::memory::MemoryReader;
use profiler::model::go_heap::NoGoHeap;
use profiler::model::go_waits::{GoWaitList, GoWaitPlaces};
use profiler::model::process::Pid;
use profiler::parse::go_heap::Symbols;
use profiler::parse::go_waits::places;
use std::time::{Duration, Instant};

/// The figures of the rows of Go's text, `ticks count @ addresses`, in order.
fn own(text: &str) -> Vec<(i64, u64)> {
    let row = |line: &str| {
        let (figures, _) = line.split_once(" @")?;
        let (ticks, count) = figures.split_once(' ')?;
        Some((ticks.parse().ok()?, count.parse().ok()?))
    };
    let mut rows: Vec<(i64, u64)> = text.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect();
    rows.sort_unstable();
    rows
}

fn ours(profile: &GoWaitProfile) -> Vec<(i64, u64)> {
    let mut rows: Vec<(i64, u64)> = profile.buckets.iter().map(|bucket| (bucket.ticks, bucket.shown_count(profile.which))).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn waits_are_the_programs_own_row_by_row() {
    if !crate::ready(&[subject::go().as_str(), "gcc"]) {
        return;
    }
    for (name, flags) in BUILDS {
        let mut subject = Subject::start(build_subject("gowaits", name, flags), "1");
        // Nothing is recorded before it is asked for; 1.22 to 1.25 may have an empty bucket for the runtime's own locks.
        subject.tell("wait 1");
        for profile in subject.waits().profiles {
            let is_empty = profile.buckets.iter().all(|bucket| bucket.count == 0.0 && bucket.ticks == 0);
            assert!(profile.rate == 0 && is_empty, "{name}: {profile:?}");
        }
        for (block, mutex) in [(1, 1), (1_000_000, 3)] {
            subject.tell(&format!("block {block}"));
            subject.tell(&format!("mutex {mutex}"));
            subject.tell("wait 2");
            // A wait for one of the runtime's own locks happens at any moment: what is compared with was the same before ours was read and after.
            let (texts, waits) = (0..10)
                .find_map(|_| {
                    let (before, waits) = (subject.waits_texts(), subject.waits());
                    (before == subject.waits_texts()).then_some((before, waits))
                })
                .expect("ten times its own profiles changed while ours were read");
            let (rates, per_second) = (waits.profiles.iter().map(|profile| profile.rate), waits.ticks_per_second.unwrap());
            let ticks = if block == 1 { 1 } else { (f64::from(block) * per_second as f64 / 1e9) as i64 };
            assert_eq!(rates.collect::<Vec<_>>(), [ticks, mutex], "{name}");
            assert!(texts[0].contains(&format!("\ncycles/second={per_second}\n")), "{name}: {per_second} in {}", texts[0]);
            for (profile, text) in waits.profiles.iter().zip(&texts) {
                let (ours, own) = (ours(profile), own(text));
                assert!(ours.iter().filter(|row| row.0 > 0).count() >= 20, "{name}: {ours:?}");
                assert_eq!(ours, own, "{name}: {:?}", profile.which);
            }
        }
    }
}

#[test]
fn what_the_code_says_of_waits_is_what_the_symbols_say() {
    if !crate::ready(&[subject::go().as_str(), "gcc"]) {
        return;
    }
    for (name, flags) in BUILDS.iter().filter(|(_, flags)| !flags.iter().any(|flag| flag.contains("-s "))) {
        let bytes = std::fs::read(&build_subject("gowaits", name, flags).0).unwrap();
        let by_symbols = places(&bytes, Symbols::Used).unwrap();
        assert_eq!(places(&bytes, Symbols::Ignored), Ok(by_symbols), "{name}");
        let names = ["runtime.bbuckets", "runtime.blockprofilerate", "runtime.xbuckets", "runtime.mutexprofilerate"];
        let GoWaitPlaces { block, mutex, .. } = by_symbols;
        let found = [block.buckets, block.rate, mutex.buckets, mutex.rate];
        assert_eq!(found, names.map(|name| subject::address_of(&bytes, name)), "{name}");
    }
}

#[test]
fn a_program_that_reads_no_waits_says_so() {
    if !crate::ready(&[subject::go().as_str()]) {
        return;
    }
    let program = subject::build_source("none", "package main\n\nfunc main() { println(len(make([]byte, 1))) }\n", &["-ldflags=-s -w"]);
    assert_eq!(subject::waits_by_reader(&program.0), Err(NoGoHeap::WaitsLeftOut));
}

/// Where the forged program's code would be.
const TEXT: u64 = 0x40_0000;

/// A list in our own memory: head, rate and ticks a second, and the buckets.
struct Forged {
    variables: Box<[u64; 3]>,
    buckets: Vec<Vec<u64>>,
}

/// A bucket of one frame that counts 2.5 waits and 1,000 ticks.
fn bucket(pc: u64) -> Vec<u64> {
    let mixed = [pc, 0].iter().fold(0_u64, |hash, word| {
        let hash = hash.wrapping_add(*word);
        let hash = hash.wrapping_add(hash << 10);
        hash ^ hash >> 6
    });
    let hash = mixed.wrapping_add(mixed << 3);
    vec![0, 0, 2, hash ^ hash >> 11, 0, 1, pc, 2.5_f64.to_bits(), 1000]
}

impl Forged {
    fn new(count: u64) -> Self {
        let mut buckets: Vec<Vec<u64>> = (0..count).map(|at| bucket(TEXT + at)).collect();
        let mut next = 0;
        for bucket in buckets.iter_mut().rev() {
            bucket[1] = next;
            next = bucket.as_ptr() as u64;
        }
        Self { variables: Box::new([next, 1, 0]), buckets }
    }

    fn read(&self) -> Result<GoWaits, GoHeapError> {
        let at = |word: usize| &raw const self.variables[word] as u64;
        let list = GoWaitList { buckets: at(0), rate: at(1) };
        let places = GoWaitPlaces { block: list, mutex: list, ticks_per_second: at(2), minor: 26, text: (TEXT, TEXT + 0x1000) };
        let deadline = Instant::now() + Duration::from_secs(2);
        let request = Request { pid: Pid(std::process::id()), bias: 0, places, which: vec![Which::Block], deadline, bytes_max: 1 << 16 };
        read(&mut MemoryReader::new(Some(program())), &request)
    }
}

#[test]
fn lists_of_waits_that_lie_end_in_words() {
    if !crate::ready(&[]) {
        return;
    }
    let whole = Forged::new(3).read().unwrap();
    assert_eq!((whole.ticks_per_second, whole.profiles[0].buckets.len()), (None, 3));
    assert_eq!((whole.profiles[0].buckets[0].count, whole.profiles[0].buckets[0].ticks), (2.5, 1000));
    let changed = |word: usize, value: u64| {
        let mut forged = Forged::new(3);
        forged.buckets[1][word] = value;
        forged.read()
    };
    // A bucket of the memory profile, a stack that another's words follow, and one of absurd length.
    assert!(matches!(changed(2, 1), Err(GoHeapError::Implausible { what, .. }) if what.contains("kind")));
    assert!(matches!(changed(2, 3), Err(GoHeapError::Implausible { what, .. }) if what.contains("kind")));
    assert!(matches!(changed(3, 5), Err(GoHeapError::Implausible { what, .. }) if what.contains("hash")));
    assert!(matches!(changed(5, u64::MAX), Err(GoHeapError::Implausible { what, .. }) if what.contains("longer")));
    assert!(matches!(changed(1, 4096), Err(GoHeapError::Unreadable { address: 4096, .. })));
    for (from, to) in [(0, 0), (2, 0), (99, 40)] {
        let mut forged = Forged::new(100);
        forged.buckets[from][1] = forged.buckets[to].as_ptr() as u64;
        assert!(matches!(forged.read(), Err(GoHeapError::Circle)), "{from} to {to}");
    }
    assert!(matches!(Forged::new(2000).read(), Err(GoHeapError::TooLarge(_))));
}
