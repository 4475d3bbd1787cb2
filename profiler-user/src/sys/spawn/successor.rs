//! A process that does nothing but wait for the end of this one, and then lets a command go on that this one may have left stopped.
//!
//! A signal at the death of a parent (`PR_SET_PDEATHSIG`) would come with the first of our threads that dies, while the programs that stop the command are still
//! attached, by the others; and the command would keep it for its whole life.

use rustix::process::{PidfdFlags, getpid, pidfd_open};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Lets a command go on when this process has ended without dropping this.
#[derive(Debug)]
pub struct Successor {
    pub(super) pid: libc::pid_t,
}

impl Successor {
    /// Begins to wait. Before anything is mapped that must end with this process: it has our mappings, and none of our descriptors.
    ///
    /// # Errors
    /// There are no descriptors or processes left.
    pub(super) fn begin(command: BorrowedFd<'_>) -> io::Result<Self> {
        let this = pidfd_open(getpid(), PidfdFlags::empty())?;
        // SAFETY: a set is plain data, for which zero is valid; the calls get pointers to live locals. The child calls `wait_and_continue`, which makes
        // only async-signal-safe calls, and never returns.
        unsafe {
            let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            // It keeps them blocked: what a terminal sends to its whole group is not meant for it.
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            let pid = libc::fork();
            if pid == 0 {
                wait_and_continue(this.as_raw_fd(), command.as_raw_fd());
            }
            let error = io::Error::last_os_error();
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
            if pid < 0 { Err(error) } else { Ok(Self { pid }) }
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // SAFETY: the pid is our child's, which was not waited for, so it is nobody else's.
        unsafe { libc::kill(self.pid, NOT_NEEDED) };
        await_end(self.pid);
    }
}

/// What is sent to a successor that is not needed any more.
const NOT_NEEDED: libc::c_int = libc::SIGUSR1;

/// A signal that is caught ends a wait.
extern "C" fn end_wait(_signal: libc::c_int) {}

/// Waits for a child's end.
fn await_end(child: libc::pid_t) {
    // SAFETY: no status is asked for.
    unsafe { while libc::waitpid(child, std::ptr::null_mut(), 0) < 0 && *libc::__errno_location() == libc::EINTR {} }
}

/// In the child, with all signals blocked.
fn wait_and_continue(parent: libc::c_int, command: libc::c_int) -> ! {
    let (low, high) = (parent.min(command).cast_unsigned(), parent.max(command).cast_unsigned());
    // SAFETY: raw system calls and async-signal-safe functions on live locals and a literal; zero is a valid set. What is closed are copies of this process
    // alone, which nothing here uses.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"profiler-after".as_ptr());
        for (from, to) in [(0, low), (low + 1, high), (high + 1, libc::c_uint::MAX)] {
            if from < to {
                libc::syscall(libc::SYS_close_range, from, to - 1, 0);
            }
        }
        let this = libc::getpid();
        let member = libc::fork();
        if member == 0 {
            stay_in_the_group(this);
        }
        libc::setpgid(0, 0);
        // All others stay blocked: what a terminal sends is not meant for it.
        let mut others: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut others);
        libc::sigdelset(&raw mut others, NOT_NEEDED);
        libc::signal(NOT_NEEDED, end_wait as extern "C" fn(libc::c_int) as libc::sighandler_t);
        // Readable when the last of its threads is through with its descriptors, so that nothing of it is attached any more.
        let mut ended = libc::pollfd { fd: parent, events: libc::POLLIN, revents: 0 };
        if libc::ppoll(&raw mut ended, 1, std::ptr::null(), &raw const others) == 1 {
            // A program that was running at that moment stops the command before this returns (`synchronize_rcu`).
            libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0);
            libc::syscall(libc::SYS_pidfd_send_signal, command, libc::SIGCONT, std::ptr::null::<libc::siginfo_t>(), 0);
        }
        if member > 0 {
            libc::kill(member, libc::SIGKILL);
            await_end(member);
        }
        libc::_exit(0)
    }
}

/// Where a shell has started us, its child in another group, our end leaves our group without one who has such a parent: the kernel then sends SIGHUP to who is
/// stopped in it (`kill_orphaned_pgrp` of kernel/exit.c, 6.12), which is the end of the command. This one's parent is in another group.
fn stay_in_the_group(parent: libc::pid_t) -> ! {
    // SAFETY: async-signal-safe calls without pointers.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
        while libc::getppid() == parent {
            libc::pause();
        }
        libc::_exit(0)
    }
}
