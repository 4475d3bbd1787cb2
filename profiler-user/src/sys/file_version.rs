//! The generation of a file: inode numbers are used again, and this tells which of the files that had one it is.

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// `FS_IOC_GETVERSION` of include/uapi/linux/fs.h.
const GET_VERSION: libc::Ioctl = 0x8008_7601;

/// The `i_generation` of an open file; None where its file system does not say.
pub fn generation(file: BorrowedFd<'_>) -> Option<u32> {
    // Declared as a long, written as an int.
    let mut version = 0_u64;
    // SAFETY: the kernel writes at most 8 bytes to the local.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), GET_VERSION, &raw mut version) };
    (result == 0).then_some(version as u32)
}
