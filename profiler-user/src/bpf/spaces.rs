//! Address spaces whose sizes are followed: how large they are when that begins.

use super::error::BpfError;
use aya::maps::{HashMap, MapData};

/// The map of their sizes, pages: by where the kernel has a space, and, until it is met for the first time, by its process.
pub(super) struct Spaces(HashMap<MapData, u64, u64>);

impl Spaces {
    pub(super) fn new(map: HashMap<MapData, u64, u64>) -> Self {
        Self(map)
    }

    /// Notes the sizes of all that are there. What begins meanwhile is met where it is made.
    pub(super) fn note_all(&mut self) -> Result<(), BpfError> {
        let failed = |reason: String| BpfError::Map { map: "ADDRESS_SPACES", reason };
        for entry in std::fs::read_dir("/proc").map_err(|error| failed(error.to_string()))?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()) else { continue };
            let Some(pages) = std::fs::read_to_string(entry.path().join("statm")).ok().and_then(|text| total_pages(&text)) else {
                continue;
            };
            self.0.insert(pid, pages, 0).map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    }
}

/// The first number is that of all pages, of which the kernel keeps `mm_struct::total_vm` (proc_pid_statm(5)); a process without a space has none.
fn total_pages(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok().filter(|pages| *pages > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(total_pages("812 534 470 5 0 104 0\n"), Some(812));
        assert_eq!(total_pages("0 0 0 0 0 0 0\n"), None);
    }
}
