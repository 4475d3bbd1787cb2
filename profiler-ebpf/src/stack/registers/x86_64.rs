//! The registers of x86-64.

use super::UserSide;
pub use aya_ebpf::bindings::pt_regs as Saved;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use profiler_common::futex::{Call, Number};
use profiler_common::unwind::Registers;
use profiler_common::unwind::leaf::LeafRegisters;

/// `__USER_CS` of arch/x86/include/asm/segment.h: 64-bit user code. A 32-bit process has another selector.
const USER_CODE_64: u64 = 0x33;
/// `__USER32_CS`.
const USER_CODE_32: u64 = 0x23;

/// Whether a call leaves its return address on the stack, or in a register.
pub const RETURN_ADDRESS_ON_STACK: bool = true;

/// Whether these are the registers of kernel code.
#[inline(always)]
pub fn is_kernel(regs: &Saved) -> bool {
    regs.cs & 3 == 0
}

/// A return address as it is: nothing else is kept in its bits.
#[inline(always)]
pub fn code_address(address: u64) -> u64 {
    address
}

/// A general register of the current task by its DWARF number (System V ABI for x86-64, figure 3.36), as it was when it entered the kernel.
#[inline(always)]
pub fn register(number: u8) -> Option<u64> {
    // SAFETY: as in `user_side`; the verifier checks each load.
    unsafe {
        let regs = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const Saved;
        match number {
            0 => Some((*regs).rax),
            1 => Some((*regs).rdx),
            2 => Some((*regs).rcx),
            3 => Some((*regs).rbx),
            4 => Some((*regs).rsi),
            5 => Some((*regs).rdi),
            8 => Some((*regs).r8),
            9 => Some((*regs).r9),
            10 => Some((*regs).r10),
            11 => Some((*regs).r11),
            12 => Some((*regs).r12),
            13 => Some((*regs).r13),
            14 => Some((*regs).r14),
            15 => Some((*regs).r15),
            _ => None,
        }
    }
}

/// What rules name beside the registers of a walk: `leaf::NUMBERS`.
#[inline(always)]
pub fn leaf(regs: *const Saved) -> LeafRegisters {
    // SAFETY: as in `native`.
    unsafe { LeafRegisters([(*regs).rax, (*regs).rsi, (*regs).rdi, (*regs).r10, (*regs).r11, (*regs).r13]) }
}

/// The registers that a walk begins with.
#[inline(always)]
pub fn native(regs: *const Saved) -> UserSide {
    // SAFETY: the verifier knows the pointer as `struct pt_regs` of the running kernel and checks each load.
    let (ip, sp, fp, bx, cs) = unsafe { ((*regs).rip, (*regs).rsp, (*regs).rbp, (*regs).rbx, (*regs).cs & 0xffff) };
    if cs & 3 != 3 {
        return UserSide::None;
    }
    if cs != USER_CODE_64 {
        return UserSide::Compat(ip);
    }
    UserSide::Native(Registers { ip, sp, fp, bx })
}

/// The system call that these registers entered the kernel by; below zero: none.
#[inline(always)]
pub fn system_call(regs: *const Saved) -> i64 {
    // SAFETY: as above.
    unsafe { (*regs).orig_rax as i64 }
}

/// The system call that they stand for.
#[inline(always)]
pub fn called(regs: *const Saved) -> Option<Call> {
    // SAFETY: as in `native`.
    let (number, cs) = unsafe { ((*regs).orig_rax, (*regs).cs & 0xffff) };
    if cs == USER_CODE_32 {
        return Some(called_by_32_bits(regs, number));
    }
    if cs != USER_CODE_64 {
        return None;
    }
    // arch/x86/entry/syscalls/syscall_64.tbl
    let number = match number {
        202 => Number::Futex,
        449 => Number::WaitV,
        454 => Number::Wake,
        455 => Number::Wait,
        456 => Number::Requeue,
        60 => Number::Exit,
        231 => Number::ExitAll,
        219 => Number::Restart,
        _ => Number::None,
    };
    // SAFETY: as above.
    let (arguments, other_word) = unsafe { ([(*regs).rdi, (*regs).rsi, (*regs).rdx], (*regs).r8) };
    Some(Call { number, arguments, other_word })
}

/// The same of 32-bit code, which has other numbers and other registers.
#[inline(always)]
fn called_by_32_bits(regs: *const Saved, number: u64) -> Call {
    // arch/x86/entry/syscalls/syscall_32.tbl; with times of 32 bits and of 64.
    let number = match number {
        240 | 422 => Number::Futex,
        449 => Number::WaitV,
        454 => Number::Wake,
        455 => Number::Wait,
        456 => Number::Requeue,
        1 => Number::Exit,
        252 => Number::ExitAll,
        0 => Number::Restart,
        _ => Number::None,
    };
    // SAFETY: as in `native`.
    let (arguments, other_word) = unsafe { ([(*regs).rbx, (*regs).rcx, (*regs).rdx], (*regs).rdi) };
    Call { number, arguments: arguments.map(|argument| argument & 0xffff_ffff), other_word: other_word & 0xffff_ffff }
}
