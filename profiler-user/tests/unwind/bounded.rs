//! What holds whatever a stranger's file says and whatever lies on a stack: the body of the fuzz targets in `fuzz/`, and of the tests here that run for a
//! bounded time.

use profiler::parse::eh_frame::unwind_table_for;
use profiler::parse::machine::Machine;
use profiler_common::ended::Ended;
use profiler_common::unwind::rule::{self, Rule};
use profiler_common::unwind::{Registers, arm64, table};

/// Words of one part: a chunk of the arena.
const PART_WORDS_MAX: usize = 1 << 18;
/// Rows of one file, those between its functions included.
const ROWS_MAX: u64 = 8_000_000;
/// Frames of one walk.
const FRAMES_MAX: usize = 1_024;

/// Some table or none, in bounded room: never a panic, never a part that does not fit or overlaps another, never a row without a rule. Gives its rows.
pub(crate) fn file(bytes: &[u8], machine: Machine) -> Option<u64> {
    let table = unwind_table_for(bytes, machine).ok()?;
    assert!(table.rows <= ROWS_MAX, "{} rows", table.rows);
    let mut end = 0;
    for part in &table.parts {
        let length = u64::from(part.length());
        assert!(part.first >= end && part.words.len() <= PART_WORDS_MAX, "a part that overlaps another, or is too large");
        end = part.first + length;
        // Words that lie outside of the part are a panic.
        let rule = |place: u64| table::find(|word| part.word(word), place, |value| value);
        for at in 0..=200 {
            rule((length * at / 200).min(length.saturating_sub(1)));
        }
        let registers = Registers { ip: 0x40_1000, sp: 0x7000, fp: 0x7100, bx: 0 };
        walk(&mut |at| rule(at.ip % length.max(1)), &mut |at| Some(at ^ at >> 7), registers, machine);
    }
    Some(table.rows)
}

/// Walks by rules and memory that may be anything. Each frame lies above the one before it, unless its rule says that the stack is another one.
pub(crate) fn walk(
    rule_at: &mut impl FnMut(&Registers) -> Rule,
    word: &mut impl FnMut(u64) -> Option<u64>,
    from: Registers,
    machine: Machine,
) -> (usize, Ended) {
    let mut at = from;
    for depth in 0..FRAMES_MAX {
        let rule = rule_at(&at);
        let register = |number: u8| (depth == 0).then(|| u64::from(number) << 12);
        let up = match machine {
            Machine::X86_64 => rule::step(rule, &at, &mut *word, register),
            Machine::Arm64 => arm64::step(rule, &at, &mut *word, register),
        };
        match up {
            Ok(up) => {
                let is_higher = up.sp > at.sp || may_stay(rule, &at, machine);
                assert!(is_higher, "{machine:?}: {rule:x?} leads down, from {at:x?} to {up:x?}");
                at = up;
            }
            Err(ended) => return (depth, ended),
        }
    }
    (FRAMES_MAX, Ended::DepthLimit)
}

/// A signal's frame, Go's frame pointers and a return address in a register may lead to the same stack pointer or another stack; so may a frame pointer at
/// the end of the address space. A caller's x30 is never known, so that a leaf's rule cannot hold twice.
fn may_stay(rule: Rule, at: &Registers, machine: Machine) -> bool {
    const SIGNAL: u8 = 6;
    const RETURN_IN: u8 = 10;
    const GO: u8 = 11;
    let of_kind = match rule.0 as u8 {
        SIGNAL | GO => true,
        RETURN_IN => machine == Machine::X86_64,
        _ => machine == Machine::Arm64 && at.bx != arm64::NO_LINK,
    };
    of_kind || at.fp > u64::MAX - 16
}

/// Walks by rules, registers and memory cut out of some bytes.
pub(crate) fn any_walk(bytes: &[u8], machine: Machine) -> (usize, Ended) {
    let words: Vec<u64> = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default())).collect();
    let [sp, fp, bx, base, rest @ ..] = &words[..] else { return (0, Ended::NoRule) };
    let (rules, memory) = rest.split_at(rest.len() / 2);
    if rules.is_empty() {
        return (0, Ended::NoRule);
    }
    let mut next = 0;
    let mut rule_at = |_: &Registers| {
        next += 1;
        Rule(rules[next % rules.len()])
    };
    // Memory that is there from a base on, and says the same again above it.
    let mut word = |at: u64| memory.get(usize::try_from(at.checked_sub(*base)? / 8).ok()? % memory.len().max(1)).copied();
    walk(&mut rule_at, &mut word, Registers { ip: 0, sp: *sp, fp: *fp, bx: *bx }, machine)
}
