//! The page of code that the kernel gives each process: one image for all of them, copied out of our own memory into a file that a reader can parse.

use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;

/// Bytes that a vdso has at most.
const VDSO_BYTES_MAX: u64 = 64 << 10;

/// A file with the vdso's image; None if this kernel has none.
pub fn vdso_image() -> Option<OwnedFd> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let range = maps.lines().find(|line| line.ends_with("[vdso]"))?.split_whitespace().next()?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let mut image = vec![0; usize::try_from(end.checked_sub(start)?.min(VDSO_BYTES_MAX)).ok()?];
    // Our own memory: no other process can make this wait.
    let mut memory = File::open("/proc/self/mem").ok()?;
    memory.seek(SeekFrom::Start(start)).ok()?;
    memory.read_exact(&mut image).ok()?;
    let mut file = File::from(memfd_create("vdso", MemfdFlags::CLOEXEC).ok()?);
    file.write_all(&image).ok()?;
    Some(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_elf_file() {
        let mut file = File::from(vdso_image().expect("this kernel has one"));
        let mut magic = [0; 4];
        file.seek(SeekFrom::Start(0)).expect("a file");
        file.read_exact(&mut magic).expect("not empty");
        assert_eq!(&magic, b"\x7fELF");
    }
}
