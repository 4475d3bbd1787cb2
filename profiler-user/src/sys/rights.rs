//! Giving up rights for good: what a helper process does before the first byte of a stranger reaches it.

use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use std::io;

/// `nobody`: owns nothing, is in no group.
const NOBODY: u32 = 65534;

/// Lowers a limit of this process, and the limit of that limit.
///
/// # Errors
/// The kernel refuses it.
pub fn limit(resource: Resource, bound: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum.map_or(bound, |hard| hard.min(bound));
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })?)
}

/// Becomes nobody with no capability but those of `kept` that it has, which nothing can raise again; ends with its parent's thread, and nobody else's `nobody`
/// process may trace it or read its memory. For a process with one thread.
///
/// # Errors
/// Something could not be given up: the process must not go on.
pub fn give_up(kept: CapabilitySet) -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?;
    let kept = kept & held.permitted;
    // Kernels without ambient capabilities (before 4.3) have none to clear.
    rustix::thread::clear_ambient_capability_set().or_else(|error| if error == rustix::io::Errno::INVAL { Ok(()) } else { Err(error) })?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().iter() {
            // One that this kernel does not know is not held either.
            let _ = rustix::thread::remove_capability_from_bounding_set(capability);
        }
    }
    if held.effective.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        // Without it a change of user takes every capability along.
        if !kept.is_empty() {
            rustix::thread::set_keep_capabilities(true)?;
        }
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)?;
    }
    rustix::thread::set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}
