//! Probes in other processes, as the kernel shows them.

use crate::run::Running;
use anyhow::Result;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};

/// Links of many probes that a profiler holds.
///
/// # Errors
/// It is gone.
pub fn links(running: &Running) -> Result<usize> {
    let mut links = 0;
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", running.pid()))? {
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        links += usize::from(info.lines().any(|line| line.starts_with("link_type:") && line.contains("probe_multi")));
    }
    Ok(links)
}

/// How many bytes of a process's code are other than in its files; and whether the kernel has a page of its own for probes there.
///
/// # Errors
/// It is gone, or not ours to read.
pub fn changed(pid: u32) -> Result<(usize, bool)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    Ok((places(pid)?.len(), maps.contains("[uprobes]")))
}

/// Where a process's code is other than in its files: the file, the offset there, and what stands there instead.
///
/// # Errors
/// It is gone, or not ours to read.
pub fn places(pid: u32) -> Result<Vec<(String, u64, u8)>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    let mut changed = Vec::new();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [range, rights, offset, _, _, path] = words[..] else { continue };
        let (Some((first, last)), true, true) = (range.split_once('-'), rights.contains('x'), path.starts_with('/')) else { continue };
        let number = |text: &str| u64::from_str_radix(text, 16);
        let (first, last, offset) = (number(first)?, number(last)?, number(offset)?);
        let mut code = vec![0; (last - first) as usize];
        memory.seek(SeekFrom::Start(first))?;
        memory.read_exact(&mut code)?;
        let file = fs::read(path)?;
        let pairs = (offset..).zip(code.iter().zip(&file[offset as usize..]));
        changed.extend(pairs.filter(|(_, (here, there))| here != there).map(|(at, (here, _))| (path.to_owned(), at, *here)));
    }
    Ok(changed)
}
