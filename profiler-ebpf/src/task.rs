//! The running task, read through the offsets of this kernel.

use crate::settings::offset;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};
use core::mem::MaybeUninit;
use profiler_common::limits::COMM_BYTES;
use profiler_common::process::ProcessKey;

/// `PF_KTHREAD` of include/linux/sched.h.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Reads a value of the kernel's memory; zeros if it cannot be read, which the pointers followed here never are.
#[inline(always)]
pub fn read_kernel<T: Copy>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the helper writes `size_of::<T>()` bytes to the local, or zeros it; `T` is a plain integer or an array of them wherever this is called.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const _);
        value.assume_init()
    }
}

/// A `task_struct`.
#[derive(Clone, Copy)]
pub struct Task(pub u64);

impl Task {
    /// The one that was interrupted.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: the helper has no arguments and no preconditions.
        Self(unsafe { bpf_get_current_task() })
    }

    #[inline(always)]
    pub fn leader(self) -> Self {
        Self(read_kernel(self.0 + offset!(task_group_leader)))
    }

    #[inline(always)]
    pub fn start_boot_ns(self) -> u64 {
        read_kernel(self.0 + offset!(task_start_boottime))
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        read_kernel(self.0 + offset!(task_tgid))
    }

    #[inline(always)]
    pub fn tid(self) -> u32 {
        read_kernel(self.0 + offset!(task_pid))
    }

    #[inline(always)]
    pub fn comm(self) -> [u8; COMM_BYTES] {
        read_kernel(self.0 + offset!(task_comm))
    }

    /// Whether it has no user side at all.
    #[inline(always)]
    pub fn is_kernel_thread(self) -> bool {
        read_kernel::<u32>(self.0 + offset!(task_flags)) & KERNEL_THREAD != 0
    }

    /// Whether it still has an address space.
    #[inline(always)]
    pub fn has_memory(self) -> bool {
        read_kernel::<u64>(self.0 + offset!(task_mm)) != 0
    }

    /// Whether it is in the middle of an exec. Kernels without the bit are never.
    #[inline(always)]
    pub fn is_in_exec(self) -> bool {
        let bit = offset!(task_in_execve_bit);
        bit != 0 && read_kernel::<u8>(self.0 + bit / 8) >> (bit % 8) & 1 != 0
    }

    /// The image that it runs.
    #[inline(always)]
    pub fn process(self, tgid: u32) -> ProcessKey {
        let generation: u64 = read_kernel(self.0 + offset!(task_self_exec_id));
        ProcessKey { start_boot_ns: self.leader().start_boot_ns(), tgid, exec_generation: generation as u32 }
    }
}
