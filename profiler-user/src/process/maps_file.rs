//! `/proc/PID/maps`: what a process that already runs has mapped. Its form is the kernel's; the path in it is a stranger's bytes.

use crate::model::mapping::{InodeId, MappedRange};
use crate::model::process::Pid;
use std::io::{self, BufRead as _, BufReader};

/// Ranges of one process at most: what the kernel allows by default (`vm.max_map_count` is 65,530) and some.
const RANGES_MAX: usize = 70_000;

/// The executable ranges of a process, in the order of their addresses.
///
/// # Errors
/// The process is gone, or may not be looked at.
pub fn read_ranges(pid: Pid) -> io::Result<Vec<MappedRange>> {
    let mut lines = BufReader::with_capacity(64 << 10, std::fs::File::open(format!("/proc/{}/maps", pid.0))?);
    let (mut ranges, mut line) = (Vec::new(), Vec::new());
    while ranges.len() < RANGES_MAX {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        ranges.extend(parse_line(line.strip_suffix(b"\n").unwrap_or(&line)).filter(|range| range.end > range.start));
    }
    Ok(ranges)
}

/// One line; None if it is not executable, or does not read as a line. Everything behind the inode and its blanks is the path, blanks and all.
fn parse_line(line: &[u8]) -> Option<MappedRange> {
    let mut rest = line;
    let mut field = || {
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let (field, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        std::str::from_utf8(field).ok()
    };
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?;
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let file_offset = field()?;
    let (major, minor) = field()?.split_once(':')?;
    let inode = field()?.parse().ok()?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let path = rest.iter().position(|byte| *byte != b' ').map_or(&[][..], |at| &rest[at..]);
    Some(MappedRange {
        start: hex(start)?,
        end: hex(end)?,
        file_offset: hex(file_offset)?,
        file: InodeId { major: u32::from_str_radix(major, 16).ok()?, minor: u32::from_str_radix(minor, 16).ok()?, inode },
        generation: None,
        path: path.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn executable_lines_keep_their_paths_whole() {
        let range = parse_line(b"7f0000001000-7f0000003000 r-xp 00001000 fe:01 1234                       /usr/lib/lib x (deleted)")
            .expect("a range");
        assert_eq!((range.start, range.end, range.file_offset), (0x7f00_0000_1000, 0x7f00_0000_3000, 0x1000));
        assert_eq!(range.file, InodeId { major: 0xfe, minor: 1, inode: 1234 });
        assert_eq!(range.path, b"/usr/lib/lib x (deleted)");
        let anonymous = parse_line(b"7f0000001000-7f0000003000 rwxp 00000000 00:00 0 ").expect("a range");
        assert!(anonymous.path.is_empty());
        assert_eq!(parse_line(b"7f0000001000-7f0000003000 rw-p 00000000 00:00 0 "), None);
    }

    #[test]
    fn our_own_maps_have_code() {
        let ranges = read_ranges(Pid(std::process::id())).expect("our own");
        let here = our_own_maps_have_code as *const () as u64;
        assert!(ranges.iter().any(|range| range.start <= here && here < range.end));
    }

    proptest! {
        #[test]
        fn any_line_parses_or_is_refused(line in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse_line(&line);
        }
    }
}
