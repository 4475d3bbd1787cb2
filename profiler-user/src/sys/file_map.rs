//! A file as bytes in memory. Only a process that may die does this: whoever truncates the file while it is mapped makes the next read a `SIGBUS`,
//! and that is why a reader maps files of targets and the profiler itself never does.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A private, read-only mapping of a whole file.
#[derive(Debug)]
pub struct FileMap {
    address: *const u8,
    length: usize,
}

impl FileMap {
    /// Maps `length` bytes of the file from its beginning; an empty file is an empty slice.
    ///
    /// # Errors
    /// The file cannot be mapped: not a regular file, no memory, larger than the address space.
    pub fn new(file: BorrowedFd<'_>, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        if length == 0 {
            return Ok(Self { address: std::ptr::null(), length });
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { address: address.cast(), length })
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: the mapping is `length` bytes long, readable, and lives as long as `self`. Another process may write to the file meanwhile: the bytes are
        // only ever read as plain integers by code that checks each value it has read, and a truncation ends this process, as the module says.
        unsafe { std::slice::from_raw_parts(self.address, self.length) }
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: address and length are those of our own mapping, and no slice of it outlives `self`.
            unsafe { libc::munmap(self.address.cast_mut().cast(), self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FileMap;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_file_reads_as_its_bytes() {
        let name = std::env::temp_dir().join(format!("file-map-{}", std::process::id()));
        let mut file = std::fs::File::options().create(true).truncate(true).read(true).write(true).open(&name).unwrap();
        assert_eq!(FileMap::new(file.as_fd(), 0).unwrap().bytes(), b"");
        file.write_all(b"some bytes").unwrap();
        assert_eq!(FileMap::new(file.as_fd(), 10).unwrap().bytes(), b"some bytes");
        std::fs::remove_file(name).unwrap();
    }
}
