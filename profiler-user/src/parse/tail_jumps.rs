//! Where a function of x86-64 goes when it ends: returns, or jumps on to another function, which then returns in its place.

use super::machine_code::{MachineCode, is_null_check};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};
use std::collections::HashSet;

/// Instructions of one function that are followed.
const INSTRUCTIONS_MAX: usize = 4096;
/// Bytes that are decoded at once.
const STRETCH_BYTES: u64 = 4096;

/// A function whose ends are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    /// Its first address.
    pub(super) entry: u64,
    /// Behind its last byte, as its symbol says.
    pub(super) end: u64,
    /// It does nothing with a null pointer, and what it does then is left out.
    pub(super) is_free: bool,
}

/// How a function ends.
#[derive(Default, Debug)]
pub(super) struct Ends {
    /// Functions that it jumps on to, by their entries.
    pub(super) jumps: Vec<u64>,
    /// One of them from its own code, not from that of a local function that it jumped to before.
    pub(super) jumps_itself: bool,
    /// It returns, or ends where it cannot be followed.
    pub(super) has_others: bool,
    /// It calls one of the functions from its own code.
    pub(super) calls: bool,
}

/// Follows every way through a function. `resolve` says for the target of a branch which of the functions it leads to.
pub(super) fn ends(code: &MachineCode<'_>, subject: Subject, resolve: &dyn Fn(u64) -> Option<u64>) -> Ends {
    let mut walk = Walk { subject, resolve, seen: HashSet::new(), waiting: vec![subject.entry], ends: Ends::default() };
    while let Some(address) = walk.waiting.pop() {
        walk.stretch(code, address);
        if walk.seen.len() >= INSTRUCTIONS_MAX {
            walk.ends.has_others = true;
            break;
        }
    }
    walk.ends
}

struct Walk<'a> {
    subject: Subject,
    resolve: &'a dyn Fn(u64) -> Option<u64>,
    seen: HashSet<u64>,
    waiting: Vec<u64>,
    ends: Ends,
}

impl Walk<'_> {
    /// From an address on until the way ends, or comes to where another one was.
    fn stretch(&mut self, code: &MachineCode<'_>, from: u64) {
        let mut decoder = Decoder::with_ip(64, code.at(from, STRETCH_BYTES), from, DecoderOptions::NONE);
        let mut before = Instruction::default();
        while decoder.can_decode() {
            let at = decoder.ip();
            if self.seen.len() >= INSTRUCTIONS_MAX || at == self.subject.end || !self.seen.insert(at) {
                // What stands behind a function's end is another's: it called something that does not return.
                return;
            }
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                break;
            }
            let leaves_without = self.subject.is_free && is_null_check(&before, &instruction);
            match instruction.flow_control() {
                FlowControl::Next => {}
                FlowControl::ConditionalBranch if leaves_without => {}
                FlowControl::ConditionalBranch => self.jump(&instruction),
                FlowControl::UnconditionalBranch => return self.jump(&instruction),
                FlowControl::Call => {
                    self.ends.calls |= self.is_itself(at) && near_target(&instruction).is_some_and(|to| (self.resolve)(to).is_some())
                }
                FlowControl::IndirectCall | FlowControl::XbeginXabortXend => {}
                FlowControl::Exception => return,
                FlowControl::Return | FlowControl::IndirectBranch | FlowControl::Interrupt => break,
            }
            before = instruction;
        }
        self.ends.has_others = true;
    }

    /// Whether the address is in its own code.
    fn is_itself(&self, address: u64) -> bool {
        (self.subject.entry..self.subject.end).contains(&address)
    }

    fn jump(&mut self, instruction: &Instruction) {
        let Some(target) = near_target(instruction) else {
            self.ends.has_others = true;
            return;
        };
        match (self.resolve)(target) {
            Some(function) if function != self.subject.entry => {
                self.ends.jumps_itself |= self.is_itself(instruction.ip());
                self.ends.jumps.push(function);
            }
            _ => self.waiting.push(target),
        }
    }
}

fn near_target(instruction: &Instruction) -> Option<u64> {
    (instruction.op0_kind() == OpKind::NearBranch64).then(|| instruction.near_branch_target())
}
