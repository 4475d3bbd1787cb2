//! Walking on where the kernel side had no table: the same `step()`, on the bytes that came along.

use super::state::TableOf;
use super::tables::{Missing, Unwinder};
use crate::bpf::Arena;
use crate::model::stack::{Beyond, LastAddress, Stretch, UserStack, word_at};
use crate::process::AddressSpace;
use crate::sys::address_bits;
use profiler_common::ended::Ended;
use profiler_common::unwind::arm64::code_address;
use profiler_common::unwind::rule::{Cfa, Rule, Saved};
use profiler_common::unwind::{Registers, caller_word, step};
use std::cell::Cell;

/// What has become of a stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finished {
    /// It is walked to its end; or, where more memory can be read, to where it needs some.
    Walked(UserStack),
    /// This table is needed first, and on its way.
    Waits(TableOf),
    /// This table is needed first, and nobody has asked for it.
    Wants(TableOf),
}

/// Walks an unfinished stack to its end by frame pointers alone. Any other is given back as it is.
pub fn by_frame_pointers(stack: &UserStack) -> UserStack {
    match walk_on(stack, |_, _| Ok(Rule::FRAME_POINTER)) {
        Ok(walked) => walked,
        Err(_) => stack.clone(), // It stops at no table.
    }
}

/// Walks an unfinished stack to its end, with the rule for each of its frames; or the table that is needed first. Where more memory can be read, it is given back
/// as far as it was walked if it needs some.
fn walk_on(stack: &UserStack, mut rule_at: impl FnMut(&Registers, LastAddress) -> Result<Rule, Stopped>) -> Result<UserStack, Needed> {
    let UserStack::Unfinished { addresses, registers, at, leaf, words, beyond, manner } = stack else { return Ok(stack.clone()) };
    let (mut addresses, mut registers, mut last) = (addresses.clone(), *registers, *at);
    let bits = address_bits();
    let memory = Copied { base: registers.sp & !7, words, beyond: beyond.as_ref(), missed: Cell::new(0) };
    let ended = loop {
        let is_fault = (manner.faults.0..manner.faults.1).contains(&registers.ip);
        let rule = match rule_at(&registers, last) {
            // Its own rule leads back over the stack of C, which is not here.
            Ok(_) if (manner.callbacks.0..manner.callbacks.1).contains(&registers.ip) => callback(manner.callbacks.2),
            Ok(rule) => rule,
            Err(Stopped::Ended(ended)) => break ended,
            Err(Stopped::Needs(needed)) => return Err(needed),
        };
        let leaf = leaf.filter(|_| addresses.len() == 1);
        match step(rule, &registers, |at| memory.read(at), |number| leaf?.get(number)) {
            Ok(caller) => registers = Registers { ip: code_address(caller.ip, bits), ..caller },
            Err(Ended::Unreadable) => match memory.wanting() {
                Some(beyond) => {
                    let (words, manner) = (Vec::new(), *manner);
                    return Ok(UserStack::Unfinished { addresses, registers, at: last, leaf, words, beyond: Some(beyond), manner });
                }
                // Beyond the bytes that came along, or on another stack: with a table it would have been read.
                None => break Ended::NoTable,
            },
            Err(ended) => break ended,
        }
        last = if is_fault || rule.leads_to_interrupted() { LastAddress::Interrupted } else { LastAddress::ReturnedTo };
        if addresses.len() >= manner.frames_max {
            break Ended::DepthLimit;
        }
        addresses.push(caller_word(registers.ip, u64::from(last == LastAddress::Interrupted)));
    };
    Ok(UserStack::Walked { addresses, ended })
}

/// The frame that C's call back into Go has on the goroutine's stack.
fn callback(bytes: u32) -> Rule {
    i32::try_from(bytes).map_or(Rule::NONE, |bytes| Rule::new(Cfa::Sp(bytes), Saved::Same, Saved::Lost))
}

impl Unwinder {
    /// Walks an unfinished stack to its end, with the mappings of its time. Any other is given back as it is.
    pub fn finish(&mut self, stack: &UserStack, space: &AddressSpace, arena: &Arena) -> Finished {
        match walk_on(stack, |registers, last| self.rule_at(registers, last, space, arena)) {
            Ok(walked) => {
                self.costs.finished += u64::from(matches!(stack, UserStack::Unfinished { .. }));
                Finished::Walked(walked)
            }
            Err(Needed::OnItsWay(table)) => Finished::Waits(table),
            Err(Needed::NotAsked(table)) => Finished::Wants(table),
        }
    }

