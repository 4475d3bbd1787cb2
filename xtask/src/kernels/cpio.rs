//! A file system in memory as the kernel takes it at its start: an archive in the `newc` form (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::path::Path;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An archive at work.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    inodes: u32,
    folders: BTreeSet<String>,
}

impl Archive {
    /// Adds a folder and those that it lies in.
    pub(super) fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if let Some(parent) = Path::new(path).parent().and_then(Path::to_str).filter(|parent| !parent.is_empty()) {
            self.folder(parent);
        }
        if !path.is_empty() && self.folders.insert(path.to_owned()) {
            self.entry(path, FOLDER, &[]);
        }
    }

    /// Adds a file that can be executed.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) {
        let path = path.trim_start_matches('/');
        if let Some(parent) = Path::new(path).parent().and_then(Path::to_str) {
            self.folder(parent);
        }
        self.entry(path, PROGRAM, contents);
    }

    /// The whole.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.inodes += 1;
        // inode, mode, user, group, links, time, size, device and that of a device file (two numbers each), length of the name, checksum
        let fields = [self.inodes, mode, 0, 0, 1, 0, contents.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_its_form() {
        let mut archive = Archive::default();
        archive.file("/a/b", b"hello");
        let bytes = archive.finish();
        let header = |at: usize| String::from_utf8_lossy(&bytes[at..at + 110]).into_owned();
        assert!(header(0).starts_with("07070100000001000041ed"));
        assert_eq!(&bytes[110..112], b"a\0");
        assert!(header(112).contains("000081ed") && header(112).contains("00000005"));
        assert_eq!(&bytes[222..226], b"a/b\0");
        assert_eq!(&bytes[228..236], b"hello\0\0\0");
        assert!(bytes.len().is_multiple_of(4) && String::from_utf8_lossy(&bytes).contains("TRAILER!!!"));
    }
}
