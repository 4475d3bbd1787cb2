//! In which way a system call gets a descriptor, and whether that is closed at the next exec.

use super::SystemCall;
use super::numbers::*;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use profiler_common::descriptor::DescriptorType;

/// `O_CLOEXEC`, which `SOCK_`, `TFD_`, `SFD_`, `EFD_`, `EPOLL_` and `IN_CLOEXEC` are as well.
const AT_EXEC: u64 = 0o2_000_000;
/// `MFD_CLOEXEC`, `FAN_CLOEXEC`, `FSOPEN_CLOEXEC`, `FSMOUNT_CLOEXEC`, `FSPICK_CLOEXEC`, `FD_CLOEXEC`.
const AT_EXEC_ONE: u64 = 1;
/// `PERF_FLAG_FD_CLOEXEC`.
const AT_EXEC_PERF: u64 = 8;
const DUPLICATES: u64 = 0; // F_DUPFD
const SETS_FLAGS: u64 = 2; // F_SETFD
const DUPLICATES_AT_EXEC: u64 = 1030; // F_DUPFD_CLOEXEC
const SETS_AT_EXEC: u64 = 0x5451; // FIOCLEX
const CLEARS_AT_EXEC: u64 = 0x5450; // FIONCLEX
/// Commands of bpf(2) whose result is a descriptor, as bits: `MAP_CREATE`, `PROG_LOAD`, `OBJ_GET`, `*_GET_FD_BY_ID`, `RAW_TRACEPOINT_OPEN`, `BTF_LOAD`, `LINK_CREATE`,
/// `ENABLE_STATS`, `ITER_CREATE`, `TOKEN_CREATE`.
const BPF_DESCRIPTORS: u64 =
    1 << 0 | 1 << 5 | 1 << 7 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 18 | 1 << 19 | 1 << 28 | 1 << 30 | 1 << 32 | 1 << 33 | 1 << 36;

/// What a call does.
pub enum Way {
    Nothing,
    /// A descriptor is, or is not, closed at the next exec from now on.
    Marks {
        number: u64,
        closes_at_exec: u64,
    },
    Gets(Got),
}

/// What a call gets.
pub struct Got {
    pub what: DescriptorType,
    pub closes_at_exec: bool,
    /// Where two of them are written; 0: one is returned.
    pub pair_at: u64,
}

#[inline(always)]
fn one(what: DescriptorType, closes_at_exec: bool) -> Way {
    Way::Gets(Got { what, closes_at_exec, pair_at: 0 })
}

#[inline(always)]
fn pair(what: DescriptorType, pair_at: u64, flags: u64) -> Way {
    Way::Gets(Got { what, closes_at_exec: flags & AT_EXEC != 0, pair_at })
}

/// In which way a call that has returned gets one.
#[inline(always)]
pub fn way(call: SystemCall) -> Way {
    use DescriptorType::{Duplicate, Events, File, Memory, Object, Pipe, Socket};
    let number = call.number();
    let flags = |at: usize| call.argument(at) & AT_EXEC != 0;
    let bit = |at: usize| call.argument(at) & AT_EXEC_ONE != 0;
    match number {
        OPENAT | OPEN_BY_HANDLE_AT => one(File, flags(2)),
        OPEN => one(File, flags(1)),
        CREAT => one(File, false),
        OPENAT2 => one(File, word_at(call.argument(2)) & AT_EXEC != 0),
        SOCKET => one(Socket, flags(1)),
        ACCEPT => one(Socket, false),
        ACCEPT4 => one(Socket, flags(3)),
        SOCKETPAIR => pair(Socket, call.argument(3), call.argument(1)),
        PIPE => pair(Pipe, call.argument(0), 0),
        PIPE2 => pair(Pipe, call.argument(0), call.argument(1)),
        DUP => one(Duplicate, false),
        // The same number again is no new one.
        DUP2 if call.argument(0) as u32 != call.argument(1) as u32 => one(Duplicate, false),
        DUP3 => one(Duplicate, flags(2)),
        FCNTL => match call.argument(1) & 0xffff_ffff {
            DUPLICATES => one(Duplicate, false),
            DUPLICATES_AT_EXEC => one(Duplicate, true),
            SETS_FLAGS => Way::Marks { number: call.argument(0), closes_at_exec: call.argument(2) & AT_EXEC_ONE },
            _ => Way::Nothing,
        },
        IOCTL => match call.argument(1) & 0xffff_ffff {
            SETS_AT_EXEC => Way::Marks { number: call.argument(0), closes_at_exec: 1 },
            CLEARS_AT_EXEC => Way::Marks { number: call.argument(0), closes_at_exec: 0 },
            _ => Way::Nothing,
        },
        EVENTFD2 | TIMERFD_CREATE => one(Events, flags(1)),
        EPOLL_CREATE1 | INOTIFY_INIT1 | USERFAULTFD => one(Events, flags(0)),
        EPOLL_CREATE | INOTIFY_INIT | EVENTFD => one(Events, false),
        // With a descriptor that is there it changes that one.
        SIGNALFD4 if call.argument(0) as u32 as i32 == -1 => one(Events, flags(3)),
        SIGNALFD if call.argument(0) as u32 as i32 == -1 => one(Events, false),
        FANOTIFY_INIT => one(Events, bit(0)),
        PIDFD_OPEN | PIDFD_GETFD => one(Events, true),
        MEMFD_CREATE => one(Memory, bit(1)),
        MEMFD_SECRET => one(Memory, flags(0)),
        PERF_EVENT_OPEN => one(Object, call.argument(4) & AT_EXEC_PERF != 0),
        BPF if call.argument(0) < 64 && BPF_DESCRIPTORS >> call.argument(0) & 1 != 0 => one(Object, true),
        IO_URING_SETUP | MQ_OPEN => one(Object, true),
        OPEN_TREE => one(Object, flags(2)),
        FSOPEN | FSMOUNT => one(Object, bit(1)),
        FSPICK => one(Object, bit(2)),
        // With flags it tells its version.
        LANDLOCK_CREATE_RULESET if call.argument(2) == 0 => one(Object, true),
        _ => Way::Nothing,
    }
}

/// A word of user memory; 0 if it cannot be read.
#[inline(always)]
fn word_at(address: u64) -> u64 {
    let mut word = 0u64;
    // SAFETY: the helper writes 8 bytes to the local, or fails.
    unsafe { bpf_probe_read_user((&raw mut word).cast(), 8, address as *const _) };
    word
}
