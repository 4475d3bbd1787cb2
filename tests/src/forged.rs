//! Programs that run as they did, but whose `.eh_frame` is forged: the section's header leads to the end of the file, where the old contents stand with what a
//! test adds. The loader looks at segments only.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The table of a program that is about to be forged.
#[derive(Debug)]
pub struct Forged {
    bytes: Vec<u8>,
    /// Where the section's header stands.
    header: usize,
    /// The section's own address, which its entries count from.
    pub address: u64,
    /// What will be its contents: at first the old ones, without the end mark.
    pub contents: Vec<u8>,
}

impl Forged {
    /// Reads a program for x86-64.
    ///
    /// # Errors
    /// It has no such section.
    pub fn of(program: &Path) -> Result<Self> {
        let bytes = fs::read(program)?;
        let (headers, count) = (word(&bytes, 40)? as usize, half(&bytes, 60)?);
        let names = headers + 64 * half(&bytes, 62)?;
        let names = word(&bytes, names + 24)? as usize;
        let is_table = |at: &usize| {
            let name = bytes.get(*at..).and_then(|rest| rest.first_chunk()).map(|name| u32::from_le_bytes(*name) as usize);
            name.and_then(|name| bytes.get(names + name..)).is_some_and(|name| name.starts_with(b".eh_frame\0"))
        };
        let header = (0..count).map(|index| headers + 64 * index).find(is_table).context("no .eh_frame")?;
        let (address, at, size) = (word(&bytes, header + 16)?, word(&bytes, header + 24)? as usize, word(&bytes, header + 32)? as usize);
        let mut contents = bytes.get(at..at + size).context("a section outside of its file")?.to_vec();
        ensure!(contents.ends_with(&[0; 4]), "no end mark");
        contents.truncate(contents.len() - 4);
        Ok(Self { bytes, header, address, contents })
    }

    /// Adds a common entry whose functions stand with distances of 4 bytes; gives where it is.
    pub fn add_common(&mut self) -> usize {
        let at = self.contents.len();
        let body = [0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1, 0, 0];
        self.contents.extend((body.len() as u32).to_le_bytes());
        self.contents.extend(body);
        at
    }

    /// Adds the entry of a function, which claims to be `more` bytes longer than it is.
    pub fn add_function(&mut self, common: usize, (first, length): (u64, u32), instructions: &[u8], more: u32) {
        let at = self.contents.len();
        let distance = first.wrapping_sub(self.address + at as u64 + 8) as u32;
        let padded = instructions.len().next_multiple_of(4) + 3;
        self.contents.extend((13 + padded as u32 + more).to_le_bytes());
        self.contents.extend(((at + 4 - common) as u32).to_le_bytes());
        self.contents.extend(distance.to_le_bytes());
        self.contents.extend(length.to_le_bytes());
        self.contents.push(0);
        self.contents.extend(instructions);
        self.contents.resize(at + 4 + 13 + padded, 0);
    }

    /// Writes the program; its section says that it has so many bytes, behind its contents a hole.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(mut self, program: &Path, size: u64) -> Result<()> {
        let at = self.bytes.len().next_multiple_of(4096) as u64;
        self.bytes[self.header + 24..self.header + 32].copy_from_slice(&at.to_le_bytes());
        self.bytes[self.header + 32..self.header + 40].copy_from_slice(&size.to_le_bytes());
        let mut file = File::create(program)?;
        file.write_all(&self.bytes)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&self.contents)?;
        file.set_len(at + size)?;
        fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u64> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u64::from_le_bytes(*word)).context("a short file")
}

fn half(bytes: &[u8], at: usize) -> Result<usize> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|half| usize::from(u16::from_le_bytes(*half))).context("a short file")
}
