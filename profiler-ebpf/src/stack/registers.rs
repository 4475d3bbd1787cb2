//! Where the task stood: the registers of the interrupted code, and those with which it entered the kernel.

use crate::task::Current;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_user, bpf_task_pt_regs};
use aya_ebpf::programs::PerfEventContext;
use profiler_common::unwind::Registers;

/// `__USER_CS` of arch/x86/include/asm/segment.h: 64-bit user code. A 32-bit process has another selector.
#[cfg(bpf_target_arch = "x86_64")]
const USER_CODE_64: u64 = 0x33;

/// What a tick interrupted.
pub struct Interrupted {
    /// Kernel code was running.
    pub is_kernel: bool,
}

/// Which mode the tick interrupted.
#[inline(always)]
pub fn interrupted(context: &PerfEventContext) -> Interrupted {
    // SAFETY: the context of a perf_event program begins with the interrupted registers (include/uapi/linux/bpf_perf_event.h).
    let regs = unsafe { &*context.as_ptr().cast::<pt_regs>() };
    #[cfg(bpf_target_arch = "x86_64")]
    let is_kernel = regs.cs & 3 == 0;
    // PSTATE.M of arm64: 0 is EL0.
    #[cfg(bpf_target_arch = "aarch64")]
    let is_kernel = regs_pstate(regs) & 0xf != 0;
    Interrupted { is_kernel }
}

/// The user side of the current task: the registers that it had when it entered the kernel, which for a tick in user code are the interrupted ones.
pub enum UserSide {
    /// A kernel thread.
    None,
    /// 32-bit code: only the leaf is known.
    Compat(u64),
    /// 64-bit code.
    Native(Registers),
}

/// The user side of the current task.
#[inline(always)]
pub fn user_side(task: Current) -> UserSide {
    // A task that exits has given its memory back: what its registers point to is no more.
    if task.is_kernel_thread() || !task.has_memory() {
        return UserSide::None;
    }
    // SAFETY: both helpers need no more than the current task, which exists; the result points to the registers at the top of its kernel stack.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs };
    if regs.is_null() {
        return UserSide::None;
    }
    match native(regs) {
        // The registers are still those of the old image, whose memory may be gone.
        UserSide::Native(registers) if task.is_in_exec() && !is_readable(registers.sp) => UserSide::None,
        side => side,
    }
}

#[inline(always)]
fn is_readable(at: u64) -> bool {
    let mut word = 0u64;
    // SAFETY: the helper writes 8 bytes to the local, or fails.
    unsafe { bpf_probe_read_user((&raw mut word).cast(), 8, at as *const _) == 0 }
}

/// A general register of the current task by its DWARF number (System V ABI for x86-64, figure 3.36), as it was when it entered the kernel.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub fn register(number: u8) -> Option<u64> {
    // SAFETY: as in `user_side`; the verifier checks each load.
    unsafe {
        let regs = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs;
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

#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn native(regs: *const pt_regs) -> UserSide {
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
