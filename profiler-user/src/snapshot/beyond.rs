//! Stacks that lead to other memory than they began in: C that Go has called runs on its thread's stack, and what called it stands on the goroutine's; a handler
//! of signals may have a stack of its own. What a walk wants there is read from that word on, and the walk goes on.

use crate::memory::{RANGE_MAX_BYTES, Range};
use crate::model::stack::{Beyond, Stretch, UserStack, word_at};
use profiler_common::ended::Ended;

/// Bytes that are read at first; each time four times as many.
const BYTES_FIRST: u32 = 4 << 10;
/// Pieces of memory that one walk may lead through, at most.
const STRETCHES_MAX: usize = 6;

/// Whether the walk has stopped above where it began, so that more bytes of the same stack, of at most so many, lead further.
pub fn is_deeper(stack: &UserStack, bytes: u32) -> bool {
    let UserStack::Unfinished { beyond: Some(Beyond { stretches, wanted: Some(wanted) }), .. } = stack else { return false };
    stretches.first().is_some_and(|first| wanted.wrapping_sub(first.address) < u64::from(bytes))
}

/// What is to be read for the walk to go on; None: that is at its end, or has been read without end.
pub fn wanted(stack: &UserStack) -> Option<Range> {
    let UserStack::Unfinished { beyond: Some(Beyond { stretches, wanted: Some(wanted) }), registers, .. } = stack else { return None };
    if stretches.len() >= STRETCHES_MAX || !wanted.is_multiple_of(8) {
        return None;
    }
    let length = (BYTES_FIRST << (2 * stretches.len().saturating_sub(1))).min(RANGE_MAX_BYTES);
    // Of a frame the return address is read first, and what it has saved lies below.
    let from = registers.sp & !7;
    let is_here = stretches.iter().any(|stretch| word_at(stretch.address, &stretch.words, from).is_some());
    let is_below = from <= *wanted && *wanted - from < u64::from(length / 2);
    Some(Range { address: if is_below && !is_here { from } else { *wanted }, length })
}

/// The stack with what was read; if that is not what it wants, it is at its end.
pub fn with(stack: UserStack, range: Range, bytes: &[u8]) -> UserStack {
    let words: Vec<u64> = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default())).collect();
    match stack {
        UserStack::Unfinished { addresses, registers, at, leaf, words: own, beyond: Some(mut beyond), manner } => {
            if beyond.wanted.is_none_or(|wanted| word_at(range.address, &words, wanted).is_none()) {
                return UserStack::Walked { addresses, ended: Ended::Unreadable };
            }
            beyond.stretches.push(Stretch { address: range.address, words });
            UserStack::Unfinished { addresses, registers, at, leaf, words: own, beyond: Some(beyond), manner }
        }
        whole => whole,
    }
}

/// The stack as it is kept: one that still wants something does not get it.
pub fn settled(stack: UserStack) -> UserStack {
    let is_deep = matches!(&stack, UserStack::Unfinished { beyond: Some(beyond), .. } if beyond.stretches.len() >= STRETCHES_MAX);
    match stack {
        UserStack::Unfinished { addresses, .. } => {
            UserStack::Walked { addresses, ended: if is_deep { Ended::DepthLimit } else { Ended::Unreadable } }
        }
        whole => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stack::{LastAddress, Manner};
    use profiler_common::unwind::Registers;

    /// A walk that began at 0x7000, where one word was read, and has stopped for another word.
    fn stopped_for(wanted: u64, sp: u64) -> UserStack {
        UserStack::Unfinished {
            addresses: vec![1, 2],
            registers: Registers { ip: 2, sp, fp: 0, bx: 0 },
            at: LastAddress::ReturnedTo,
            leaf: None,
            words: Vec::new(),
            beyond: Some(Beyond { stretches: vec![Stretch { address: 0x7000, words: vec![0] }], wanted: Some(wanted) }),
            manner: Manner::default(),
        }
    }

    #[test]
    fn what_is_read_begins_at_the_frame_or_at_the_word() {
        let reads = |wanted_at, sp| wanted(&stopped_for(wanted_at, sp)).map(|range| range.address);
        assert_eq!(reads(0xc000_0000, 0x7000), Some(0xc000_0000));
        assert_eq!(reads(0xc000_0100, 0xc000_0008), Some(0xc000_0008));
        assert_eq!(reads(0xc000_0100, 0xb000_0000), Some(0xc000_0100));
        assert_eq!(reads(0xc000_0101, 0xc000_0000), None);
        assert!(is_deeper(&stopped_for(0x7008, 0), 0x1000) && !is_deeper(&stopped_for(0x8000, 0), 0x1000));
        assert!(!is_deeper(&stopped_for(0x6ff8, 0), 0x1000));
    }

    #[test]
    fn what_is_not_wanted_ends_a_stack_and_so_does_what_has_no_end() {
        let (mut stack, range) = (stopped_for(0x9000, 0x7000), Range { address: 0x9000, length: 8 });
        assert_eq!(with(stack.clone(), range, &[0; 4]), UserStack::Walked { addresses: vec![1, 2], ended: Ended::Unreadable });
        assert_eq!(settled(stack.clone()), with(stack.clone(), range, &[]));
        let mut lengths = Vec::new();
        while let Some(range) = wanted(&stack) {
            lengths.push(range.length);
            stack = with(stack, range, &[0; 8]);
        }
        assert_eq!(lengths, [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20]);
        assert_eq!(settled(stack), UserStack::Walked { addresses: vec![1, 2], ended: Ended::DepthLimit });
    }
}
