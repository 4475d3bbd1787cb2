//! A look at a thread where it stands: an iterator over tasks comes here for each thread of a process. Nobody is stopped, and no memory of the process is read:
//! a page of it that does not come would hold the lock of its address space.

use crate::maps::SCRATCH;
use crate::settings::setting;
use crate::stack::registers::{UserSide, leaf, native, system_call};
use crate::task::Task;
use aya_ebpf::bindings::{seq_file, task_struct};
use aya_ebpf::helpers::generated::{bpf_get_task_stack, bpf_ktime_get_ns, bpf_seq_write, bpf_task_pt_regs};
use profiler_common::limits::KERNEL_FRAMES_MAX;
use profiler_common::snapshot::{ThreadRecord, USER_COMPAT, USER_NATIVE};

/// `struct bpf_iter_meta` (include/linux/bpf.h).
#[repr(C)]
pub struct Meta {
    seq: *mut seq_file,
}

/// `struct bpf_iter__task` (kernel/bpf/task_iter.c).
#[repr(C)]
pub struct Context {
    meta: *mut Meta,
    task: *mut task_struct,
}

/// Writes down one thread; none at the end.
#[inline(always)]
pub fn thread(context: *mut Context) {
    let (seq, task) = met(context);
    if !task.is_null() {
        write(seq, task);
    }
}

/// What an iterator has come to: where to write, and the task.
#[inline(always)]
pub fn met(context: *mut Context) -> (*mut seq_file, *mut task_struct) {
    // SAFETY: the context of the iterator, as the verifier knows it.
    unsafe { ((*(*context).meta).seq, (*context).task) }
}

/// Writes down a thread and its kernel stack.
#[inline(always)]
pub fn write(seq: *mut seq_file, task: *mut task_struct) {
    let of = Task(task as u64);
    let mut record = of.look();
    // SAFETY: no preconditions.
    record.now_ns = unsafe { bpf_ktime_get_ns() };
    if of.has_user_side() {
        take_user_side(task, &mut record);
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    let mut bytes = 0u64;
    if setting!(kernel_stacks) != 0 {
        // SAFETY: the frames hold more than so many words.
        let taken = unsafe { bpf_get_task_stack(task, (&raw mut (*scratch).frames).cast(), (KERNEL_FRAMES_MAX * 8) as u32, 0) };
        if taken > 0 && taken <= (KERNEL_FRAMES_MAX * 8) as i64 {
            bytes = taken as u64;
        }
    }
    record.kernel_frames = (bytes / 8) as u32;
    // The verifier must see the bound on the very number that the helper gets (before Linux 6.18; LLVM would check that number less one, so as to leave 0 out).
    let bytes = core::hint::black_box(bytes);
    // SAFETY: both are memory of ours, of at least that length. Where there is no room left, the kernel throws away what was written and comes again.
    unsafe {
        bpf_seq_write(seq, (&raw const record).cast(), size_of::<ThreadRecord>() as u32);
        if bytes <= (KERNEL_FRAMES_MAX * 8) as u64 {
            bpf_seq_write(seq, (&raw const (*scratch).frames).cast(), bytes as u32);
        }
    }
}

#[inline(always)]
fn take_user_side(task: *mut task_struct, record: &mut ThreadRecord) {
    // SAFETY: the iterator holds the task.
    let regs = unsafe { bpf_task_pt_regs(task) as *const crate::stack::registers::Saved };
    if regs.is_null() {
        return;
    }
    record.system_call = system_call(regs);
    match native(regs) {
        UserSide::None => {}
        UserSide::Compat(ip) => {
            record.user = USER_COMPAT;
            record.registers[0] = ip;
        }
        UserSide::Native(registers) => {
            record.user = USER_NATIVE;
            record.registers = [registers.ip, registers.sp, registers.fp, registers.bx];
            record.leaf = leaf(regs);
        }
    }
}
