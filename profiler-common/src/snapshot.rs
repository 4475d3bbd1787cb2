//! What a look at a thread where it stands gives: the record that the task iterator writes for each thread of a process.

use crate::limits::COMM_BYTES;
use crate::process::ProcessKey;
use crate::unwind::Registers;
use crate::unwind::leaf::{LEAF_REGISTERS, LeafRegisters};
use crate::wait::Sleep;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// It has no user side: a kernel thread, or one that exits.
pub const USER_NONE: u32 = 0;
/// 32-bit code: of its registers only the instruction pointer is there.
pub const USER_COMPAT: u32 = 1;
/// 64-bit code.
pub const USER_NATIVE: u32 = 2;

/// The thread was in no system call.
pub const NO_SYSTEM_CALL: i64 = -1;

impl ThreadRecord {
    /// The registers as a walk takes them.
    pub const fn walk_from(&self) -> Registers {
        let [ip, sp, fp, bx] = self.registers;
        Registers { ip, sp, fp, bx }
    }
}

/// A thread. Behind it stand as many words as it has kernel frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ThreadRecord {
    /// Its process image.
    pub process: ProcessKey,
    /// Its user side when it entered the kernel: instruction pointer, stack pointer, frame pointer, and rbx or x30.
    pub registers: [u64; 4],
    /// Others of them.
    pub leaf: LeafRegisters,
    /// How often it has given up its CPU (`nvcsw`): with the next, a thread that is on no CPU has not run since if neither has moved.
    pub voluntary_switches: u64,
    /// How often its CPU was taken away (`nivcsw`).
    pub involuntary_switches: u64,
    /// When it last got a CPU, on the scheduler's clock, ns; 0: not known.
    pub last_ran_ns: u64,
    /// Now, on the monotonic clock, ns.
    pub now_ns: u64,
    /// The system call that it is in, or was in last; [`NO_SYSTEM_CALL`]: none.
    pub system_call: i64,
    /// Thread id.
    pub tid: u32,
    /// `task_struct::__state`.
    pub state: u32,
    /// One of the `USER_*`.
    pub user: u32,
    /// 1: it was running on a CPU, so that its registers are not those of now.
    pub is_on_cpu: u32,
    /// Its name.
    pub comm: [u8; COMM_BYTES],
    /// Words of its kernel stack that follow.
    pub kernel_frames: u32,
    /// Zero.
    pub reserved: u32,
}

/// A thread that was off its CPU when the recording was over. Behind it stand the words of its kernel stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SleeperRecord {
    /// Since when, and why.
    pub sleep: Sleep,
    /// The thread.
    pub thread: ThreadRecord,
}

const _: () = assert!(size_of::<ThreadRecord>() == 16 + 32 + 8 * LEAF_REGISTERS + 40 + 16 + COMM_BYTES + 8);
