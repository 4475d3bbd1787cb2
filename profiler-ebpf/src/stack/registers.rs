//! Where the task stood: the registers of the interrupted code, and those with which it entered the kernel.

use crate::task::Task;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
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
pub fn user_side(task: Task) -> UserSide {
    if task.is_kernel_thread() {
        return UserSide::None;
    }
    // SAFETY: both helpers need no more than the current task, which exists; the result points to the registers at the top of its kernel stack.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs };
    if regs.is_null() {
        return UserSide::None;
    }
    native(regs)
}

#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn native(regs: *const pt_regs) -> UserSide {
    // SAFETY: the verifier knows the pointer as `struct pt_regs` of the running kernel and checks each load.
    let (ip, sp, fp, cs) = unsafe { ((*regs).rip, (*regs).rsp, (*regs).rbp, (*regs).cs & 0xffff) };
    if cs & 3 != 3 {
        return UserSide::None;
    }
    if cs != USER_CODE_64 {
        return UserSide::Compat(ip);
    }
    UserSide::Native(Registers { ip, sp, fp })
}
