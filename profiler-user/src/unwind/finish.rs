//! Walking on where the kernel side had no table: the same `step()`, on the bytes that came along.

use super::tables::{Missing, TableOf, Unwinder};
use crate::bpf::Arena;
use crate::model::mapping::MappingKind;
use crate::model::stack::{LastAddress, UserStack};
use crate::process::AddressSpace;
use profiler_common::ended::Ended;
use profiler_common::limits::{UNFINISHED_BYTES_MAX, USER_FRAMES_MAX};
use profiler_common::unwind::Registers;
use profiler_common::unwind::rule::{Rule, step};

const PAGE: usize = 4096;

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

impl Unwinder {
    /// Walks an unfinished stack to its end, with the mappings of its time. Any other is given back as it is.
    pub fn finish(&mut self, stack: &UserStack, space: &AddressSpace, arena: &Arena) -> Finished {
        let UserStack::Unfinished { addresses, registers, at, words } = stack else { return Finished::Walked(stack.clone()) };
        let (mut addresses, mut registers, mut last) = (addresses.clone(), *registers, *at);
        let memory = Copied { base: registers.sp & !7, words };
        let ended = loop {
            let rule = match self.rule_at(&registers, last, space, arena) {
                Ok(rule) => rule,
                Err(Stopped::Ended(ended)) => break ended,
                Err(Stopped::Wants(table)) => return Finished::Wants(table),
                Err(Stopped::Waits(table)) => return Finished::Waits(table),
            };
            match step(rule, &registers, |at| memory.read(at), |_| None) {
                Ok(caller) => registers = caller,
                Err(Ended::Unreadable) if memory.is_cut() => break Ended::NoTable,
                Err(ended) => break ended,
            }
            last = if rule.leads_to_interrupted() { LastAddress::Interrupted } else { LastAddress::ReturnedTo };
            if addresses.len() >= USER_FRAMES_MAX {
                break Ended::DepthLimit;
            }
            addresses.push(registers.ip);
        };
        self.costs.finished += 1;
        Finished::Walked(UserStack::Walked { addresses, ended })
    }

    fn rule_at(&mut self, registers: &Registers, last: LastAddress, space: &AddressSpace, arena: &Arena) -> Result<Rule, Stopped> {
        let before = if last == LastAddress::ReturnedTo { 1 } else { 0 };
        let address = registers.ip.wrapping_sub(before);
        let Some(range) = space.find(address) else { return Err(Stopped::Ended(Ended::NoMapping)) };
        let Some(table) = TableOf::of(&range.kind) else {
            return Ok(if matches!(range.kind, MappingKind::Anonymous(_)) { Rule::FRAME_POINTER } else { Rule::NONE });
        };
        let offset = range.mapped.file_offset.wrapping_add(address - range.mapped.start);
        self.rule(table, offset, arena).map_err(|missing| match missing {
            Missing::NotAsked => Stopped::Wants(table),
            Missing::Asked => Stopped::Waits(table),
        })
    }
}

enum Stopped {
    Ended(Ended),
    Wants(TableOf),
    Waits(TableOf),
}

/// The stack as it was copied.
struct Copied<'a> {
    base: u64,
    words: &'a [u64],
}

impl Copied<'_> {
    fn read(&self, at: u64) -> Option<u64> {
        let distance = at.wrapping_sub(self.base);
        if distance % 8 != 0 {
            return None; // No compiler keeps a word there.
        }
        self.words.get(usize::try_from(distance / 8).ok()?).copied()
    }

    /// Whether the copy may have ended at a bound, and not where the stack did.
    fn is_cut(&self) -> bool {
        self.words.len() * 8 + PAGE > UNFINISHED_BYTES_MAX
    }
}
