//! Taking the stack of the interrupted task into scratch: the kernel part by the kernel, the user part by our own walk, hashed on the way.

mod kernel;
mod registers;
mod user;

use crate::maps::{SCRATCH, Scratch};
use crate::settings::setting;
use crate::task::Task;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::programs::PerfEventContext;
use profiler_common::ended::Ended;
use profiler_common::process::ProcessKey;
use profiler_common::record::{RecordKind, StackHeader};
pub use registers::{Interrupted, interrupted};

/// A stack in scratch, ready to be sent.
pub struct Taken {
    pub scratch: *mut Scratch,
    pub hash: u64,
    pub frames: u32,
}

/// An odd constant with its bits well mixed (2^64 divided by the golden ratio).
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// One word into the hash.
#[inline(always)]
pub fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(MIX);
    mixed ^ (mixed >> 32)
}

/// Takes the stack of the current task.
#[inline(always)]
pub fn take(context: &PerfEventContext, process: &ProcessKey, task: Task, at: &Interrupted) -> Option<Taken> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    let start = mix(mix(mix(setting!(seed), process.start_boot_ns), u64::from(process.tgid)), u64::from(process.exec_generation));
    let mut kernel_frames = 0;
    if at.is_kernel && setting!(kernel_stacks) != 0 {
        kernel_frames = kernel::take(context.as_ptr(), scratch);
    }
    let mut user = user::Walk::none(start, kernel_frames);
    if setting!(user_stacks) != 0 {
        user = user::walk(scratch, task, at, start, kernel_frames);
    }
    let ended = user.ended as u8;
    let mut hash = mix(kernel::hash(scratch, user.hash, kernel_frames), u64::from(ended) | u64::from(kernel_frames) << 8);
    if hash == 0 {
        hash = 1; // 0 is an empty slot.
    }
    let header = StackHeader {
        kind: RecordKind::Stack as u32,
        kernel_frames: kernel_frames as u16,
        user_frames: user.frames as u16,
        stack_hash: hash,
        ended,
        reserved: [0; 7],
    };
    // SAFETY: scratch is this CPU's own, and this program is the only one that uses it.
    unsafe { (*scratch).header = header };
    Some(Taken { scratch, hash, frames: kernel_frames + user.frames })
}

/// No user part was taken.
pub const NO_USER: Ended = Ended::NoUserStack;
