//! The arena that unwind tables and lists of ranges lie in: memory that we write and the programs read, without a system call for what is written.
//!
//! ```text
//!   CHUNKS, an array of maps ──► chunk 0 ──► 1 MiB, an array map of one value, mapped here
//!                            ──► chunk 1 ...                        added when there is need
//! ```
//!
//! aya 0.14 makes no maps of maps. The object therefore declares `CHUNKS` as a small array; before the programs are loaded, the descriptor that they refer
//! to is made to be that of the real one.

use super::error::BpfError;
use profiler_common::limits::{ARENA_CHUNK_WORDS, ARENA_CHUNKS_MAX};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

// include/uapi/linux/bpf.h
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const TYPE_ARRAY: u32 = 2;
const TYPE_ARRAY_OF_MAPS: u32 = 12;
const MMAPABLE: u32 = 1 << 10;

const CHUNK_BYTES: usize = ARENA_CHUNK_WORDS as usize * 4;

/// `union bpf_attr`, the part for `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// `union bpf_attr`, the part for `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct UpdateAttr {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The arena; all its chunks.
#[derive(Debug)]
pub struct Arena {
    outer: OwnedFd,
    chunks: Vec<Chunk>,
}

impl Arena {
    /// An arena of one chunk.
    ///
    /// # Errors
    /// The kernel makes no such maps.
    pub(super) fn open() -> Result<Self, BpfError> {
        let chunk = Chunk::open()?;
        let attr = CreateAttr {
            map_type: TYPE_ARRAY_OF_MAPS,
            key_size: 4,
            value_size: 4,
            max_entries: ARENA_CHUNKS_MAX,
            inner_map_fd: chunk.map.as_raw_fd() as u32,
            map_name: *b"CHUNKS\0\0\0\0\0\0\0\0\0\0",
            ..CreateAttr::default()
        };
        let outer = create(&attr).map_err(arena_error)?;
        let mut arena = Self { outer, chunks: Vec::new() };
        arena.insert(chunk)?;
        Ok(arena)
    }

    /// Puts the array of maps in the place of the map that the object declares.
    pub(super) fn stand_in(&self, declared: BorrowedFd<'_>) -> Result<(), BpfError> {
        // SAFETY: both numbers are open descriptors; whoever owns `declared` goes on owning that number, and closes it once.
        let done = unsafe { libc::dup3(self.outer.as_raw_fd(), declared.as_raw_fd(), libc::O_CLOEXEC) };
        if done < 0 { Err(arena_error(io::Error::last_os_error())) } else { Ok(()) }
    }

    /// Chunks that there are.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Adds a chunk of zeros.
    ///
    /// # Errors
    /// There is no memory, or no room for more chunks.
    pub fn grow(&mut self) -> Result<(), BpfError> {
        self.insert(Chunk::open()?)
    }

    fn insert(&mut self, chunk: Chunk) -> Result<(), BpfError> {
        let (key, value) = (self.chunks.len() as u32, chunk.map.as_raw_fd() as u32);
        let attr = UpdateAttr {
            map_fd: self.outer.as_raw_fd() as u32,
            reserved: 0,
            key: (&raw const key) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        // SAFETY: key and value outlive the call, and have the sizes that the map was made with.
        let done = unsafe { libc::syscall(libc::SYS_bpf, MAP_UPDATE_ELEM, &raw const attr, size_of::<UpdateAttr>()) };
        if done < 0 {
            return Err(arena_error(io::Error::last_os_error()));
        }
        self.chunks.push(chunk);
        Ok(())
    }

    /// Writes words at a place; they do not cross the end of a chunk.
    ///
    /// # Panics
    /// They do, or there is no such chunk.
    pub fn write(&self, at: u32, words: &[u32]) {
        let chunk = &self.chunks[(at / ARENA_CHUNK_WORDS) as usize];
        let first = (at % ARENA_CHUNK_WORDS) as usize;
        for (cell, word) in chunk.words()[first..first + words.len()].iter().zip(words) {
            cell.store(*word, Ordering::Relaxed);
        }
    }

    /// The word at a place; 0 where there is none.
    pub fn word(&self, at: u32) -> u32 {
        let chunk = self.chunks.get((at / ARENA_CHUNK_WORDS) as usize);
        chunk.map_or(0, |chunk| chunk.words()[(at % ARENA_CHUNK_WORDS) as usize].load(Ordering::Relaxed))
    }

    /// Bytes that all chunks lock.
    pub fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES
    }
}

/// Waits until no program can still hold what it looked up before this call: they run in sections that this waits for (`synchronize_rcu`).
pub fn wait_for_programs() {
    // SAFETY: no memory is involved. An old kernel without the call is not one that we run on.
    unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
}

/// An array map of one value, mapped.
#[derive(Debug)]
struct Chunk {
    map: OwnedFd,
    base: NonNull<AtomicU32>,
}

// SAFETY: the mapping belongs to this value alone, and its words are atomics.
unsafe impl Send for Chunk {}

impl Chunk {
    fn open() -> Result<Self, BpfError> {
        let attr = CreateAttr {
            map_type: TYPE_ARRAY,
            key_size: 4,
            value_size: CHUNK_BYTES as u32,
            max_entries: 1,
            map_flags: MMAPABLE,
            map_name: *b"UNWIND\0\0\0\0\0\0\0\0\0\0",
            ..CreateAttr::default()
        };
        let map = create(&attr).map_err(arena_error)?;
        // SAFETY: a new shared mapping at an address that the kernel chooses.
        let base = unsafe { mmap(std::ptr::null_mut(), CHUNK_BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, map.as_fd(), 0) };
        let base = base.map_err(|error| arena_error(error.into()))?;
        let base = NonNull::new(base.cast()).expect("mmap never returns address 0 without MAP_FIXED");
        Ok(Self { map, base })
    }

    fn words(&self) -> &[AtomicU32] {
        // SAFETY: the mapping is that long and lives as long as self; the kernel side only reads it.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), ARENA_CHUNK_WORDS as usize) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `open` with this length, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), CHUNK_BYTES) };
    }
}

fn create(attr: &CreateAttr) -> io::Result<OwnedFd> {
    // SAFETY: the attributes outlive the call.
    let map = unsafe { libc::syscall(libc::SYS_bpf, MAP_CREATE, &raw const *attr, size_of::<CreateAttr>()) };
    if map < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(map as RawFd) })
}

fn arena_error(source: io::Error) -> BpfError {
    BpfError::Map { map: "CHUNKS", reason: source.to_string() }
}
