//! What a reader may do: compute, read what it was given, answer. Everything else is given up for good before the first foreign byte is read.

use super::names::Arguments;
use crate::sys::seccomp::{Rule, Verdict, install};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use std::io;
use std::os::fd::OwnedFd;

/// `nobody`: owns nothing, is in no group.
const NOBODY: u32 = 65534;

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
    drop_rights()?;
    rustix::thread::set_no_new_privs(true)?;
    // Nobody else's `nobody` process may trace it or read its memory.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    install(&rules(), Verdict::Errno(libc::EPERM))
}

fn limit(resource: Resource, bound: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum.map_or(bound, |hard| hard.min(bound));
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })?)
}

fn drop_rights() -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?.effective;
    // Kernels without ambient capabilities (before 4.3) have none to clear.
    rustix::thread::clear_ambient_capability_set().or_else(|error| if error == rustix::io::Errno::INVAL { Ok(()) } else { Err(error) })?;
    if held.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().iter() {
            // One that this kernel does not know is not held either.
            let _ = rustix::thread::remove_capability_from_bounding_set(capability);
        }
    }
    if held.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)?;
    }
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
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
