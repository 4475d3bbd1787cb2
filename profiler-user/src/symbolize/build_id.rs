//! Build ids: the kernel's own, and how they are written.

use std::fs::File;
use std::io::Read as _;

/// Bytes in lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// GNU build id of the running kernel in lower-case hex, from `/sys/kernel/notes`; None if it has none or they are not there.
pub(super) fn of_kernel() -> Option<String> {
    let mut notes = Vec::new();
    File::open("/sys/kernel/notes").ok()?.take(64 << 10).read_to_end(&mut notes).ok()?;
    build_id_in(&notes).map(hex)
}

/// The note of type 3 (NT_GNU_BUILD_ID) of `GNU`. A note is three words (length of name, length of content, type), then both, each padded to 4 bytes.
fn build_id_in(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let word = |at: usize| Some(u32::from_ne_bytes(notes.get(at..at + 4)?.try_into().ok()?));
        let (name_len, len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let name = notes.get(12..12 + name_len)?;
        let content_at = 12 + name_len.next_multiple_of(4);
        let content = notes.get(content_at..content_at + len)?;
        if kind == 3 && name == b"GNU\0" {
            return Some(content);
        }
        notes = notes.get(content_at + len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_id_is_found_behind_other_notes() {
        let mut notes = Vec::new();
        for (kind, name, content) in [(1u32, &b"Linux\0"[..], &[9u8; 5][..]), (3, b"GNU\0", &[0xab; 20])] {
            for word in [name.len() as u32, content.len() as u32, kind] {
                notes.extend(word.to_ne_bytes());
            }
            for part in [name, content] {
                notes.extend(part);
                notes.resize(notes.len().next_multiple_of(4), 0);
            }
        }
        assert_eq!(build_id_in(&notes), Some(&[0xab; 20][..]));
        assert_eq!(build_id_in(&notes[..notes.len() - 1]), None);
    }
}
