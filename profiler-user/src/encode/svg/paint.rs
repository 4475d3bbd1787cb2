//! Hues and numbers of the flame graph. The hue says what a frame is; the shade says to which module it belongs, so that neighbours of one
//! module look alike. Classes stand in `style.css`.

use super::tree::{Node, Stands};

/// Shades of a hue that has shades.
const SHADES: u32 = 8;

/// The class of a node's rectangle.
pub(super) fn class(node: &Node<'_>) -> String {
    match node.stands {
        Stands::All => "s0".to_owned(),
        Stands::Process => "s1".to_owned(),
        Stands::User => format!("u{}", shade(module(&node.name))),
        Stands::Kernel => format!("k{}", shade(&node.name)),
        Stands::Unresolved => "n0".to_owned(),
        Stands::Lost => "l0".to_owned(),
    }
}

/// FNV-1a: the same name has the same shade on every machine.
fn shade(text: &str) -> u32 {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash >> 16) % SHADES
}

/// What stands before a function's own name: `a::b` of `a::b::f<T>`, `net/http` of `net/http.(*conn).serve`, or the name itself.
fn module(name: &str) -> &str {
    let name = name.trim_start_matches(['<', '&']);
    let plain = &name[..name.find(['<', '(', ' ']).unwrap_or(name.len())];
    if let Some(end) = plain.rfind("::") {
        return &plain[..end];
    }
    let package = plain.rfind('/').map_or(0, |slash| slash + 1);
    match plain[package..].find('.') {
        Some(dot) if package + dot > 0 => &plain[..package + dot],
        _ => plain,
    }
}

/// A duration with three digits or more, and its unit.
pub(super) fn nanoseconds(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        n if n >= 1e9 => (n / 1e9, "s"),
        n if n >= 1e6 => (n / 1e6, "ms"),
        n if n >= 1e3 => (n / 1e3, "\u{b5}s"),
        n => (n, "ns"),
    };
    let digits = if value >= 100.0 { 0 } else { 2 };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

/// A number with its thousands apart.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{grouped, module, nanoseconds};

    #[test]
    fn functions_of_one_module_share_it() {
        for (name, expected) in [
            ("alloc::vec::Vec<T>::push", "alloc::vec"),
            ("<core::iter::Map<I, F> as Iterator>::next", "core::iter"),
            ("net/http.(*conn).serve", "net/http"),
            ("runtime.mallocgc", "runtime"),
            ("memcpy", "memcpy"),
            ("std::sort(int*, int*)", "std"),
            (".text", ".text"),
            ("", ""),
        ] {
            assert_eq!(module(name), expected, "{name}");
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(-1_234_567), "-1,234,567");
        assert_eq!(grouped(999), "999");
        for (value, text) in [(0.0, "0 ns"), (1.5e9, "1.5 s"), (310e6, "310 ms"), (2e9, "2 s"), (1234.0, "1.23 \u{b5}s"), (120e9, "120 s")]
        {
            assert_eq!(nanoseconds(value), text);
        }
    }
}
