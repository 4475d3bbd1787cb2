//! Walking on where the kernel side had no table: the same `step()`, on the bytes that came along.

use super::state::TableOf;
use super::tables::{Missing, Unwinder};
use crate::bpf::Arena;
use crate::model::stack::{LastAddress, UserStack};
use crate::process::AddressSpace;
use crate::sys::address_bits;
use profiler_common::ended::Ended;
use profiler_common::unwind::arm64::code_address;
use profiler_common::unwind::rule::{Cfa, Rule, Saved};
use profiler_common::unwind::{Registers, caller_word, step};

/// What has become of a stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finished {
    /// It is walked to its end.
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

/// Walks an unfinished stack to its end, with the rule for each of its frames; or the table that is needed first.
fn walk_on(stack: &UserStack, mut rule_at: impl FnMut(&Registers, LastAddress) -> Result<Rule, Stopped>) -> Result<UserStack, Needed> {
    let UserStack::Unfinished { addresses, registers, at, words, manner } = stack else { return Ok(stack.clone()) };
    let (mut addresses, mut registers, mut last) = (addresses.clone(), *registers, *at);
    let bits = address_bits();
    let memory = Copied { base: registers.sp & !7, words };
    let ended = loop {
        let is_fault = (manner.faults.0..manner.faults.1).contains(&registers.ip);
        let rule = match rule_at(&registers, last) {
            // Its own rule leads back over the stack of C, which is not here.
            Ok(_) if (manner.callbacks.0..manner.callbacks.1).contains(&registers.ip) => callback(manner.callbacks.2),
            Ok(rule) => rule,
            Err(Stopped::Ended(ended)) => break ended,
            Err(Stopped::Needs(needed)) => return Err(needed),
        };
        match step(rule, &registers, |at| memory.read(at), |_| None) {
            Ok(caller) => registers = Registers { ip: code_address(caller.ip, bits), ..caller },
            // Beyond the bytes that came along, or on another stack: with a table it would have been read.
            Err(Ended::Unreadable) => break Ended::NoTable,
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

/// The stack as it was copied.
struct Copied<'a> {
    base: u64,
    words: &'a [u64],
}

impl Copied<'_> {
    fn read(&self, at: u64) -> Option<u64> {
        let distance = at.wrapping_sub(self.base);
        if !distance.is_multiple_of(8) {
            return None; // No compiler keeps a word there.
        }
        self.words.get(usize::try_from(distance / 8).ok()?).copied()
    }
}
