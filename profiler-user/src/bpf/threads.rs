//! A look at every thread of a process, or of all: the task iterator, attached to one process or to none and read like a file. aya 0.14 attaches iterators to everything that runs, so
//! the two calls are ours.

use super::error::BpfError;
use super::probe_programs::descriptor;
use crate::model::process::Pid;
use profiler_common::limits::KERNEL_FRAMES_MAX;
use profiler_common::snapshot::ThreadRecord;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use zerocopy::FromBytes as _;

// include/uapi/linux/bpf.h
const LINK_CREATE: libc::c_int = 28;
const ITER_CREATE: libc::c_int = 33;
const TRACE_ITER: u32 = 28;

/// Threads of one process that are taken; the kernel's own bound (`FUTEX_TID_MASK`) is far above what a machine runs.
const THREADS_MAX: usize = 1 << 20;

/// `union bpf_attr`, the part for `BPF_LINK_CREATE`.
#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    reserved: u32,
}

/// `union bpf_iter_link_info`, the part for tasks (6.1).
#[repr(C)]
#[derive(Default)]
struct IterInfo {
    tid: u32,
    pid: u32,
    pid_fd: u32,
    reserved: u32,
}

/// `union bpf_attr`, the part for `BPF_ITER_CREATE`.
#[repr(C)]
struct IterAttr {
    link_fd: u32,
    flags: u32,
}

/// A thread as it was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenThread {
    /// What the kernel knows of it.
    pub record: ThreadRecord,
    /// Its kernel stack, leaf first, if it was asked for.
    pub kernel: Vec<u64>,
}

/// The iterator over the threads of one process, and its program: for one over a single thread.
#[derive(Debug)]
pub(super) struct ThreadIterator {
    program: OwnedFd,
    link: OwnedFd,
}

impl ThreadIterator {
    /// Of one process, or of all.
    pub(super) fn open(program: BorrowedFd<'_>, pid: Option<Pid>) -> Result<Self, BpfError> {
        let whose = || pid.map_or("all processes".to_owned(), |pid| format!("process {}", pid.0));
        let failed = |error: io::Error| BpfError::Load(format!("attaching the iterator over the threads of {}: {error}", whose()));
        let link = attach(program, IterInfo { pid: pid.map_or(0, |pid| pid.0), ..IterInfo::default() }).map_err(failed)?;
        Ok(Self { program: program.try_clone_to_owned().map_err(failed)?, link })
    }

    /// All threads as they are now.
    pub(super) fn read(&self) -> Result<Vec<SeenThread>, BpfError> {
        Ok(parse(&self.read_bytes()?))
    }

    /// Some of them, one by one: of 2,000 threads all of them take 2 ms, and one 20 us. One that has ended is left out.
    pub(super) fn read_some(&self, tids: impl Iterator<Item = u32>) -> Result<Vec<SeenThread>, BpfError> {
        let mut seen = Vec::new();
        for tid in tids {
            if let Ok(link) = attach(self.program.as_fd(), IterInfo { tid, ..IterInfo::default() }) {
                seen.extend(parse(&Self::bytes_of(&link)?));
            }
        }
        Ok(seen)
    }

    /// All that the program writes.
    pub(super) fn read_bytes(&self) -> Result<Vec<u8>, BpfError> {
        Self::bytes_of(&self.link)
    }

    fn bytes_of(link: &OwnedFd) -> Result<Vec<u8>, BpfError> {
        let failed = |error: io::Error| BpfError::Load(format!("reading the threads of a process: {error}"));
        let attr = IterAttr { link_fd: link.as_raw_fd() as u32, flags: 0 };
        // SAFETY: the attributes outlive the call.
        let iterator = descriptor(unsafe { libc::syscall(libc::SYS_bpf, ITER_CREATE, &raw const attr, size_of::<IterAttr>()) });
        let mut bytes = Vec::with_capacity(1 << 16);
        let most = THREADS_MAX * (size_of::<ThreadRecord>() + 8 * KERNEL_FRAMES_MAX);
        File::from(iterator.map_err(failed)?).take(most as u64).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }
}

fn attach(program: BorrowedFd<'_>, info: IterInfo) -> io::Result<OwnedFd> {
    let attr = LinkAttr {
        prog_fd: program.as_raw_fd() as u32,
        attach_type: TRACE_ITER,
        iter_info: (&raw const info) as u64,
        iter_info_len: size_of::<IterInfo>() as u32,
        ..LinkAttr::default()
    };
    // SAFETY: the attributes and what they point to outlive the call.
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, LINK_CREATE, &raw const attr, size_of::<LinkAttr>()) })
}

/// The records one behind the other, each with its kernel frames.
pub(super) fn parse(mut bytes: &[u8]) -> Vec<SeenThread> {
    let mut threads = Vec::new();
    while let Some((thread, rest)) = parse_one(bytes) {
        threads.push(thread);
        bytes = rest;
    }
    threads
}

/// The first record, and what stands behind it.
pub(super) fn parse_one(bytes: &[u8]) -> Option<(SeenThread, &[u8])> {
    let (record, rest) = ThreadRecord::read_from_prefix(bytes).ok()?;
    let length = (record.kernel_frames as usize).min(KERNEL_FRAMES_MAX) * 8;
    let (frames, rest) = rest.split_at_checked(length)?;
    let kernel = frames.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default())).collect();
    Some((SeenThread { record, kernel }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    #[test]
    fn records_are_read_one_behind_the_other_and_a_torn_one_is_left_out() {
        let record = |tid, kernel_frames| ThreadRecord { tid, kernel_frames, ..ThreadRecord::new_zeroed() };
        let mut bytes = record(1, 2).as_bytes().to_vec();
        bytes.extend([7u64, 8].as_bytes());
        bytes.extend(record(2, 0).as_bytes());
        bytes.extend(record(3, 5).as_bytes());
        let threads = parse(&bytes);
        assert_eq!(threads.iter().map(|seen| (seen.record.tid, seen.kernel.clone())).collect::<Vec<_>>(), [(1, vec![7, 8]), (2, vec![])]);
    }
}
