//! The files behind mappings: opened once, by descriptor, checked to be the file that is mapped, and held.
//!
//! Whose file it is does not matter here, for nothing here is parsed. Every path, link and folder on the way may belong to an enemy, so a file is
//! first looked at without opening it (`O_PATH`), and then opened only if it is a regular file on a file system that no user's process serves: a FIFO,
//! a device, a lease or a FUSE server never makes this room wait.

mod debug_files;
mod look;
mod perf_map;
#[cfg(test)]
mod root_tests;
mod roots;
mod store;
mod vdso;

pub use debug_files::DebugFiles;
pub use look::{OpenError, OpenedFile};
pub use store::ObjectStore;
pub use vdso::vdso_image;
