//! The ring that a perf event shares with us: a page of control, then a power of two of pages of records.

use super::error::BpfError;
use super::perf_event::PerfEvent;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

// Offsets in `struct perf_event_mmap_page` (include/uapi/linux/perf_event.h).
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// A mapped ring; the kernel writes at its head, we read at its tail.
#[derive(Debug)]
pub(super) struct MmapRing {
    base: NonNull<u8>,
    page_bytes: usize,
    data_bytes: usize,
    /// A record that wraps around the end is put together here.
    record: Vec<u8>,
}

// SAFETY: the mapping belongs to this value alone; nothing in it is bound to a thread.
unsafe impl Send for MmapRing {}

impl MmapRing {
    /// Maps the ring of an event; `data_bytes` is a power of two and a multiple of the page size.
    pub(super) fn map(event: &PerfEvent, data_bytes: usize) -> Result<Self, BpfError> {
        let page_bytes = rustix::param::page_size();
        // SAFETY: a new shared mapping at an address that the kernel chooses.
        let base = unsafe {
            mmap(std::ptr::null_mut(), page_bytes + data_bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, event.as_fd(), 0)
        }
        .map_err(|source| BpfError::Ring { what: "process events", source: source.into() })?;
        let base = NonNull::new(base.cast()).expect("mmap never returns address 0 without MAP_FIXED");
        Ok(Self { base, page_bytes, data_bytes, record: Vec::new() })
    }

    /// Bytes that the mapping occupies.
    pub(super) fn bytes(&self) -> usize {
        self.page_bytes + self.data_bytes
    }

    /// Hands each waiting record, header and all, to `each`, then gives its room back.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        let head = self.counter(DATA_HEAD).load(Ordering::Acquire);
        let mut tail = self.counter(DATA_TAIL).load(Ordering::Relaxed);
        while head.wrapping_sub(tail) >= 8 {
            self.copy(tail, 8);
            let size = usize::from(u16::from_ne_bytes([self.record[6], self.record[7]]));
            if size < 8 || size as u64 > head.wrapping_sub(tail) {
                tail = head; // Never written by the kernel; going on would be guessing.
                break;
            }
            self.copy(tail, size);
            each(&self.record);
            tail = tail.wrapping_add(size as u64);
        }
        self.counter(DATA_TAIL).store(tail, Ordering::Release);
    }

    fn counter(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both counters lie in the first page, which lives as long as self, are 8-byte aligned, and are shared with the kernel as atomics.
        unsafe { &*self.base.as_ptr().add(offset).cast::<AtomicU64>() }
    }

    /// Copies `size` bytes at a position of the ring to `self.record`.
    fn copy(&mut self, position: u64, size: usize) {
        let start = position as usize & (self.data_bytes - 1);
        let first = size.min(self.data_bytes - start);
        self.record.clear();
        for (from, length) in [(start, first), (0, size - first)] {
            // SAFETY: both pieces lie within the data pages, which the kernel does not write to before the tail has passed them.
            let piece = unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(self.page_bytes + from), length) };
            self.record.extend_from_slice(piece);
        }
    }
}

impl Drop for MmapRing {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `map` with this length, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes()) };
    }
}
