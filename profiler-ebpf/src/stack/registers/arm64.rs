//! The registers of arm64. The twin of `x86_64.rs`.

use super::UserSide;
use crate::settings::setting;
/// `struct pt_regs` of arch/arm64/include/asm/ptrace.h begins with these.
pub use aya_ebpf::bindings::user_pt_regs as Saved;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use profiler_common::futex::{Call, Number};
use profiler_common::unwind::leaf::LeafRegisters;
use profiler_common::unwind::{Registers, arm64};

/// `PSR_MODE_MASK` of arch/arm64/include/uapi/asm/ptrace.h without `PSR_MODE32_BIT`: 0 is user code.
const EXCEPTION_LEVEL: u64 = 0xf;
/// `PSR_MODE32_BIT`: 32-bit code.
const IS_32_BIT: u64 = 0x10;

/// Whether a call leaves its return address on the stack, or in a register.
pub const RETURN_ADDRESS_ON_STACK: bool = false;

/// Whether these are the registers of kernel code.
#[inline(always)]
pub fn is_kernel(regs: &Saved) -> bool {
    regs.pstate & EXCEPTION_LEVEL != 0
}

/// A return address without the code that signs it.
#[inline(always)]
pub fn code_address(address: u64) -> u64 {
    arm64::code_address(address, setting!(address_bits))
}

/// A general register of the current task by its number, as it was when it entered the kernel.
#[inline(always)]
pub fn register(number: u8) -> Option<u64> {
    // SAFETY: as in `user_side`; the verifier checks each load. It follows a constant place only: hence one by one those that rules name, which are the ones
    // that a callee may use without saving them, and those that functions without a frame pointer put their frame into.
    unsafe {
        let regs = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const Saved;
        match number {
            9 => Some((*regs).regs[9]),
            10 => Some((*regs).regs[10]),
            11 => Some((*regs).regs[11]),
            12 => Some((*regs).regs[12]),
            13 => Some((*regs).regs[13]),
            14 => Some((*regs).regs[14]),
            15 => Some((*regs).regs[15]),
            16 => Some((*regs).regs[16]),
            17 => Some((*regs).regs[17]),
            19 => Some((*regs).regs[19]),
            20 => Some((*regs).regs[20]),
            _ => None,
        }
    }
}

/// What rules name beside the registers of a walk: `leaf::NUMBERS`.
#[inline(always)]
pub fn leaf(regs: *const Saved) -> LeafRegisters {
    // SAFETY: as in `native`.
    unsafe { LeafRegisters([(*regs).regs[9], (*regs).regs[10], (*regs).regs[12], (*regs).regs[16], (*regs).regs[19], (*regs).regs[20]]) }
}

/// The registers that a walk begins with.
#[inline(always)]
pub fn native(regs: *const Saved) -> UserSide {
    // SAFETY: the verifier knows the pointer as `struct pt_regs` of the running kernel and checks each load.
    let (ip, sp, fp, lr, pstate) = unsafe { ((*regs).pc, (*regs).sp, (*regs).regs[29], (*regs).regs[30], (*regs).pstate) };
    if pstate & EXCEPTION_LEVEL != 0 {
        return UserSide::None;
    }
    if pstate & IS_32_BIT != 0 {
        return UserSide::Compat(ip);
    }
    UserSide::Native(Registers { ip, sp, fp, bx: lr })
}

/// `pt_regs::syscallno` of arch/arm64/include/asm/ptrace.h, behind the registers and `orig_x0`.
const SYSTEM_CALL: u64 = size_of::<Saved>() as u64 + 8;

/// The system call that these registers entered the kernel by; below zero: none.
#[inline(always)]
pub fn system_call(regs: *const Saved) -> i64 {
    i64::from(crate::task::read_kernel::<i32>(regs as u64 + SYSTEM_CALL))
}

/// The system call that they stand for; 32-bit code has other numbers, and is left out.
#[inline(always)]
pub fn called(regs: *const Saved) -> Option<Call> {
    // SAFETY: as in `native`.
    let (number, pstate) = unsafe { ((*regs).regs[8], (*regs).pstate) };
    if pstate & IS_32_BIT != 0 {
        return None;
    }
    // include/uapi/asm-generic/unistd.h
    let number = match number {
        98 => Number::Futex,
        449 => Number::WaitV,
        454 => Number::Wake,
        455 => Number::Wait,
        456 => Number::Requeue,
        93 => Number::Exit,
        94 => Number::ExitAll,
        128 => Number::Restart,
        _ => Number::None,
    };
    // SAFETY: as above.
    let (arguments, other_word) = unsafe { ([(*regs).regs[0], (*regs).regs[1], (*regs).regs[2]], (*regs).regs[4]) };
    Some(Call { number, arguments, other_word })
}
