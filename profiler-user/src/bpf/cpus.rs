//! Which CPUs are on line.

use super::error::BpfError;

/// The numbers of the CPUs that are on line now.
pub(super) fn online() -> Result<Vec<u32>, BpfError> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").map_err(BpfError::Cpus)?;
    Ok(parse_list(text.trim()))
}

/// `0-3,8` to numbers; what does not read as one is left out.
fn parse_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            cpus.extend(first..=last.min(first.saturating_add(65_535)));
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::parse_list;

    #[test]
    fn reads_the_kernels_lists() {
        assert_eq!(parse_list("0-1"), [0, 1]);
        assert_eq!(parse_list("0,2-4,7"), [0, 2, 3, 4, 7]);
        assert!(parse_list("").is_empty());
    }
}
