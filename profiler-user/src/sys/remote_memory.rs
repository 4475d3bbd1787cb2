//! Memory of another process. `process_vm_readv` and nothing else: where a page of a hostile file system does not come, it keeps its caller waiting and nobody
//! beside it. Whoever calls this must be a process that can be killed.

use std::io;

/// Fills the buffer from an address of a process; gives how many bytes came before memory that cannot be read.
///
/// # Errors
/// `ESRCH` without such a process, `EPERM` without the right, `EFAULT` where nothing can be read at the address.
pub fn read(pid: u32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: into.len() };
    // SAFETY: the kernel writes at most `into.len()` bytes into our own buffer, which is borrowed for as long; the other address is one of another process,
    // which it checks, and only reads.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn our_own_memory_reads_as_it_is_and_what_is_not_there_is_an_error() {
        let there = [1u8, 2, 3];
        let mut into = [0; 3];
        assert_eq!(read(std::process::id(), there.as_ptr() as u64, &mut into).unwrap(), 3);
        assert_eq!(into, there);
        assert_eq!(read(std::process::id(), 8, &mut into).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        assert_eq!(read(u32::MAX, 8, &mut into).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
