//! Matching a process name against a pattern of `*` and `?`: bounded, without a branch that the verifier cannot follow.

use crate::limits::COMM_BYTES;

/// Whether `name` matches `pattern`, both NUL-padded: `*` any run of bytes, `?` any one byte, anything else itself.
///
/// The set of positions in the pattern that are still possible is kept as bits (a pattern of 15 bytes has 16), so that each byte of the name
/// costs one pass without backtracking.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "a loop with a fixed number of rounds over fixed arrays is what the verifier can follow")]
pub fn glob_matches(pattern: &[u8; COMM_BYTES], name: &[u8; COMM_BYTES]) -> bool {
    let mut live = skip_stars(pattern, 1);
    for at in 0..COMM_BYTES {
        let byte = name[at];
        if byte == 0 {
            break;
        }
        let mut next = 0u32;
        for position in 0..COMM_BYTES {
            if live & (1 << position) != 0 {
                let wanted = pattern[position];
                if wanted == b'*' {
                    next |= 1 << position;
                } else if wanted != 0 && (wanted == b'?' || wanted == byte) {
                    next |= 1 << (position + 1);
                }
            }
        }
        live = skip_stars(pattern, next);
    }
    let mut end = COMM_BYTES;
    for position in (0..COMM_BYTES).rev() {
        if pattern[position] == 0 {
            end = position;
        }
    }
    live & (1 << end) != 0
}

/// A star may stand for nothing: whoever is at one may also be behind it.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "as above")]
fn skip_stars(pattern: &[u8; COMM_BYTES], mut live: u32) -> u32 {
    for position in 0..COMM_BYTES {
        if live & (1 << position) != 0 && pattern[position] == b'*' {
            live |= 1 << (position + 1);
        }
    }
    live
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn padded(text: &str) -> [u8; COMM_BYTES] {
        let mut out = [0; COMM_BYTES];
        out[..text.len()].copy_from_slice(text.as_bytes());
        out
    }

    fn slow(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some(b'*'), _) => slow(&pattern[1..], name) || (!name.is_empty() && slow(pattern, &name[1..])),
            (Some(p), Some(n)) => (*p == b'?' || p == n) && slow(&pattern[1..], &name[1..]),
            _ => false,
        }
    }

    #[test]
    fn known_cases() {
        for (pattern, name, expected) in [
            ("nginx", "nginx", true),
            ("nginx", "nginx2", false),
            ("ngin", "nginx", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("post*", "postgres", true),
            ("*gres", "postgres", true),
            ("p?st*s", "postgres", true),
            ("**", "x", true),
            ("123456789012345", "123456789012345", true),
        ] {
            assert_eq!(glob_matches(&padded(pattern), &padded(name)), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_recursive_definition(pattern in "[ab*?]{0,15}", name in "[ab]{0,15}") {
            prop_assert_eq!(glob_matches(&padded(&pattern), &padded(&name)), slow(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
