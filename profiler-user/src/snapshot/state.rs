//! What a thread does, in the words of Go's dumps where they fit: by its state, and by the system call that it sleeps in.

use profiler_common::snapshot::ThreadRecord;

// include/linux/sched.h
const INTERRUPTIBLE: u32 = 1;
const UNINTERRUPTIBLE: u32 = 2;
const STOPPED: u32 = 4;
const TRACED: u32 = 8;
const DEAD: u32 = 0x80;
/// Not counted as load: an idle kernel thread.
const NO_LOAD: u32 = 0x400;
const FROZEN: u32 = 0x8000;

const FUTEX_WAITV: i64 = 449;
const FUTEX_WAIT: i64 = 455;

/// A few words.
pub fn name(record: &ThreadRecord) -> String {
    let state = record.state;
    let word = match () {
        () if record.is_on_cpu != 0 => "running",
        () if state == 0 => "runnable",
        () if state & DEAD != 0 => "exiting",
        () if state & STOPPED != 0 => "stopped",
        () if state & TRACED != 0 => "stopped by a debugger",
        () if state & FROZEN != 0 => "frozen",
        () if state & UNINTERRUPTIBLE != 0 && state & NO_LOAD == 0 => "D, uninterruptible",
        () if state & INTERRUPTIBLE != 0 => return sleeping(record.system_call).to_owned(),
        () => "sleeping",
    };
    word.to_owned()
}

/// Why a thread sleeps that can be woken by signals.
fn sleeping(system_call: i64) -> &'static str {
    match system_call {
        libc::SYS_futex | FUTEX_WAITV | FUTEX_WAIT => "futex wait",
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep => "sleep",
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 | libc::SYS_ppoll | libc::SYS_pselect6 => "IO wait (poll)",
        libc::SYS_read | libc::SYS_readv | libc::SYS_pread64 | libc::SYS_recvfrom | libc::SYS_recvmsg => "IO wait (read)",
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwrite64 | libc::SYS_sendto | libc::SYS_sendmsg => "IO wait (write)",
        libc::SYS_accept | libc::SYS_accept4 => "IO wait (accept)",
        libc::SYS_wait4 | libc::SYS_waitid => "wait for a process",
        libc::SYS_rt_sigtimedwait | libc::SYS_rt_sigsuspend => "wait for a signal",
        number if is_old_poll(number) => "IO wait (poll)",
        number if is_pause(number) => "wait for a signal",
        _ => "sleeping",
    }
}

#[cfg(target_arch = "x86_64")]
fn is_old_poll(number: i64) -> bool {
    [libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait].contains(&number)
}

#[cfg(target_arch = "x86_64")]
fn is_pause(number: i64) -> bool {
    number == libc::SYS_pause
}

/// Newer machines have only the newer calls.
#[cfg(not(target_arch = "x86_64"))]
fn is_old_poll(_: i64) -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn is_pause(_: i64) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    #[test]
    fn states_have_names() {
        let of = |state, is_on_cpu, system_call| name(&ThreadRecord { state, is_on_cpu, system_call, ..ThreadRecord::new_zeroed() });
        assert_eq!(of(0, 1, -1), "running");
        assert_eq!(of(0, 0, -1), "runnable");
        assert_eq!(of(1, 0, libc::SYS_futex), "futex wait");
        assert_eq!(of(1, 0, 100_000), "sleeping");
        assert_eq!(of(2 | 0x100, 0, 0), "D, uninterruptible");
        assert_eq!(of(2 | 0x400, 0, -1), "sleeping");
    }
}
