//! Where in a function of x86-64 a probe is cheap. The kernel emulates few instructions (`arch/x86/kernel/uprobes.c`, `branch_setup_xol_ops` and
//! `push_setup_xol_ops`) and has the processor execute every other one in a copy, step by step, at six times the price.
//!
//! Looked at is the straight line from the entry: what stands there is executed by every call.

use super::machine_code::{MachineCode, is_null_check};
use crate::model::allocator::{AllocatorCall, ProbePlace};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};

/// Instructions of one function that are looked at.
const INSTRUCTIONS_MAX: usize = 64;
/// The longest instruction, bytes.
const INSTRUCTION_MAX_BYTES: usize = 15;
/// A frame that is believed.
const FRAME_MAX_BYTES: u64 = 1 << 20;

/// Registers with the arguments that are needed.
fn arguments(call: AllocatorCall) -> &'static [Register] {
    match call {
        AllocatorCall::Malloc | AllocatorCall::Free => &[Register::RDI],
        AllocatorCall::Calloc | AllocatorCall::Realloc | AllocatorCall::Memalign | AllocatorCall::AlignedNew => {
            &[Register::RDI, Register::RSI]
        }
        AllocatorCall::PosixMemalign => &[Register::RDI, Register::RSI, Register::RDX],
    }
}

/// Whether every kernel that we run on emulates the instruction, by its bytes: `push` of a register, one-byte `nop`, and branches to a distance.
///
/// Only without prefixes: with 0x66 the kernel refuses a branch, and longer forms of `nop` are emulated by newer kernels only; 6.18 makes a call of the one of
/// five bytes, which writes over what the function keeps below its stack pointer.
pub(super) fn is_emulated(bytes: &[u8]) -> bool {
    let plain = [0x50..=0x57, 0x70..=0x7f, 0x90..=0x90, 0xe8..=0xe9, 0xeb..=0xeb];
    match bytes {
        [0x41, second, ..] => (0x50..=0x57).contains(second),
        [0x0f, second, ..] => (0x80..=0x8f).contains(second),
        [first, ..] => plain.iter().any(|range| range.contains(first)),
        [] => false,
    }
}

/// `at_entry` and `after_entry` of a function, which begins at an address and at an offset of the file.
pub(super) fn places(code: &MachineCode<'_>, entry: u64, offset: u64, call: AllocatorCall) -> (ProbePlace, ProbePlace) {
    let unemulated = ProbePlace { offset, pushed: 0, is_emulated: false };
    let found = candidates(code, entry, arguments(call), call == AllocatorCall::Free);
    let place = |candidate: &Candidate| ProbePlace { offset: offset + candidate.distance, pushed: candidate.pushed, is_emulated: true };
    let at_entry = found.iter().find(|candidate| candidate.pushed == 0 && !candidate.is_behind_check);
    let after_check = found.iter().find(|candidate| candidate.is_behind_check);
    let after_entry = after_check.or(at_entry).or(found.first());
    (at_entry.map_or(unemulated, place), after_entry.map_or(unemulated, place))
}

/// Where a probe of any function is cheap that needs all arguments, and the stack as the call has left it: its first `push`, which no loop comes back to. If there
/// is none, its first instruction.
pub(super) fn first_push(code: &MachineCode<'_>, entry: u64, offset: u64) -> u64 {
    let all = [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];
    let is_push = |candidate: &&Candidate| {
        let bytes = code.at(entry + candidate.distance, 2);
        matches!(bytes, [0x50..=0x57, ..] | [0x41, 0x50..=0x57])
    };
    let found = candidates(code, entry, &all, false);
    found.iter().filter(|candidate| candidate.pushed == 0).find(is_push).map_or(offset, |candidate| offset + candidate.distance)
}

/// An emulated instruction at which the arguments are where they were.
struct Candidate {
    distance: u64,
    pushed: u32,
    /// Only calls that have something to free come here.
    is_behind_check: bool,
}

fn candidates(code: &MachineCode<'_>, entry: u64, arguments: &[Register], is_free: bool) -> Vec<Candidate> {
    let bytes = code.at(entry, (INSTRUCTIONS_MAX * INSTRUCTION_MAX_BYTES) as u64);
    let mut decoder = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE);
    let mut factory = InstructionInfoFactory::new();
    let (mut found, mut before) = (Vec::new(), Instruction::default());
    let (mut pushed, mut is_behind_check) = (0, false);
    for _ in 0..INSTRUCTIONS_MAX {
        let at = decoder.position();
        if !decoder.can_decode() {
            break;
        }
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            break;
        }
        if is_emulated(&bytes[at..]) {
            found.push(Candidate { distance: at as u64, pushed, is_behind_check });
        }
        let leaves_without = is_free && is_null_check(&before, &instruction);
        if !leaves_without && instruction.flow_control() != FlowControl::Next || writes(&mut factory, &instruction, arguments) {
            break;
        }
        let Some(now) = pushed_after(&mut factory, &instruction, pushed) else { break };
        (pushed, before, is_behind_check) = (now, instruction, is_behind_check || leaves_without);
    }
    found
}

fn writes(factory: &mut InstructionInfoFactory, instruction: &Instruction, registers: &[Register]) -> bool {
    let written = |access| matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite);
    let used = factory.info(instruction).used_registers();
    used.iter().any(|used| written(used.access()) && registers.contains(&used.register().full_register()))
}

/// How far down the stack pointer is behind an instruction; none when that cannot be said, or when it went up.
fn pushed_after(factory: &mut InstructionInfoFactory, instruction: &Instruction, pushed: u32) -> Option<u32> {
    if !writes(factory, instruction, &[Register::RSP]) {
        return Some(pushed);
    }
    let by = match instruction.code() {
        Code::Push_r64 => 8,
        Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 if instruction.op0_kind() == OpKind::Register => instruction.immediate(1),
        _ => return None,
    };
    u32::try_from(u64::from(pushed).checked_add(by).filter(|pushed| *pushed <= FRAME_MAX_BYTES)?).ok()
}
