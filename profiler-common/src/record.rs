//! What crosses the ring: a small fixed record for each sample, and a stack of variable length the first time its hash is seen.

use crate::process::ProcessKey;
use crate::tally::TallyKey;
use crate::unwind::leaf::{LEAF_REGISTERS, LeafRegisters};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The kinds of record, as the first half-word of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum RecordKind {
    /// A [`SampleRecord`].
    Sample = 1,
    /// A [`StackHeader`] and its addresses.
    Stack = 2,
    /// A [`MoreHeader`] and a page of an unfinished stack.
    More = 3,
    /// A [`TallyRecord`].
    Tally = 4,
}

impl TryFrom<u16> for RecordKind {
    type Error = u16;
    fn try_from(word: u16) -> Result<Self, u16> {
        match word {
            1 => Ok(Self::Sample),
            2 => Ok(Self::Stack),
            3 => Ok(Self::More),
            4 => Ok(Self::Tally),
            other => Err(other),
        }
    }
}

/// One event: who, when, how much, and the hash of the stack, which has crossed before or just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SampleRecord {
    /// [`RecordKind::Sample`].
    pub kind: u16,
    /// The number of its [`crate::source::Source`].
    pub source: u16,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// The process image.
    pub process: ProcessKey,
    /// When, on `CLOCK_MONOTONIC`, nanoseconds (`bpf_ktime_get_ns`).
    pub time_ns: u64,
    /// What the event weighs in the unit of its kind: 1 tick of the CPU clock, or the period of a cycles sample.
    pub weight: u64,
    /// Hash of the stack, never 0; covers the process image and a seed of the run.
    pub stack_hash: u64,
}

const _: () = assert!(size_of::<SampleRecord>() == 48);

/// What is counted in the kernel under a key: whose it is. Sent when the key is new; its stack has been sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TallyRecord {
    /// [`RecordKind::Tally`].
    pub kind: u16,
    /// 1: another record of another key follows that has this stack.
    pub is_shared: u16,
    /// Thread of the first event.
    pub tid: u32,
    /// The process image.
    pub process: ProcessKey,
    /// When that was, on `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The key.
    pub key: TallyKey,
}

const _: () = assert!(size_of::<TallyRecord>() == 48);

/// In the weight of a sample: it is so much less, and not more (of an address space).
pub const WEIGHT_LESS: u64 = 1 << 63;

/// The head of a stack; `kernel_frames + user_frames` addresses of 8 bytes follow, each part leaf first
/// and each caller as [`crate::unwind::caller_word`] has it. If its `form` is [`FORM_UNFINISHED`], then come
/// the registers of the last of these frames ([`UnfinishedAt`]) and the thread's stack from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackHeader {
    /// [`RecordKind::Stack`].
    pub kind: u16,
    /// How the walk of the user part ended ([`crate::ended::Ended`]).
    pub ended: u8,
    /// [`FORM_WALKED`] or [`FORM_UNFINISHED`].
    pub form: u8,
    /// Addresses of the kernel part.
    pub kernel_frames: u16,
    /// Addresses of the user part.
    pub user_frames: u16,
    /// The hash that later samples name.
    pub stack_hash: u64,
    /// The list of ranges that it was walked with (low half of its number); 0: none.
    pub list: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<StackHeader>() == 24);

/// The stack is as far as it can be walked.
pub const FORM_WALKED: u8 = 0;
/// A table was missing: user space walks on.
pub const FORM_UNFINISHED: u8 = 1;

/// The head of more bytes of an unfinished stack, beyond those that came with its addresses; it follows them, page after page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MoreHeader {
    /// [`RecordKind::More`].
    pub kind: u16,
    /// Zero.
    pub reserved: [u16; 3],
    /// The hash of the stack.
    pub stack_hash: u64,
}

/// Where a walk stopped for want of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnfinishedAt {
    /// Instruction pointer of the last frame; it is among the addresses already.
    pub ip: u64,
    /// Its stack pointer: where the bytes that follow begin.
    pub sp: u64,
    /// Its frame pointer.
    pub fp: u64,
    /// Its rbx; 0 when lost.
    pub bx: u64,
    /// 1: the instruction pointer was interrupted there; 0: it is where a call returns to.
    pub is_exact: u32,
    /// Bytes of stack that follow.
    pub stack_bytes: u32,
    /// Other registers; they are those of the leaf, whether the last frame is that or not.
    pub leaf: LeafRegisters,
}

const _: () = assert!(size_of::<UnfinishedAt>() == 40 + 8 * LEAF_REGISTERS);
