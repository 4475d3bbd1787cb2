//! Files by the names that users have for them.

/// Whether a file is meant: by its path, its name, or its name without a version.
pub(super) fn is_file(library: &str, path: &[u8]) -> bool {
    let library = library.as_bytes();
    if library.contains(&b'/') {
        return library == path;
    }
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    let is_version = |rest: &[u8]| rest.starts_with(b".so") || rest.starts_with(b"-") && rest.get(1).is_some_and(u8::is_ascii_digit);
    name.strip_prefix(library)
        .is_some_and(|rest| rest.is_empty() || is_version(rest) || library.ends_with(b".so") && rest.starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::is_file;

    #[test]
    fn a_library_is_known_by_its_name_with_and_without_its_version() {
        let path = b"/usr/lib/x86_64-linux-gnu/libc.so.6";
        for name in ["libc.so.6", "libc.so", "libc", "/usr/lib/x86_64-linux-gnu/libc.so.6"] {
            assert!(is_file(name, path), "{name}");
        }
        for name in ["lib", "libc.so.5", "/lib/libc.so.6", "libm", "libc.s"] {
            assert!(!is_file(name, path), "{name}");
        }
        assert!(is_file("program", b"/tmp/program (deleted)") && is_file("libx", b"/libx-2.31.so"));
    }
}
