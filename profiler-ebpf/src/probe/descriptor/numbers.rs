//! The system calls that get or close descriptors, by their numbers (asm/unistd.h, Linux 6.18), and where their arguments are (asm/ptrace.h). What differs between
//! machines stands twice.

use crate::task::read_kernel;

pub const IO_URING_SETUP: u64 = 425;
pub const OPEN_TREE: u64 = 428;
pub const FSOPEN: u64 = 430;
pub const FSMOUNT: u64 = 432;
pub const FSPICK: u64 = 433;
pub const PIDFD_OPEN: u64 = 434;
pub const CLOSE_RANGE: u64 = 436;
pub const OPENAT2: u64 = 437;
pub const PIDFD_GETFD: u64 = 438;
pub const LANDLOCK_CREATE_RULESET: u64 = 444;
pub const MEMFD_SECRET: u64 = 447;

#[cfg(bpf_target_arch = "x86_64")]
mod machine {
    pub const OPEN: u64 = 2;
    pub const CLOSE: u64 = 3;
    pub const IOCTL: u64 = 16;
    pub const PIPE: u64 = 22;
    pub const DUP: u64 = 32;
    pub const DUP2: u64 = 33;
    pub const SOCKET: u64 = 41;
    pub const ACCEPT: u64 = 43;
    pub const SOCKETPAIR: u64 = 53;
    pub const FCNTL: u64 = 72;
    pub const CREAT: u64 = 85;
    pub const EPOLL_CREATE: u64 = 213;
    pub const MQ_OPEN: u64 = 240;
    pub const INOTIFY_INIT: u64 = 253;
    pub const OPENAT: u64 = 257;
    pub const SIGNALFD: u64 = 282;
    pub const TIMERFD_CREATE: u64 = 283;
    pub const EVENTFD: u64 = 284;
    pub const ACCEPT4: u64 = 288;
    pub const SIGNALFD4: u64 = 289;
    pub const EVENTFD2: u64 = 290;
    pub const EPOLL_CREATE1: u64 = 291;
    pub const DUP3: u64 = 292;
    pub const PIPE2: u64 = 293;
    pub const INOTIFY_INIT1: u64 = 294;
    pub const PERF_EVENT_OPEN: u64 = 298;
    pub const FANOTIFY_INIT: u64 = 300;
    pub const OPEN_BY_HANDLE_AT: u64 = 304;
    pub const MEMFD_CREATE: u64 = 319;
    pub const BPF: u64 = 321;
    pub const USERFAULTFD: u64 = 323;

    /// Offset of `orig_ax` in `pt_regs`.
    pub const NUMBER: u64 = 120;
    /// Of rdi, rsi, rdx, r10 and r8.
    pub const ARGUMENTS: [u64; 5] = [112, 104, 96, 56, 72];
    /// Of the code segment.
    pub const CODE_SEGMENT: u64 = 136;
}

#[cfg(bpf_target_arch = "aarch64")]
mod machine {
    /// No number of a call: this machine has none of that name.
    const ABSENT: u64 = u64::MAX;
    pub const OPEN: u64 = ABSENT - 0;
    pub const CLOSE: u64 = 57;
    pub const IOCTL: u64 = 29;
    pub const PIPE: u64 = ABSENT - 3;
    pub const DUP: u64 = 23;
    pub const DUP2: u64 = ABSENT - 5;
    pub const SOCKET: u64 = 198;
    pub const ACCEPT: u64 = 202;
    pub const SOCKETPAIR: u64 = 199;
    pub const FCNTL: u64 = 25;
    pub const CREAT: u64 = ABSENT - 10;
    pub const EPOLL_CREATE: u64 = ABSENT - 11;
    pub const MQ_OPEN: u64 = 180;
    pub const INOTIFY_INIT: u64 = ABSENT - 13;
    pub const OPENAT: u64 = 56;
    pub const SIGNALFD: u64 = ABSENT - 15;
    pub const TIMERFD_CREATE: u64 = 85;
    pub const EVENTFD: u64 = ABSENT - 17;
    pub const ACCEPT4: u64 = 242;
    pub const SIGNALFD4: u64 = 74;
    pub const EVENTFD2: u64 = 19;
    pub const EPOLL_CREATE1: u64 = 20;
    pub const DUP3: u64 = 24;
    pub const PIPE2: u64 = 59;
    pub const INOTIFY_INIT1: u64 = 26;
    pub const PERF_EVENT_OPEN: u64 = 241;
    pub const FANOTIFY_INIT: u64 = 262;
    pub const OPEN_BY_HANDLE_AT: u64 = 265;
    pub const MEMFD_CREATE: u64 = 279;
    pub const BPF: u64 = 280;
    pub const USERFAULTFD: u64 = 282;

    /// Offset of `syscallno` in `pt_regs`.
    pub const NUMBER: u64 = 280;
    /// Of `orig_x0`, and of x1 to x4.
    pub const ARGUMENTS: [u64; 5] = [272, 8, 16, 24, 32];
    /// Of `pstate`.
    pub const STATE: u64 = 264;
}

pub use machine::*;

/// Whether the call was made with this machine's own numbers: 32-bit code has others.
#[inline(always)]
#[cfg(bpf_target_arch = "x86_64")]
pub fn are_native(registers: u64) -> bool {
    const USER_CODE_64: u64 = 0x33;
    read_kernel::<u64>(registers + CODE_SEGMENT) & 0xffff == USER_CODE_64
}

/// As above: `PSR_MODE32_BIT`.
#[inline(always)]
#[cfg(bpf_target_arch = "aarch64")]
pub fn are_native(registers: u64) -> bool {
    read_kernel::<u64>(registers + STATE) & 0x10 == 0
}
