//! The arguments of a mark in a program (USDT) as its note writes them: `N@OP`, N bytes, with a sign if below zero, OP an operand in the assembler's words.

use crate::model::custom::USDT_ARGUMENTS;
use crate::model::probe_points::{MarkArgument, MarkPlace};

/// The registers of x86-64, by their DWARF numbers, with the names of their 8, 4, 2 and 1 lowest bytes.
const REGISTERS: [[&str; 4]; 16] = [
    ["rax", "eax", "ax", "al"],
    ["rdx", "edx", "dx", "dl"],
    ["rcx", "ecx", "cx", "cl"],
    ["rbx", "ebx", "bx", "bl"],
    ["rsi", "esi", "si", "sil"],
    ["rdi", "edi", "di", "dil"],
    ["rbp", "ebp", "bp", "bpl"],
    ["rsp", "esp", "sp", "spl"],
    ["r8", "r8d", "r8w", "r8b"],
    ["r9", "r9d", "r9w", "r9b"],
    ["r10", "r10d", "r10w", "r10b"],
    ["r11", "r11d", "r11w", "r11b"],
    ["r12", "r12d", "r12w", "r12b"],
    ["r13", "r13d", "r13w", "r13b"],
    ["r14", "r14d", "r14w", "r14b"],
    ["r15", "r15d", "r15w", "r15b"],
];

/// All of them; those that are not understood are None.
pub(super) fn arguments(text: &str) -> Vec<Option<MarkArgument>> {
    text.split_ascii_whitespace().take(usize::from(USDT_ARGUMENTS)).map(argument).collect()
}

fn argument(text: &str) -> Option<MarkArgument> {
    let (size, operand) = text.split_once('@')?;
    let size: i8 = size.parse().ok()?;
    let bytes = size.unsigned_abs();
    matches!(bytes, 1 | 2 | 4 | 8).then_some(())?;
    Some(MarkArgument { bytes, is_signed: size < 0, at: place(operand)? })
}

fn place(operand: &str) -> Option<MarkPlace> {
    if let Some(digits) = operand.strip_prefix('$') {
        return number(digits).map(MarkPlace::Number);
    }
    if operand.starts_with('%') {
        return register(operand).map(MarkPlace::Register);
    }
    let (offset, register_name) = operand.strip_suffix(')')?.split_once('(')?;
    let offset = if offset.is_empty() { 0 } else { number(offset)? };
    Some(MarkPlace::Memory(register(register_name)?, offset))
}

fn number(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let number = match digits.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(sign * number)
}

fn register(text: &str) -> Option<u8> {
    let name = text.strip_prefix('%')?;
    REGISTERS.iter().position(|names| names.contains(&name)).map(|at| at as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_read_as_assemblers_write_them() {
        let of = |bytes, is_signed, at| Some(MarkArgument { bytes, is_signed, at });
        let read = arguments("8@%rbx -4@112(%rsp) -4@$-5 1@%dil 2@(%r9) 8@-0x10(%rbp)");
        let wanted = [
            of(8, false, MarkPlace::Register(3)),
            of(4, true, MarkPlace::Memory(7, 112)),
            of(4, true, MarkPlace::Number(-5)),
            of(1, false, MarkPlace::Register(5)),
            of(2, false, MarkPlace::Memory(9, 0)),
            of(8, false, MarkPlace::Memory(6, -16)),
        ];
        assert_eq!(read, wanted);
    }

    #[test]
    fn what_is_not_understood_keeps_its_place() {
        let read = arguments("8@name(%rip) 8@8(%rax,%rbx,4) 3@%rax 8 8@%xmm0 8@%rax");
        assert_eq!(read[..5], [None; 5]);
        assert!(read[5].is_some());
    }
}
