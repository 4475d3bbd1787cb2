//! What a reader may do: compute, read what it was given, answer. Everything else is given up for good before the first foreign byte is read.

use super::names::Arguments;
use crate::sys::rights::{give_up, limit};
use crate::sys::seccomp::{Rule, Verdict, install};
use rustix::process::Resource;
use rustix::thread::CapabilitySet;
use std::io;
use std::os::fd::OwnedFd;

/// Most descriptors that a reader has open: those of a few objects with their debug files.
const DESCRIPTORS_MAX: u64 = 64;

/// Enters the sandbox. Returns the listener through which the keeper answers opens.
///
/// # Errors
/// Something could not be given up: the reader must not go on.
pub(super) fn enter(arguments: &Arguments) -> io::Result<OwnedFd> {
    limit(Resource::Data, arguments.data_limit_bytes)?;
    limit(Resource::Nofile, DESCRIPTORS_MAX)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    give_up(CapabilitySet::empty())?;
    install(&rules(), Verdict::Errno(libc::EPERM))
}

/// The filter. Calls that take a path go to the keeper or fail; a descriptor that is already there may be read, asked and closed; memory may be had, but
/// none that can be executed.
pub(super) fn rules() -> Vec<Rule> {
    const PROT_EXEC: u32 = libc::PROT_EXEC as u32;
    const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;
    let mut rules: Vec<Rule> = ALLOWED.iter().map(|call| Rule::Always(*call, Verdict::Allow)).collect();
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.push(Rule::Bits { call, argument: 2, mask: PROT_EXEC, set: Verdict::Errno(libc::EPERM), clear: Verdict::Allow });
    }
    for call in [libc::SYS_openat, libc::SYS_openat2] {
        rules.push(Rule::Always(call, Verdict::Notify));
    }
    // With AT_EMPTY_PATH these two ask a descriptor. (They may then name a path all the same, and learn of a file as nobody that it is there.)
    rules.push(Rule::Bits { call: libc::SYS_newfstatat, argument: 3, mask: EMPTY_PATH, set: Verdict::Allow, clear: Verdict::Notify });
    rules.push(Rule::Bits { call: libc::SYS_statx, argument: 2, mask: EMPTY_PATH, set: Verdict::Allow, clear: Verdict::Notify });
    // No name is a symbolic link: `realpath` then leaves it as it is.
    rules.push(Rule::Always(libc::SYS_readlinkat, Verdict::Errno(libc::EINVAL)));
    #[cfg(target_arch = "x86_64")]
    rules.extend([
        Rule::Always(libc::SYS_open, Verdict::Notify),
        Rule::Always(libc::SYS_stat, Verdict::Notify),
        Rule::Always(libc::SYS_lstat, Verdict::Notify),
        Rule::Always(libc::SYS_readlink, Verdict::Errno(libc::EINVAL)),
    ]);
    rules
}

/// Calls that need no look at their arguments, the frequent ones first.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_munmap,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_fcntl,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_setitimer,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_alarm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];
