//! Tests of the messages: what was written is what is read, and no bytes make reading panic or allocate more than they are.

use super::*;
use crate::model::allocator::{AllocatorCall, AllocatorFunction, AllocatorMark, GivenFunction, Marks, ProbePlace, Told, UselessMarks};
use crate::model::answer::{GoPlace, LoadSegment};
use crate::model::probe_points::{MarkArgument, MarkPlace};
use proptest::prelude::*;

fn line(text: &str, number: u32) -> SymbolLine {
    SymbolLine {
        name: text.into(),
        system_name: format!("_{text}").into(),
        filename: text.into(),
        line: number,
        column: number / 2,
        start_line: 7,
        go: (number > 1).then_some(GoPlace { offset: number, is_wrapper: number.is_multiple_of(2), is_inlined: number.is_multiple_of(3) }),
    }
}

#[test]
fn a_request_is_read_as_it_was_written() {
    let object = ObjectId { device: 1, inode: u64::MAX, modified_ns: -5, size: 9 };
    for request in [
        Request::Identify,
        Request::Symbolize {
            object,
            detail: Detail::SymbolsOnly,
            debug: Presence::Absent,
            alt: Presence::Given,
            offsets: vec![1, u64::MAX],
        },
        Request::Symbolize { object, detail: Detail::Full, debug: Presence::Given, alt: Presence::Absent, offsets: Vec::new() },
        Request::PerfMap { addresses: vec![0, 5] },
        Request::Unwind,
        Request::Allocator(Vec::new()),
        Request::GoHeap,
        Request::Goroutines,
        Request::GoWaits,
    ] {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
}

#[test]
fn an_answer_is_read_as_it_was_written() {
    let segment = LoadSegment { file_offset: 1, file_size: 2, virtual_address: 3, executable: true };
    let facts = ObjectFacts {
        build_id: Some(vec![1, 2]),
        debug_link: Some((b"a.debug".to_vec(), 0xdead_beef)),
        alt_link: None,
        segments: vec![segment, LoadSegment { executable: false, ..segment }],
        is_go: true,
        has_symbols: false,
        has_debug_info: true,
        has_go_table: true,
    };
    for answer in [
        Answer::Refused("no ELF".into()),
        Answer::Facts(facts),
        Answer::Lines(vec![Ok(vec![line("a", 1), line("b", u32::MAX)]), Err(Unresolved::NoSymbol), Ok(vec![line("a", 3)])]),
        Answer::Names(vec![None, Some("LazyCompile:~f".into())]),
    ] {
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }
}

fn an_allocator() -> Allocator {
    let place = ProbePlace { offset: 16, pushed: 0, is_emulated: false };
    let after_entry = ProbePlace { offset: 25, pushed: 8, is_emulated: true };
    let free = AllocatorFunction {
        name: "free".into(),
        aliases: vec!["cfree".into(), String::new()],
        call: AllocatorCall::Free,
        entry: 16,
        at_entry: place,
        after_entry,
        forwards: true,
        given: Some(0),
    };
    Allocator { functions: vec![free], own: vec![(16, 40), (60, 61)], given: vec![0, 5], marks: Marks::None }
}

#[test]
fn an_allocator_is_read_as_it_was_written_within_its_bounds() {
    let good = an_allocator();
    let read = |allocator: &Allocator| Answer::decode(&Answer::Allocator(allocator.clone()).encode());
    assert_eq!(read(&good), Ok(Answer::Allocator(good.clone())));
    let twice = Allocator { functions: vec![good.functions[0].clone(); 2], ..good.clone() };
    let overlapping = Allocator { own: vec![(1, 5), (4, 9)], ..good.clone() };
    let mut far = good.clone();
    far.functions[0].after_entry.offset = 1 << 20;
    let mut before = good.clone();
    before.functions[0].at_entry.offset = 15;
    for bad in [twice, overlapping, far, before] {
        assert!(read(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn marks_are_read_as_they_were_written() {
    let argument = |at| MarkArgument { bytes: 8, is_signed: false, at };
    let [block, size] = [argument(MarkPlace::Register(5)), argument(MarkPlace::Memory(7, -16))];
    let mark = |offset, tells| AllocatorMark { offset, semaphore: 9, is_emulated: true, tells };
    let usable = Marks::Usable(vec![mark(16, Told::Alloc([block, size, argument(MarkPlace::Number(-1))])), mark(40, Told::Free(block))]);
    for marks in [Marks::None, Marks::Useless(UselessMarks::Half), Marks::Useless(UselessMarks::Malloc), usable] {
        let answer = Answer::Allocator(Allocator { marks, ..Allocator::default() });
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }
}

#[test]
fn functions_that_are_given_are_asked_for() {
    let given = vec![GivenFunction { call: AllocatorCall::PosixMemalign, name: "pool_get".into() }];
    let request = Request::Allocator(given);
    assert_eq!(Request::decode(&request.encode()), Ok(request));
}

#[test]
fn a_length_is_not_believed() {
    let mut bytes = vec![2];
    bytes.extend(u32::MAX.to_le_bytes());
    assert!(Answer::decode(&bytes).is_err());
    let mut endless = Answer::Refused("x".into()).encode();
    endless.push(0);
    assert!(Answer::decode(&endless).is_err());
}

#[test]
fn an_answer_with_deep_inlining_everywhere_is_refused() {
    let deep = |answers: usize| Answer::Lines(vec![Ok(vec![line("a", 1); LINES_MAX]); answers]).encode();
    assert!(Answer::decode(&deep(40)).is_ok());
    assert!(Answer::decode(&deep(1000)).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = (Answer::decode(&bytes), Request::decode(&bytes));
    }

    #[test]
    fn no_change_of_a_good_answer_makes_reading_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = Answer::Lines(vec![Ok(vec![line("abc", 1), line("d", 2)]), Err(Unresolved::FileBad)]).encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = Answer::decode(&bytes);
    }
}
