//! The running task, read through the offsets of this kernel.

use crate::settings::offset;
use aya_ebpf::bindings::task_struct;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel};
use core::mem::MaybeUninit;
use profiler_common::limits::COMM_BYTES;
use profiler_common::process::ProcessKey;
use profiler_common::snapshot::{NO_SYSTEM_CALL, ThreadRecord, USER_NONE};
use profiler_common::unwind::leaf::{LEAF_REGISTERS, LeafRegisters};

/// `PF_KTHREAD` of include/linux/sched.h.
const KERNEL_THREAD: u32 = 0x0020_0000;
/// `PF_IO_WORKER` and `PF_USER_WORKER`: the kernel's own threads in a process.
const WORKER: u32 = 0x10 | 0x4000;
/// `PF_EXITING`: it has begun to end.
const EXITING: u32 = 0x4;

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

/// A `task_struct` that a tracepoint names.
#[derive(Clone, Copy)]
pub struct Task(pub u64);

impl Task {
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
}

impl Task {
    /// What a look at it gives, but for its user side.
    #[inline(always)]
    pub fn look(self) -> ThreadRecord {
        let leader = Self(read_kernel(self.0 + offset!(task_group_leader)));
        let last_arrival = offset!(task_last_arrival);
        ThreadRecord {
            process: ProcessKey {
                start_boot_ns: leader.start_boot_ns(),
                tgid: self.tgid(),
                exec_generation: read_kernel(self.0 + offset!(task_self_exec_id)),
            },
            registers: [0; 4],
            leaf: LeafRegisters([0; LEAF_REGISTERS]),
            voluntary_switches: read_kernel(self.0 + offset!(task_voluntary)),
            involuntary_switches: read_kernel(self.0 + offset!(task_involuntary)),
            last_ran_ns: if last_arrival == 0 { 0 } else { read_kernel(self.0 + last_arrival) },
            now_ns: 0,
            system_call: NO_SYSTEM_CALL,
            tid: self.tid(),
            state: read_kernel(self.0 + offset!(task_state)),
            user: USER_NONE,
            is_on_cpu: read_kernel(self.0 + offset!(task_on_cpu)),
            comm: read_kernel(self.0 + offset!(task_comm)),
            kernel_frames: 0,
            reserved: 0,
        }
    }

    /// Whether it has a user side: no kernel thread, and with an address space.
    #[inline(always)]
    pub fn has_user_side(self) -> bool {
        read_kernel::<u32>(self.0 + offset!(task_flags)) & KERNEL_THREAD == 0 && read_kernel::<u64>(self.0 + offset!(task_mm)) != 0
    }
}

/// The `task_struct` that was interrupted. The verifier knows the type of the pointer, so that its members are loaded and not read by a helper, each of which
/// costs as much as a frame of a walk.
#[derive(Clone, Copy)]
pub struct Current(*const u8);

impl Current {
    /// The running one.
    #[inline(always)]
    pub fn task() -> Self {
        // SAFETY: the helper has no arguments and no preconditions.
        Self(unsafe { bpf_get_current_task_btf() }.cast())
    }

    /// That which an iterator has come to, or a tracepoint names, where the verifier knows its type.
    #[inline(always)]
    pub fn of(task: *mut task_struct) -> Self {
        Self(task.cast())
    }

    /// A member. To the verifier its offset is a constant, because the settings are frozen before it looks.
    #[inline(always)]
    fn member<T: Copy>(self, offset: u64) -> T {
        // SAFETY: the verifier checks the load against the structure of the running kernel; a pointer that leads nowhere reads as zero.
        unsafe { self.0.add(offset as usize).cast::<T>().read_volatile() }
    }

    /// The first thread of its process.
    #[inline(always)]
    fn leader(self) -> Self {
        Self(self.member(offset!(task_group_leader)))
    }

    /// Its thread id.
    #[inline(always)]
    pub fn tid(self) -> u32 {
        self.member(offset!(task_pid))
    }

    /// When its process started.
    #[inline(always)]
    pub fn leader_start_boot_ns(self) -> u64 {
        self.leader().member(offset!(task_start_boottime))
    }

    /// The name of its process.
    #[inline(always)]
    pub fn leader_comm(self) -> [u8; COMM_BYTES] {
        read_kernel(self.leader().0 as u64 + offset!(task_comm))
    }

    /// Its `css_set`.
    #[inline(always)]
    pub fn control_groups(self) -> u64 {
        self.member::<*const u8>(offset!(task_cgroups)) as u64
    }

    /// Its `uprobe_task`; 0 if it never met a probe.
    #[inline(always)]
    pub fn uprobes(self) -> u64 {
        self.member::<*const u8>(offset!(task_utask)) as u64
    }

    /// Whether it has no user side at all.
    #[inline(always)]
    pub fn is_kernel_thread(self) -> bool {
        self.member::<u32>(offset!(task_flags)) & KERNEL_THREAD != 0
    }

    /// Whether it runs nothing of its process: a kernel thread, or a worker of io_uring or vhost.
    #[inline(always)]
    pub fn is_of_kernel(self) -> bool {
        self.member::<u32>(offset!(task_flags)) & (KERNEL_THREAD | WORKER) != 0
    }

    /// Whether it ends.
    #[inline(always)]
    pub fn is_ending(self) -> bool {
        self.member::<u32>(offset!(task_flags)) & EXITING != 0
    }

    /// Whether it is running on a CPU.
    #[inline(always)]
    pub fn is_on_cpu(self) -> bool {
        self.member::<u32>(offset!(task_on_cpu)) != 0
    }

    /// `__state`.
    #[inline(always)]
    pub fn state(self) -> u64 {
        u64::from(self.member::<u32>(offset!(task_state)))
    }

    /// Whether it has left a CPU before: a new thread that waits for its first one has not.
    #[inline(always)]
    pub fn has_run(self) -> bool {
        self.member::<u64>(offset!(task_voluntary)) | self.member::<u64>(offset!(task_involuntary)) != 0
    }

    /// What tells it from every other one that lives.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// Its address space; 0 where it has none.
    #[inline(always)]
    pub fn memory(self) -> u64 {
        self.member::<*const u8>(offset!(task_mm)) as u64
    }

    /// Whether it still has an address space.
    #[inline(always)]
    pub fn has_memory(self) -> bool {
        self.memory() != 0
    }

    /// Whether it is in the middle of an exec. Kernels without the bit are never.
    #[inline(always)]
    pub fn is_in_exec(self) -> bool {
        let bit = offset!(task_in_execve_bit);
        bit != 0 && self.member::<u8>(bit / 8) >> (bit % 8) & 1 != 0
    }

    /// The image that it runs.
    #[inline(always)]
    pub fn process(self, tgid: u32) -> ProcessKey {
        // As wide as the machine; only the low half is used, and x86 and arm64 have it first.
        let generation: u32 = self.member(offset!(task_self_exec_id));
        ProcessKey { start_boot_ns: self.leader_start_boot_ns(), tgid, exec_generation: generation }
    }
}
