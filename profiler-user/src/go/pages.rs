//! A process's memory in blocks of pages: what lies side by side is read at once. The runtime takes its buckets from chunks of 256 KiB, so one question to the
//! helper brings some two hundred of them.

use super::error::GoHeapError;
use crate::memory::{MemoryReader, Range, Unreadable};
use crate::model::process::Pid;
use std::collections::HashMap;
use std::time::Instant;

const PAGE_BYTES: u64 = 4096;
/// Pages of a block: each is asked for by itself, since the one beside it may not be there.
const BLOCK_PAGES: u64 = 16;
/// Blocks that are kept: each of Go's processors fills a chunk of its own.
const BLOCKS_MAX: usize = 64;

type Page = Result<Vec<u8>, Unreadable>;

/// The memory of one process.
pub(super) struct Pages<'a> {
    memory: &'a mut MemoryReader,
    pid: Pid,
    deadline: Instant,
    blocks: HashMap<u64, Vec<Page>>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(memory: &'a mut MemoryReader, pid: Pid, deadline: Instant) -> Self {
        Self { memory, pid, deadline, blocks: HashMap::new() }
    }

    /// From now on everything is read anew.
    pub(super) fn forget(&mut self) {
        self.blocks.clear();
    }

    /// Fills the buffer from an address.
    pub(super) fn copy(&mut self, mut address: u64, mut into: &mut [u8]) -> Result<(), GoHeapError> {
        while !into.is_empty() {
            let within = (address % PAGE_BYTES) as usize;
            let (head, rest) = into.split_at_mut((PAGE_BYTES as usize - within).min(into.len()));
            let page = self.page(address / PAGE_BYTES)?.as_ref().map_err(|why| unreadable(address, *why))?;
            let bytes = page.get(within..).and_then(|bytes| bytes.get(..head.len()));
            head.copy_from_slice(bytes.ok_or_else(|| unreadable(address, Unreadable::NotThere))?);
            address = address.checked_add(head.len() as u64).ok_or_else(|| unreadable(address, Unreadable::NotThere))?;
            into = rest;
        }
        Ok(())
    }

    /// A number of eight bytes.
    pub(super) fn u64(&mut self, address: u64) -> Result<u64, GoHeapError> {
        let mut bytes = [0; 8];
        self.copy(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A number of four bytes.
    pub(super) fn u32(&mut self, address: u64) -> Result<u32, GoHeapError> {
        let mut bytes = [0; 4];
        self.copy(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn page(&mut self, page: u64) -> Result<&Page, GoHeapError> {
        let block = page / BLOCK_PAGES;
        if self.blocks.len() >= BLOCKS_MAX && !self.blocks.contains_key(&block) {
            self.blocks.clear();
        }
        let pages = match self.blocks.entry(block) {
            std::collections::hash_map::Entry::Occupied(held) => held.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                let first = block * BLOCK_PAGES;
                let range = |page| Range { address: (first + page) * PAGE_BYTES, length: PAGE_BYTES as u32 };
                let ranges: Vec<Range> = (0..BLOCK_PAGES).map(range).collect();
                free.insert(self.memory.read(self.pid, &ranges, self.deadline)?)
            }
        };
        pages.get((page % BLOCK_PAGES) as usize).ok_or_else(|| unreadable(page * PAGE_BYTES, Unreadable::NotThere))
    }
}

fn unreadable(address: u64, why: Unreadable) -> GoHeapError {
    match why {
        Unreadable::Gone => GoHeapError::Gone,
        why => GoHeapError::Unreadable { address, why },
    }
}
