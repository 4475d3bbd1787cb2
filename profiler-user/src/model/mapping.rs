//! Executable ranges: as the kernel reports them, and as a profile names them.

use profiler_common::process::ProcessKey;
use std::sync::Arc;

/// The file behind a mapping as the kernel names it: good for comparing, not for opening.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InodeId {
    /// Major number of the device.
    pub major: u32,
    /// Minor number of the device.
    pub minor: u32,
    /// Inode number; 0 means that no file is behind the range.
    pub inode: u64,
}

/// An executable range of a process, as a mapping record or a line of `/proc/PID/maps` gives it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MappedRange {
    /// First address.
    pub start: u64,
    /// Address behind the last one.
    pub end: u64,
    /// Offset in the file of the first byte.
    pub file_offset: u64,
    /// The file.
    pub file: InodeId,
    /// The inode's generation, where the kernel has told it: numbers of inodes are used again.
    pub generation: Option<u32>,
    /// The path's text: bytes of a stranger, to show and never to trust.
    pub path: Vec<u8>,
}

/// A file that was opened and checked: device, inode, time of change and size. Holding one proves that the file was opened and is a regular file.
/// Never the build id alone: that is a claim of the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `st_mtime`, nanoseconds since the epoch.
    pub modified_ns: i64,
    /// `st_size`, bytes.
    pub size: u64,
}

/// What a mapping maps.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum MappingKind {
    /// A file that is open for us.
    Object(ObjectId),
    /// A file that could not be opened any more: only its name is left.
    Unopened(InodeId),
    /// Executable memory without a file: code of a JIT compiler, named by its perf map if there is one.
    Anonymous(ProcessKey),
    /// The page of code that the kernel gives each process.
    Vdso,
    /// The kernel itself.
    Kernel,
    /// A loadable module of the kernel, or code that it made itself: `[bpf]`, `[ftrace]`.
    KernelModule,
    /// No code at all: the frames that stand for what was lost.
    Lost,
}

/// A mapping in the table of a window: an index into [`super::window::Window::mappings`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MappingId(pub u32);

/// A range of code that frames refer to. The same file mapped by two processes at two addresses is one of these.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Mapping {
    /// What is mapped.
    pub kind: MappingKind,
    /// Where it was first seen. For a file, another process may have it elsewhere; frames count from the file.
    pub start: u64,
    /// Address behind the last one.
    pub end: u64,
    /// Offset in the file of the first byte; 0 without a file.
    pub file_offset: u64,
    /// Path or bracketed name; bytes of a stranger made valid UTF-8, not escaped.
    pub name: Arc<str>,
}
