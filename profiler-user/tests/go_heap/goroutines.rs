//! Tables of goroutines that no runtime wrote: in this test's own memory, read as if it were a Go program's.

use crate::subject::program;
use profiler::go::GoHeapError;
use profiler::go::goroutines::{Goroutine, Request, read};
use profiler::memory::MemoryReader;
use profiler::model::goroutines::GoroutinePlaces;
use profiler::model::process::Pid;
use std::time::{Duration, Instant};

/// Words of what is read of a goroutine.
const WORDS: usize = 45;

/// A goroutine of 1.26 that waits, as far as it is looked at.
fn goroutine(id: u64, stack: &[u64]) -> Vec<u64> {
    let mut words = vec![0; WORDS];
    let low = stack.as_ptr() as u64;
    (words[0], words[1]) = (low, low + size_of_val(stack) as u64);
    // The stack pointer, where it stands, its state, its number.
    (words[7], words[8], words[18], words[19]) = (low + 8, 0x40_0010, 4, id);
    words
}

/// A slice in our memory: its three words, and what it lists.
struct Table {
    slice: Box<[u64; 3]>,
    listed: Vec<u64>,
}

impl Table {
    fn of(listed: Vec<u64>) -> Self {
        let (first, length) = (listed.as_ptr() as u64, listed.len() as u64);
        Self { slice: Box::new([first, length, length]), listed }
    }

    fn read(&self) -> Result<Vec<Goroutine>, GoHeapError> {
        let text = (0x40_0000, 0x40_1000);
        let places = GoroutinePlaces { all: &raw const *self.slice as u64, minor: 26, text, faults: (0, 0), callbacks: (0, 0, 0) };
        let deadline = Instant::now() + Duration::from_secs(5);
        let request = Request { pid: Pid(std::process::id()), bias: 0, places, deadline, bytes_max: 1 << 20 };
        let read = read(&mut MemoryReader::new(Some(program())), &request);
        assert!(!self.listed.is_empty());
        read
    }
}

#[test]
fn tables_of_goroutines_that_lie_end_in_words() {
    if !crate::ready(&[]) {
        return;
    }
    let stack = vec![0_u64; 64];
    let goroutines: Vec<Vec<u64>> = (1..=100).map(|id| goroutine(id, &stack)).collect();
    let addresses = || goroutines.iter().map(|words| words.as_ptr() as u64).collect::<Vec<u64>>();
    let whole = Table::of(addresses()).read().unwrap();
    assert_eq!(whole.iter().map(|one| one.id).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    let implausible = |table: &Table, word: &str| {
        let read = table.read();
        assert!(matches!(&read, Err(GoHeapError::Implausible { what, .. }) if what.contains(word)), "{word}: {read:?}");
    };
    // The same one again and again: a circle, where there are lists.
    implausible(&Table::of(addresses().into_iter().take(2).cycle().take(100).collect()), "again and again");
    for length in [0, 101, 1 << 30, u64::MAX] {
        let mut table = Table::of(addresses());
        table.slice[1] = length;
        implausible(&table, "length");
    }
    // So long that there is room for it nowhere, and as long as it may be, where there is no such memory.
    for length in [u64::MAX, 4 << 20] {
        let mut table = Table::of(addresses());
        (table.slice[1], table.slice[2]) = (length, length);
        assert!(table.read().is_err(), "{length}");
    }
    let mut table = Table::of(addresses());
    (table.slice[1], table.slice[2]) = (30_000, 30_000);
    table.slice[0] = 4096;
    assert!(matches!(table.read(), Err(GoHeapError::Unreadable { .. })));
    // Nothing there, and memory in which there is no goroutine.
    implausible(&Table::of((0..100).map(|at| 8 * at + 4096).collect()), "no goroutines");
    let other = vec![u64::MAX; 1000];
    implausible(&Table::of((0..100).map(|at| &raw const other[at] as u64).collect()), "no goroutines");
    implausible(&Table::of(addresses().into_iter().map(|address| address + 1).collect()), "no addresses");
}

#[test]
fn a_stack_that_lies_is_none_and_the_others_are_read() {
    if !crate::ready(&[]) {
        return;
    }
    let stack = vec![0_u64; 64];
    let mut goroutines: Vec<Vec<u64>> = (1..=20).map(|id| goroutine(id, &stack)).collect();
    // All of the memory there is; one that ends before it begins; one that is not there.
    (goroutines[0][0], goroutines[0][1]) = (8, u64::MAX);
    goroutines[1].swap(0, 1);
    (goroutines[2][0], goroutines[2][1], goroutines[2][7]) = (4096, 8192, 4104);
    let table = Table::of(goroutines.iter().map(|words| words.as_ptr() as u64).collect());
    let read = table.read().unwrap();
    assert_eq!(read.len(), 20);
    assert!(read[1].stack.is_err() && read[2].stack.is_err(), "{:?} {:?}", read[1].stack, read[2].stack);
    assert!(read[3..].iter().all(|one| one.stack.is_ok()), "{:?}", read[3].stack);
}
