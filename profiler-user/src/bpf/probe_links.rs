//! Links of probes: each arms a program at places of a file in one process, as long as it is open. What is armed is disarmed when its link is closed, also by our
//! death.

use super::probe_programs::{AttachType, descriptor};
use crate::model::process::Pid;
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

// include/uapi/linux/bpf.h
const LINK_CREATE: libc::c_int = 28;
/// A link's probes are at returns.
pub(super) const RETURN: u32 = 1;

/// Threads that close links.
const CLOSERS_MAX: usize = 32;

/// `union bpf_attr`, the part for `BPF_LINK_CREATE` of many uprobes.
#[repr(C)]
struct LinkAttr {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    cnt: u32,
    multi_flags: u32,
    pid: u32,
    reserved: u32,
}

/// Functions of one link.
#[derive(Default)]
pub(super) struct Points {
    offsets: Vec<u64>,
    cookies: Vec<u64>,
    /// Words in the file that are raised while somebody looks, if there are any; 0: none.
    semaphores: Vec<u64>,
}

impl Points {
    pub(super) fn push(&mut self, offset: u64, cookie: u64, semaphore: u64) {
        self.offsets.push(offset);
        self.cookies.push(cookie);
        self.semaphores.push(semaphore);
    }

    /// A single one, of which the program is told nothing.
    pub(super) fn one(offset: u64) -> Self {
        Self { offsets: vec![offset], cookies: vec![0], semaphores: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }
}

/// The links that are open, by process.
#[derive(Default)]
pub(super) struct Links(HashMap<Pid, Vec<OwnedFd>>);

impl Links {
    /// Keeps some more of a process.
    pub(super) fn keep(&mut self, pid: Pid, links: impl IntoIterator<Item = OwnedFd>) {
        self.0.entry(pid).or_default().extend(links);
    }

    /// Processes that have any.
    pub(super) fn processes(&self) -> usize {
        self.0.len()
    }

    /// Closes all of them.
    pub(super) fn close(&mut self) {
        close(self.0.drain().flat_map(|(_, links)| links).collect());
    }

    /// Closes those of a process that has ended: nobody is trapped by them, and nobody needs to wait for it.
    pub(super) fn close_aside(&mut self, pid: Pid) {
        self.0.remove(&pid).into_iter().for_each(close_aside);
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.close();
    }
}

/// Closes links side by side: each takes its breakpoints away at once, and then waits some 30 ms for programs that may still run. They wait together; one after the
/// other, those of a hundred processes would take ten seconds.
pub(super) fn close(mut links: Vec<OwnedFd>) {
    let each = links.len().div_ceil(CLOSERS_MAX);
    thread::scope(|scope| {
        while !links.is_empty() {
            let some = links.split_off(links.len().saturating_sub(each));
            // Where there is no thread for them they are closed here, with what was moved to it.
            let _ = thread::Builder::new().name("disarming".into()).spawn_scoped(scope, move || drop(some));
        }
    });
}

fn close_aside(links: Vec<OwnedFd>) {
    static CLOSERS: AtomicUsize = AtomicUsize::new(0);
    if CLOSERS.fetch_add(1, Ordering::Relaxed) < CLOSERS_MAX {
        // Where there is no thread for it they are closed here.
        let closes = move || {
            drop(links);
            CLOSERS.fetch_sub(1, Ordering::Relaxed);
        };
        if thread::Builder::new().name("disarming".into()).spawn(closes).is_ok() {
            return;
        }
    }
    CLOSERS.fetch_sub(1, Ordering::Relaxed);
}

/// Whether the kernel has links of many probes. An older one takes the programs all the same. What is no file is refused in other words by one that has them.
pub(super) fn has_links_of_many(program: &OwnedFd) -> bool {
    let points = Points::one(0);
    let refused = create_link(program, "/", &points, (AttachType::Multi, 0, Pid(std::process::id())));
    refused.err().and_then(|error| error.raw_os_error()) != Some(libc::EINVAL)
}

pub(super) fn create_link(
    program: &OwnedFd,
    path: &str,
    points: &Points,
    (attach, multi_flags, pid): (AttachType, u32, Pid),
) -> io::Result<OwnedFd> {
    let path = CString::new(path).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let attr = LinkAttr {
        prog_fd: program.as_raw_fd() as u32,
        target_fd: 0,
        attach_type: attach as u32,
        flags: 0,
        path: path.as_ptr() as u64,
        offsets: points.offsets.as_ptr() as u64,
        ref_ctr_offsets: if points.semaphores.iter().all(|semaphore| *semaphore == 0) { 0 } else { points.semaphores.as_ptr() as u64 },
        cookies: points.cookies.as_ptr() as u64,
        cnt: points.offsets.len() as u32,
        multi_flags,
        pid: pid.0,
        reserved: 0,
    };
    // SAFETY: the attributes, and all that they point to, outlive the call.
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, LINK_CREATE, &raw const attr, size_of::<LinkAttr>() - 4) })
}
