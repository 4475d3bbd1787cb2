//! Which variables a function of a Go program touches: the operands that are given by their distance from the instruction. In a program without symbols that is
//! how a variable is known: by the functions that use it. x86-64 only.

use super::elf;
use super::pclntab::GoTable;
use crate::model::answer::LoadSegment;
use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};
use std::collections::HashMap;

/// Functions of one file that are looked at by name; large programs have 200,000.
const FUNCTIONS_MAX: usize = 1_000_000;
/// Longest function that is decoded, bytes.
const CODE_MAX_BYTES: u64 = 64 << 10;

/// Functions of one name that are decoded.
const SAME_NAME_MAX: usize = 4;

/// How an instruction uses a variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// Takes its address.
    Address,
    /// Reads so many bytes of it into a register.
    Load(usize),
    /// Compares so many bytes of it with zero.
    IsZero(usize),
    /// Writes zero to so many bytes.
    SetZero(usize),
    /// Anything else.
    Other,
}

/// The code of some functions of a file. A name may belong to two: the function, and what calls it from assembly, by another convention.
pub(super) struct Functions<'a> {
    code: HashMap<&'static str, Vec<(u64, &'a [u8])>>,
}

impl<'a> Functions<'a> {
    /// Finds the functions of these names.
    pub(super) fn find(table: &GoTable, bytes: &'a [u8], segments: &[LoadSegment], names: &[&'static str]) -> Self {
        let mut code: HashMap<_, Vec<_>> = HashMap::new();
        for (function, end) in table.functions(bytes).take(FUNCTIONS_MAX) {
            let found = table.name(bytes, function);
            let Some(name) = names.iter().find(|name| **name == found) else { continue };
            let length = end.saturating_sub(function.entry).min(CODE_MAX_BYTES) as usize;
            let at = elf::file_offset(segments, function.entry).and_then(|at| usize::try_from(at).ok());
            let body = at.and_then(|at| bytes.get(at..)).map(|rest| &rest[..rest.len().min(length)]);
            if let Some(body) = body {
                code.entry(*name).or_default().push((function.entry, body));
            }
        }
        Self { code }
    }

    /// Whether there is a function of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.code.contains_key(name)
    }

    /// What a function uses, in the order of its code; nothing if it is not there.
    pub(super) fn uses(&self, name: &str) -> Vec<(u64, Use)> {
        let (mut instruction, mut facts, mut uses) = (Instruction::default(), InstructionInfoFactory::new(), Vec::new());
        for (entry, body) in self.code.get(name).into_iter().flatten().take(SAME_NAME_MAX) {
            let mut decoder = Decoder::with_ip(64, body, *entry, DecoderOptions::NONE);
            while decoder.can_decode() {
                decoder.decode_out(&mut instruction);
                if !instruction.is_invalid() && instruction.is_ip_rel_memory_operand() {
                    uses.push((instruction.ip_rel_memory_address(), how(&instruction, &mut facts)));
                }
            }
        }
        uses
    }
}

fn how(instruction: &Instruction, facts: &mut InstructionInfoFactory) -> Use {
    use iced_x86::Mnemonic::{Cmp, Lea, Mov, Movzx};
    let bytes = instruction.memory_size().size();
    let is_zero = instruction.op_count() == 2 && is_immediate(instruction.op1_kind()) && instruction.immediate(1) == 0;
    let reads = facts.info(instruction).used_memory().iter().all(|memory| memory.access() == OpAccess::Read);
    match instruction.mnemonic() {
        Lea => Use::Address,
        Mov | Movzx if reads && instruction.op0_register() != Register::None => Use::Load(bytes),
        Cmp if is_zero => Use::IsZero(bytes),
        Mov if is_zero => Use::SetZero(bytes),
        _ => Use::Other,
    }
}

fn is_immediate(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn uses(body: &[u8]) -> Vec<(u64, Use)> {
        Functions { code: HashMap::from([("f", vec![(0x1000, body)])]) }.uses("f")
    }

    #[test]
    fn variables_are_known_by_how_they_are_used() {
        // lea 16(%rip),%rax; mov 16(%rip),%rax; mov 16(%rip),%eax; movzbl 16(%rip),%eax; mov %rax,16(%rip); lea 16(%rsp),%rax
        let code = [
            &[0x48, 0x8d, 5, 16, 0, 0, 0][..],
            &[0x48, 0x8b, 5, 16, 0, 0, 0],
            &[0x8b, 5, 16, 0, 0, 0],
            &[0x0f, 0xb6, 5, 16, 0, 0, 0],
            &[0x48, 0x89, 5, 16, 0, 0, 0],
            &[0x48, 0x8d, 0x44, 0x24, 16],
        ];
        let expected =
            [(0x1017, Use::Address), (0x101e, Use::Load(8)), (0x1024, Use::Load(4)), (0x102b, Use::Load(1)), (0x1032, Use::Other)];
        assert_eq!(uses(&code.concat()), expected);
        // cmpb $0,16(%rip); movq $0,16(%rip); cmpb $1,16(%rip); movq $1,16(%rip)
        let code = [
            &[0x80, 0x3d, 16, 0, 0, 0, 0][..],
            &[0x48, 0xc7, 5, 16, 0, 0, 0, 0, 0, 0, 0],
            &[0x80, 0x3d, 16, 0, 0, 0, 1],
            &[0x48, 0xc7, 5, 16, 0, 0, 0, 1, 0, 0, 0],
        ];
        let expected = [(0x1017, Use::IsZero(1)), (0x1022, Use::SetZero(8)), (0x1029, Use::Other), (0x1034, Use::Other)];
        assert_eq!(uses(&code.concat()), expected);
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(body in proptest::collection::vec(any::<u8>(), 0..2000)) {
            uses(&body);
        }
    }
}
