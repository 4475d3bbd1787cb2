//! Where the task stood: the registers of the interrupted code, and those with which it entered the kernel. What differs between machines is in twin files.

#[cfg(bpf_target_arch = "aarch64")]
mod arm64;
#[cfg(bpf_target_arch = "x86_64")]
mod x86_64;

use crate::task::Current;
#[cfg(bpf_target_arch = "aarch64")]
pub use arm64::{RETURN_ADDRESS_ON_STACK, Saved, code_address, leaf, native, register, system_call};
#[cfg(bpf_target_arch = "aarch64")]
use arm64::{called, is_kernel};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::task_struct;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_user, bpf_task_pt_regs};
use aya_ebpf::programs::PerfEventContext;
use profiler_common::futex::Call;
use profiler_common::unwind::Registers;
use profiler_common::unwind::leaf::LeafRegisters;
#[cfg(bpf_target_arch = "x86_64")]
pub use x86_64::{RETURN_ADDRESS_ON_STACK, Saved, code_address, leaf, native, register, system_call};
#[cfg(bpf_target_arch = "x86_64")]
use x86_64::{called, is_kernel};

/// What a tick interrupted.
pub struct Interrupted {
    /// Kernel code was running.
    pub is_kernel: bool,
}

/// Which mode the tick interrupted.
#[inline(always)]
pub fn interrupted(context: &PerfEventContext) -> Interrupted {
    // SAFETY: the context of a perf_event program begins with the interrupted registers (include/uapi/linux/bpf_perf_event.h).
    let is_kernel = is_kernel(unsafe { &*context.as_ptr().cast::<Saved>() });
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
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const Saved };
    if regs.is_null() {
        return UserSide::None;
    }
    match native(regs) {
        // The registers are still those of the old image, whose memory may be gone.
        UserSide::Native(registers) if task.is_in_exec() && !is_readable(registers.sp) => UserSide::None,
        side => side,
    }
}

/// The system call that the current task is in, as far as it is one at a word of memory.
#[inline(always)]
pub fn current_call() -> Option<Call> {
    // SAFETY: as in `user_side`.
    call_of(unsafe { bpf_get_current_task_btf() })
}

/// That which a task is in: the current one, or one that an iterator has come to.
#[inline(always)]
pub fn call_of(task: *mut task_struct) -> Option<Call> {
    // SAFETY: the task exists, and the verifier knows the pointer's type.
    let regs = unsafe { bpf_task_pt_regs(task) as *const Saved };
    if regs.is_null() { None } else { called(regs) }
}

/// Registers of the current task that its leaf alone knows.
#[inline(always)]
pub fn current_leaf() -> LeafRegisters {
    // SAFETY: as in `user_side`, which has found that there are some.
    leaf(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const Saved })
}

#[inline(always)]
fn is_readable(at: u64) -> bool {
    let mut word = 0u64;
    // SAFETY: the helper writes 8 bytes to the local, or fails.
    unsafe { bpf_probe_read_user((&raw mut word).cast(), 8, at as *const _) == 0 }
}
