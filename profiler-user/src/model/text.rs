//! Names are bytes from a stranger: how every face makes them safe to show.

use std::borrow::Cow;

/// The bytes as text: invalid UTF-8 replaced, nothing escaped yet.
pub fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Whether a character could change how a terminal, or a reader, shows what stands around it.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text with control characters and direction marks written as `\u{..}`; everything else as it is. The last step before a terminal.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// A word as a shell takes it back, safe to show.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./{}+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", printable(text).replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::{printable, shell_word};

    #[test]
    fn a_shell_reads_a_word_back() {
        assert_eq!(shell_word("/a/b.prof"), "/a/b.prof");
        assert_eq!(shell_word("my dir's"), r"'my dir'\''s'");
    }

    #[test]
    fn escapes_only_what_is_dangerous() {
        assert_eq!(printable("main::f<T>"), "main::f<T>");
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a\\u{1b}[31mb\\u{a}c");
        assert_eq!(printable("x\u{202e}y"), "x\\u{202e}y");
    }
}