    fn rule_at(&mut self, registers: &Registers, last: LastAddress, space: &AddressSpace, arena: &Arena) -> Result<Rule, Stopped> {
        // Only the kernel side knows where it leads to.
        if space.is_return_probe(registers.ip) {
            return Err(Stopped::Ended(Ended::NoTable));
        }
        let before = if last == LastAddress::ReturnedTo { 1 } else { 0 };
        let address = registers.ip.wrapping_sub(before);
        let Some(range) = space.find(address) else { return Err(Stopped::Ended(Ended::NoMapping)) };
        let Some(table) = TableOf::of(&range.kind) else {
            return Ok(Rule::FRAME_POINTER);
        };
        let offset = range.mapped.file_offset.wrapping_add(address - range.mapped.start);
        self.rule(table, offset, arena).map_err(|missing| match missing {
            Missing::NotAsked => Stopped::Needs(Needed::NotAsked(table)),
            Missing::Asked => Stopped::Needs(Needed::OnItsWay(table)),
            Missing::NoRoom => Stopped::Ended(Ended::NoTable),
        })
    }
}

enum Stopped {
    Ended(Ended),
    Needs(Needed),
}

/// A table without which a walk does not go on.
enum Needed {
    NotAsked(TableOf),
    OnItsWay(TableOf),
}

/// The stack as it was copied, and what was read beside it.
struct Copied<'a> {
    base: u64,
    words: &'a [u64],
    beyond: Option<&'a Beyond>,
    /// The last word that is not here.
    missed: Cell<u64>,
}

impl Copied<'_> {
    fn read(&self, at: u64) -> Option<u64> {
        let found = word_at(self.base, self.words, at);
        let beyond = || self.beyond?.stretches.iter().find_map(|stretch| word_at(stretch.address, &stretch.words, at));
        let found = found.or_else(beyond);
        if found.is_none() {
            self.missed.set(at);
        }
        found
    }

    /// What is here, and what is not, for who can read more.
    fn wanting(&self) -> Option<Beyond> {
        let mut beyond = self.beyond?.clone();
        if !self.words.is_empty() {
            beyond.stretches.insert(0, Stretch { address: self.base, words: self.words.to_vec() });
        }
        beyond.wanted = Some(self.missed.get());
        Some(beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stack::Manner;
    use profiler_common::unwind::leaf::{LEAF_REGISTERS, LeafRegisters, NUMBERS};

    /// Two frames whose pointers lie at 0x7000 and 0x9000, of which only the first one was copied.
    fn in_two_pieces(beyond: Option<Beyond>) -> UserStack {
        let registers = Registers { ip: 0x401_000, sp: 0x6ff8, fp: 0x7000, bx: 0 };
        let (addresses, words) = (vec![registers.ip], vec![7, 0x9000, 0x402_000]);
        UserStack::Unfinished { addresses, registers, at: LastAddress::Interrupted, leaf: None, words, beyond, manner: Manner::default() }
    }

    #[test]
    fn a_walk_stops_for_memory_that_can_be_read_and_goes_on_with_it() {
        let none = by_frame_pointers(&in_two_pieces(None));
        assert_eq!(none, UserStack::Walked { addresses: vec![0x401_000, 0x402_000], ended: Ended::NoTable });
        let stopped = by_frame_pointers(&in_two_pieces(Some(Beyond::default())));
        let UserStack::Unfinished { addresses, registers, at, leaf, words, beyond: Some(mut beyond), manner } = stopped else {
            panic!("{stopped:?}");
        };
        assert_eq!((addresses.len(), registers.ip, beyond.wanted, beyond.stretches.len()), (2, 0x402_000, Some(0x9000), 1));
        // What was copied first is still there.
        beyond.stretches.push(Stretch { address: 0x9000, words: vec![0, 0x403_000] });
        let stack = UserStack::Unfinished { addresses, registers, at, leaf, words, beyond: Some(beyond), manner };
        let walked = UserStack::Walked { addresses: vec![0x401_000, 0x402_000, 0x403_000], ended: Ended::Root };
        assert_eq!(by_frame_pointers(&stack), walked);
    }

    #[test]
    fn other_registers_are_those_of_the_leaf_alone() {
        let stack = |addresses| UserStack::Unfinished {
            addresses,
            registers: Registers { ip: 1, sp: 0x7000, fp: 0, bx: 0 },
            at: LastAddress::Interrupted,
            leaf: Some(LeafRegisters([0x401_000; LEAF_REGISTERS])),
            words: Vec::new(),
            beyond: None,
            manner: Manner::default(),
        };
        let rule = |registers: &Registers, _| match registers.ip {
            1 => Ok(Rule::new(Cfa::ReturnIn { number: NUMBERS[0], offset: 0 }, Saved::Same, Saved::Same)),
            _ => Ok(Rule::new(Cfa::Root, Saved::Same, Saved::Same)),
        };
        let walked = |stack| walk_on(&stack, rule).unwrap_or_else(|_| unreachable!("each place has a rule"));
        assert_eq!(walked(stack(vec![1])), UserStack::Walked { addresses: vec![1, 0x401_000], ended: Ended::Root });
        assert_eq!(walked(stack(vec![9, 1])), UserStack::Walked { addresses: vec![9, 1], ended: Ended::NoRule });
    }
}
