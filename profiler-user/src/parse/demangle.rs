//! Linkage names to readable ones, in bounded time and size.

use crate::model::answer::{TEXT_MAX_BYTES, bounded};
use std::fmt::{self, Write};

/// How deep a C++ name may nest before it stays as it is.
const DEPTH_MAX: u32 = 128;

/// The readable name and the linkage name, from the name as the file has it; the same twice where there is nothing to demangle.
pub fn names(raw: &str) -> (String, String) {
    let raw = bounded(raw);
    (demangled(raw).unwrap_or_else(|| raw.to_owned()), raw.to_owned())
}

/// The readable form of a mangled name: Rust's both schemes (without the hash) and C++. `None`: not mangled, or too long or too deep to be worth it.
pub fn demangled(raw: &str) -> Option<String> {
    if raw.len() >= TEXT_MAX_BYTES {
        return None;
    }
    // Symbols of versioned or cloned functions carry a suffix (`.part.0`, `.cold`, `@@GLIBC_2.34`) that C++ demanglers take, and Rust's too.
    if let Ok(name) = rustc_demangle::try_demangle(raw) {
        return write_bounded(format_args!("{name:#}"));
    }
    if !(raw.starts_with("_Z") || raw.starts_with("__Z") || raw.starts_with("_GLOBAL_")) {
        return None;
    }
    let parsing = cpp_demangle::ParseOptions::default().recursion_limit(DEPTH_MAX);
    let symbol = cpp_demangle::Symbol::new_with_options(raw, &parsing).ok()?;
    let mut out = Bounded::default();
    let options = cpp_demangle::DemangleOptions::default().recursion_limit(DEPTH_MAX);
    symbol.structured_demangle(&mut out, &options).ok()?;
    out.finish()
}

fn write_bounded(text: fmt::Arguments<'_>) -> Option<String> {
    let mut out = Bounded::default();
    out.write_fmt(text).ok()?;
    out.finish()
}

/// Text that refuses to grow beyond [`TEXT_MAX_BYTES`]: a few bytes of a mangled name can stand for gigabytes (each substitution doubles it).
#[derive(Default)]
struct Bounded(String);

impl Bounded {
    fn finish(self) -> Option<String> {
        (!self.0.is_empty()).then_some(self.0)
    }
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.0.len() + part.len() > TEXT_MAX_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mangled_names_become_readable_and_keep_their_linkage_name() {
        for (raw, readable) in [
            ("_ZN4core3fmt9Formatter3pad17h1234567890abcdefE", "core::fmt::Formatter::pad"),
            ("_RNvCskwGfYPst2Cb_3foo16example_function", "foo::example_function"),
            ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back(int const&)"),
            ("_Z3addii.part.0", "add(int, int) [clone .part.0]"),
        ] {
            assert_eq!(names(raw), (readable.to_owned(), raw.to_owned()));
        }
    }

    #[test]
    fn a_plain_name_is_both() {
        assert_eq!(names("main.(*T).M"), ("main.(*T).M".into(), "main.(*T).M".into()));
        assert_eq!(names("push<int>"), ("push<int>".into(), "push<int>".into()));
    }

    #[test]
    fn a_name_of_ten_megabytes_stays_mangled_and_is_cut() {
        let raw = format!("_Z{}", "N1a".repeat(4_000_000));
        let (name, system_name) = names(&raw);
        assert!(name == system_name && name.len() == TEXT_MAX_BYTES);
    }

    #[test]
    fn a_name_that_doubles_with_every_substitution_is_refused() {
        let mut raw = String::from("_Z1fSt4pairIiiE");
        for depth in 0..60 {
            let before = if depth == 0 {
                "S0_".to_owned()
            } else {
                format!("S{}_", char::from_digit(depth % 36, 36).unwrap_or_default().to_ascii_uppercase())
            };
            raw.push_str(&format!("St4pairI{before}{before}E"));
        }
        let started = std::time::Instant::now();
        let (name, _) = names(&raw);
        assert!(name.len() <= TEXT_MAX_BYTES && started.elapsed().as_secs() < 2);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(raw in "(_Z|_R|_ZN)?[0-9A-Za-z_.$<>]{0,200}") {
            let (name, system_name) = names(&raw);
            prop_assert!(name.len() <= TEXT_MAX_BYTES && system_name.len() <= TEXT_MAX_BYTES);
        }
    }
}
