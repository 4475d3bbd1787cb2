//! Return addresses that a return probe (`uretprobe`) has taken the place of: the kernel keeps them in a list of the task, the newest first
//! (`prepare_uretprobe` in kernel/events/uprobes.c of Linux 6.1 to 6.18).

use crate::settings::offset;
use crate::task::{Current, read_kernel};

/// Probes that may wait for their return at once: `MAX_URETPROBE_DEPTH` of include/linux/uprobes.h.
const DEPTH_MAX: u32 = 64;
/// How far the kernel's own code pushes, where it runs itself: rax, rcx and r11 before its system call (`uretprobe_trampoline_entry`, 6.11 and later).
const PUSHED_MAX: u64 = 32;

/// What a call leaves on the stack: its return address, or nothing where that is in a register (x30 of arm64). The list has the stack pointer of the entry.
#[cfg(bpf_target_arch = "x86_64")]
const CALL_BYTES: u64 = 8;
#[cfg(bpf_target_arch = "aarch64")]
const CALL_BYTES: u64 = 0;

/// Where the function really returns to, and the stack pointer that it leaves.
pub struct Replaced {
    pub ip: u64,
    pub sp: u64,
}

/// The return address of the function that left the stack pointer at `sp`; in the leaf, which may be the kernel's code itself, not far above it.
#[inline(always)]
pub fn replaced(sp: u64, is_leaf: bool) -> Option<Replaced> {
    let mut instance = first_instance()?;
    let slack = if is_leaf { PUSHED_MAX } else { 0 };
    for _ in 0..DEPTH_MAX {
        if instance == 0 {
            break;
        }
        let above: u64 = read_kernel::<u64>(instance + offset!(return_instance_stack)).wrapping_add(CALL_BYTES);
        if above.wrapping_sub(sp) <= slack {
            return Some(Replaced { ip: read_kernel(instance + offset!(return_instance_address)), sp: above });
        }
        instance = read_kernel(instance + offset!(return_instance_next));
    }
    None
}

#[inline(always)]
fn first_instance() -> Option<u64> {
    let at = offset!(task_utask);
    if at == 0 {
        return None;
    }
    let utask = Current::task().uprobes();
    if utask == 0 { None } else { Some(read_kernel(utask + offset!(utask_return_instances))) }
}
