//! Files of targets: opened once, checked, and kept by descriptor. Opens, never parses; a path's text is never trusted.

mod debug_file;
mod open;
mod perf_map;
mod store;
mod vdso;

pub use debug_file::DebugFolders;
pub use open::{Opened, Refused, object_id};
pub use store::ObjectStore;
pub use vdso::vdso_image;
