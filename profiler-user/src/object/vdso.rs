//! The page of code that the kernel maps into every process: ours is everybody's.

use super::look::{OpenedFile, object_id, stat_quietly};
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io::{self, BufRead as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

/// More than any vDSO has, bytes.
const VDSO_MAX_BYTES: u64 = 1 << 20;

/// A copy of the vDSO as a file in memory.
///
/// # Errors
/// There is none, or `/proc/self` cannot be read.
pub fn vdso_image() -> io::Result<OpenedFile> {
    let lines = io::BufReader::new(File::open("/proc/self/maps")?).lines();
    let line = lines.map_while(Result::ok).find(|line| line.ends_with(" [vdso]")).ok_or(io::ErrorKind::NotFound)?;
    let (start, end) = range(&line).ok_or(io::ErrorKind::InvalidData)?;
    let mut image = vec![0; (end - start) as usize];
    File::open("/proc/self/mem")?.read_exact_at(&mut image, start)?;
    let descriptor = rustix::fs::memfd_create(c"vdso", MemfdFlags::CLOEXEC)?;
    let mut copy = File::from(descriptor);
    copy.write_all(&image)?;
    let stat = stat_quietly(copy.as_fd())?;
    Ok(OpenedFile { id: object_id(&stat), owner: 0, descriptor: copy.into() })
}

fn range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    (end > start && end - start <= VDSO_MAX_BYTES).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vdso_is_an_elf_file() {
        let image = vdso_image().expect("every process has one");
        let mut magic = [0; 4];
        File::from(image.descriptor).read_exact_at(&mut magic, 0).expect("four bytes");
        assert_eq!(&magic, b"\x7fELF");
        assert!(image.id.size >= 4096);
    }
}
