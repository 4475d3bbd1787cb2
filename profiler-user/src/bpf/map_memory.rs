//! What our maps take of the kernel's memory.

use std::fs;

/// Bytes of all maps that this process holds, by what the kernel says of their descriptors (`bpf_map_show_fdinfo` in kernel/bpf/syscall.c).
pub fn map_bytes() -> u64 {
    let Ok(descriptors) = fs::read_dir("/proc/self/fdinfo") else { return 0 };
    let texts = descriptors.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    texts.filter_map(|text| of_map(&text)).sum()
}

fn of_map(text: &str) -> Option<u64> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    field("map_type:")?;
    field("memlock:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_maps_count() {
        assert_eq!(of_map("pos:\t0\nmap_type:\t2\nmax_entries:\t1\nmemlock:\t320\n"), Some(320));
        assert_eq!(of_map("prog_type:\t5\nmemlock:\t4096\n"), None);
    }
}
