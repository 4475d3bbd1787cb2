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
    let mut memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    let mut changed = 0;
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [range, rights, offset, _, _, path] = words[..] else { continue };
        let (Some((first, last)), true, true) = (range.split_once('-'), rights.contains('x'), path.starts_with('/')) else { continue };
        let number = |text: &str| u64::from_str_radix(text, 16);
        let mut code = vec![0; (number(last)? - number(first)?) as usize];
        memory.seek(SeekFrom::Start(number(first)?))?;
        memory.read_exact(&mut code)?;
        let file = fs::read(path)?;
        let file = &file[number(offset)? as usize..];
        changed += code.iter().zip(file).filter(|(here, there)| here != there).count();
    }
    Ok((changed, maps.contains("[uprobes]")))
}
