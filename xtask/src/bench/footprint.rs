//! What the profiler and all its processes hold: their memory, the maps of their programs, the rings of their events. What is mapped of a map counts once,
//! as the map.

use anyhow::{Context, Result};
use std::fs;

/// Bytes, by where they are.
#[derive(Clone, Copy, Default)]
pub(super) struct Footprint {
    /// Resident memory of all processes, without maps. Pages that they share are counted in each: an upper bound.
    pub(super) processes: u64,
    /// Locked by maps.
    pub(super) maps: u64,
    /// Rings of perf events.
    pub(super) rings: u64,
}

impl Footprint {
    /// Of a running profiler.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let mut sum = Self { maps: locked_by_maps(pid)?, ..Self::default() };
        for member in family(pid) {
            // A reader that ends meanwhile has given its memory back.
            let mapped = fs::read_to_string(format!("/proc/{member}/smaps")).unwrap_or_default();
            let mut kind = "";
            for line in mapped.lines() {
                let mut words = line.split_whitespace();
                match (words.next(), words.next()) {
                    (Some("Rss:"), Some(kb)) if kind != "anon_inode:bpf-map" => sum.processes += kb.parse::<u64>()? << 10,
                    (Some("Size:"), Some(kb)) if kind == "anon_inode:[perf_event]" => sum.rings += kb.parse::<u64>()? << 10,
                    (Some(first), _) if !first.ends_with(':') => kind = line.split_whitespace().nth(5).unwrap_or_default(),
                    _ => {}
                }
            }
        }
        Ok(sum)
    }

    /// All of it, MB.
    pub(super) fn mb(self) -> f64 {
        (self.processes + self.maps + self.rings) as f64 / f64::from(1 << 20)
    }

    /// The parts, in words.
    pub(super) fn parts(self) -> String {
        let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!("{:.1} MB in processes, {:.1} MB in maps, {:.1} MB in rings", mb(self.processes), mb(self.maps), mb(self.rings))
    }
}

/// A process and its children.
pub(super) fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for list in threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok()) {
        all.extend(list.split_whitespace().filter_map(|child| child.parse().ok()).flat_map(family));
    }
    all
}

/// Bytes that the maps behind a process's descriptors lock; a map with two descriptors counts once.
fn locked_by_maps(pid: u32) -> Result<u64> {
    let mut maps = std::collections::BTreeMap::new();
    for descriptor in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let info = fs::read_to_string(descriptor?.path()).unwrap_or_default();
        if let (Some(id), Some(bytes)) = (field(&info, "map_id:"), field(&info, "memlock:")) {
            maps.insert(id, bytes);
        }
    }
    Ok(maps.values().sum())
}

/// A number behind its name at the beginning of a line.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// CPU seconds of all its processes so far, without what their programs take in the kernel.
///
/// # Errors
/// It is gone.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for member in family(pid) {
        for thread in fs::read_dir(format!("/proc/{member}/task")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            sum += text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9;
        }
    }
    (sum > 0.0).then_some(sum).context("the profiler is gone")
}
