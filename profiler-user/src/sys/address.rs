//! How wide an address of user space is on this machine.

/// Bits of an address of user space on arm64, above which a return address may hold the code that signs it; 0 elsewhere.
pub fn address_bits() -> u32 {
    if cfg!(target_arch = "aarch64") { bits_of(&std::fs::read_to_string("/proc/self/maps").unwrap_or_default()) } else { 0 }
}

/// The kernel puts the first stack at the end of user space, less a random distance that is small beside it.
fn bits_of(maps: &str) -> u32 {
    let stack = maps.lines().find(|line| line.ends_with("[stack]")).and_then(|line| line.split_once('-'));
    let end = stack.and_then(|(start, _)| u64::from_str_radix(start, 16).ok()).unwrap_or(0);
    if end == 0 { 48 } else { 64 - end.leading_zeros() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_lies_at_the_end_of_user_space() {
        assert_eq!(bits_of("aaaad0bc0000-aaaad0bc1000 r-xp 0 00:00 0 /bin/a\nffffe1a51000-ffffe1a72000 rw-p 0 00:00 0     [stack]\n"), 48);
        assert_eq!(bits_of("7fe1a51000-7fe1a72000 rw-p 0 00:00 0     [stack]\n"), 39);
        assert_eq!(bits_of(""), 48);
    }
}
