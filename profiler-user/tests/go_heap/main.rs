//! Go's own profile of memory, read from outside, is what the program itself says: row by row, raw figures and program counters, at rest and with collections in
//! between, with symbols and without, movable or not. And no process can hang or mislead whoever reads it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod forged;
mod goroutines;
mod hanging;
mod rows;
mod subject;
mod waits;

use profiler::go::GoHeapError;
use profiler::model::go_heap::NoGoHeap;
use profiler::parse::go_heap::{Symbols, places};
use rows::{Row, by_subject};
use std::time::Instant;
use subject::{BUILDS, Subject, build};

/// Whether the machine has what these tests need; says loudly what is missing, and fails where everything must be there.
fn ready(tools: &[&str]) -> bool {
    let is_there = |tool: &&str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(tool).is_file())
            || std::path::Path::new(tool).is_file()
    };
    let mut missing: Vec<&str> = tools.iter().copied().filter(|tool| !is_there(tool)).collect();
    if !rustix::process::geteuid().is_root() {
        missing.push("root");
    }
    assert!(missing.is_empty() || std::env::var_os("CI").is_none(), "missing: {missing:?}");
    if !missing.is_empty() {
        eprintln!("SKIPPED: needs {}", missing.join(", "));
    }
    missing.is_empty()
}

/// Ours, then its own; rows that count nothing yet are left out, as are those of what it does to write the text.
fn agree(subject: &mut Subject, when: &str) -> usize {
    let ours = rows::counted(subject.ours().unwrap());
    let own = rows::counted(rows::own(&subject.text()));
    same(&ours, &own, when);
    ours.len()
}

fn same(ours: &[Row], own: &[Row], when: &str) {
    let missing: Vec<&Row> = own.iter().filter(|row| !ours.contains(row)).collect();
    let more: Vec<&Row> = ours.iter().filter(|row| !own.contains(row)).collect();
    assert!(
        missing.is_empty() && more.is_empty() && ours.len() == own.len(),
        "{when}: {} rows of ours, {} of its own; it has {missing:#x?}, and we {more:#x?}",
        ours.len(),
        own.len()
    );
}

#[test]
fn a_profile_is_the_programs_own_row_by_row() {
    if !ready(&[subject::go().as_str(), "gcc"]) {
        return;
    }
    for (name, flags) in BUILDS {
        let mut subject = Subject::start(build(name, flags), "1");
        subject.tell("allocate 3");
        // Nothing was collected yet: its own text has what it did to write it, too.
        let (ours, text) = (subject.ours().unwrap(), subject.text());
        let (ours, own) = (by_subject(rows::counted(ours), &text), by_subject(rows::counted(rows::own(&text)), &text));
        assert!(own.len() >= 64, "{name}: {} rows before any collection", own.len());
        same(&ours, &own, &format!("{name}, before any collection"));
        subject.tell("collect");
        subject.tell("collect");
        assert!(agree(&mut subject, &format!("{name}, at rest")) >= 64);
        subject.tell("drop");
        subject.tell("allocate 2");
        agree(&mut subject, &format!("{name}, with allocations to come"));
        subject.tell("collect");
        let rows = agree(&mut subject, &format!("{name}, after one collection"));
        assert!(rows >= 64, "{name}: {rows}");
        subject.tell("allocate 1");
        subject.tell("drop");
        subject.tell("pressure");
        agree(&mut subject, &format!("{name}, after a collection that nobody waited for"));
        subject.tell("collect");
        agree(&mut subject, &format!("{name}, and after one more"));
    }
}

#[test]
fn what_is_at_rest_reads_the_same_while_collections_go_on() {
    if !ready(&[subject::go().as_str(), "gcc"]) {
        return;
    }
    let mut subject = Subject::start(build("whole", &[]), "1");
    subject.tell("allocate 3");
    subject.tell("drop");
    subject.tell("collect");
    subject.tell("collect");
    subject.tell("storm");
    for _ in 0..50 {
        let ours = rows::counted(subject.ours().unwrap());
        let text = subject.text();
        let own = by_subject(rows::counted(rows::own(&text)), &text);
        assert!(own.len() >= 64);
        same(&by_subject(ours, &text), &own, "in a storm");
    }
    subject.tell("calm");
}

#[test]
fn a_sampled_profile_has_its_rate_and_one_that_is_off_says_so() {
    if !ready(&[subject::go().as_str(), "gcc"]) {
        return;
    }
    let mut subject = Subject::start(build("whole", &[]), "4096");
    subject.tell("allocate 20");
    subject.tell("collect");
    subject.tell("collect");
    agree(&mut subject, "sampled");
    assert_eq!(subject.read().unwrap().rate, 4096);
    let mut off = Subject::start(build("off", &[]), "0");
    off.tell("allocate 1");
    let read = off.read();
    // What the runtime allocated before `main` may have been sampled.
    assert!(matches!(&read, Err(GoHeapError::Off)) || read.is_ok_and(|read| read.rate == 0));
    off.kill();
    assert!(matches!(off.read(), Err(GoHeapError::Gone)));
}

#[test]
fn what_the_code_says_of_the_variables_is_what_the_symbols_say() {
    if !ready(&[subject::go().as_str(), "gcc"]) {
        return;
    }
    for (name, flags) in BUILDS.iter().filter(|(_, flags)| !flags.iter().any(|flag| flag.contains("-s "))) {
        let bytes = std::fs::read(&build(name, flags).0).unwrap();
        let by_symbols = places(&bytes, Symbols::Used).unwrap();
        assert_eq!(places(&bytes, Symbols::Ignored), Ok(by_symbols), "{name}");
        let symbol = |name: &str| subject::address_of(&bytes, name);
        let names = ["runtime.mbuckets", "runtime.mProfCycle", "runtime.profMemActiveLock", "runtime.MemProfileRate"];
        assert_eq!([by_symbols.buckets, by_symbols.cycle, by_symbols.lock, by_symbols.rate], names.map(symbol), "{name}");
    }
}

#[test]
fn a_program_whose_linker_left_the_profile_out_says_so() {
    if !ready(&[subject::go().as_str(), "gcc"]) {
        return;
    }
    for (name, flags) in [("none", &[][..]), ("none-stripped", &["-ldflags=-s -w"])] {
        let program = subject::build_source(name, "package main\n\nfunc main() { println(len(make([]byte, 1))) }\n", flags);
        let begun = Instant::now();
        assert_eq!(subject::places_by_reader(&program.0), Err(NoGoHeap::LeftOut), "{name}");
        assert!(begun.elapsed().as_secs() < 10);
    }
}

/// What is parsed is a stranger's: damage anywhere is an answer, not the end of the reader. (Headers, table and code lie all over the file.)
#[test]
fn damaged_programs_are_answered() {
    if !ready(&[subject::go().as_str()]) {
        return;
    }
    let whole = std::fs::read(&build("stripped", &["-ldflags=-s -w"]).0).unwrap();
    let mut random = 88_172_645_463_325_252_u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let mut answers = std::collections::HashSet::new();
    for round in 0..150 {
        let mut bytes = whole.clone();
        for _ in 0..1 << (round % 14) {
            let at = below(bytes.len());
            bytes[at] = below(256) as u8;
        }
        let at = below(if round % 2 == 0 { 4096 } else { bytes.len() });
        bytes[at] ^= 1 << below(8);
        bytes.truncate(if round % 5 == 0 { below(whole.len()) } else { whole.len() });
        answers.insert(format!("{:?}", places(&bytes, Symbols::Used).map(|_| "found")));
    }
    assert!(answers.len() > 2, "{answers:?}");
}
