//! From counted stacks of frames to a profile with names. Every distinct address of a file is asked for once; files that break their reader stay
//! without names and cost nothing else. The same window and the same files give the same profile, in the same order.

mod block_labels;
mod build;
mod build_id;
mod jobs;
pub mod kernel;
mod layout;
pub mod native;
mod native_reader;
mod sides;
pub mod split;
#[cfg(test)]
mod tests;
mod values;
mod waits;

use crate::model::profile::Profile;
use crate::model::window::Window;
use crate::object::{DebugFiles, ObjectStore, OpenedFile, vdso_image};
use crate::reader::{DATA_BYTES_MIN, REST_BYTES_MAX, Reader, ReaderOptions};
use build::Builder;
use kernel::{KernelError, KernelSymbols};
use native::NativeReader;
use std::path::PathBuf;

/// Readers that work side by side at most: one a CPU, where each has room enough for a large file's symbols.
const READERS_MAX: usize = 4;
/// Data that a compiler of 150 MB wants.
const READER_BYTES_WANTED: u64 = 40 << 20;

/// What names come from.
pub struct Sources<'a> {
    objects: &'a ObjectStore,
    debug: DebugFiles,
    readers: Vec<Box<dyn NativeReader + 'a>>,
    /// Read when the first frame of the kernel is met.
    kernel: Option<Result<KernelSymbols, KernelError>>,
    vdso: Option<OpenedFile>,
}

impl<'a> Sources<'a> {
    /// The files that were opened, debug files in the named folders and the system's, the kernel's own symbols.
    pub fn new(objects: &'a ObjectStore, debug_dirs: &[PathBuf], memory_bytes: u64) -> Self {
        // They share what they find out of bad files.
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let (readers, data_limit_bytes) = shares(memory_bytes, cpus.min(READERS_MAX) as u64);
        let first = Reader::new(ReaderOptions { data_limit_bytes, ..ReaderOptions::default() });
        let others: Vec<Reader> = (1..readers).map(|_| first.another()).collect();
        let readers = std::iter::once(first).chain(others).map(|reader| Box::new(reader) as Box<dyn NativeReader>);
        Self::with_readers(objects, debug_dirs, readers.collect())
    }

    /// The same, parsed by others.
    pub fn with_readers(objects: &'a ObjectStore, debug_dirs: &[PathBuf], readers: Vec<Box<dyn NativeReader + 'a>>) -> Self {
        Self { objects, debug: DebugFiles::new(debug_dirs), readers, kernel: None, vdso: None }
    }
}

/// How many readers, of those that could work side by side, and what data each may have.
fn shares(memory_bytes: u64, most: u64) -> (u64, u64) {
    let each = |readers: u64| (memory_bytes / readers).saturating_sub(REST_BYTES_MAX);
    let readers = (2..=most).rev().find(|readers| each(*readers) >= READER_BYTES_WANTED).unwrap_or(1);
    (readers, each(readers).max(DATA_BYTES_MIN))
}

/// Gives the frames of a recording's windows their names: a profile for each. They have one dictionary, and each of its frames is asked for once.
pub fn symbolize(windows: &[Window], sources: &mut Sources<'_>) -> Vec<Profile> {
    let Some(dictionary) = windows.first().map(|window| &window.dictionary) else { return Vec::new() };
    let used: Vec<jobs::Used> = windows.iter().map(jobs::Used::of).collect();
    let questions = jobs::questions(&used, dictionary);
    if questions.asks_vdso() && sources.vdso.is_none() {
        // Without it, its frames stay without names.
        sources.vdso = vdso_image().ok();
    }
    if used.iter().any(|used| used.has_kernel(dictionary)) && sources.kernel.is_none() {
        sources.kernel = Some(KernelSymbols::load());
    }
    let files = native::Files { objects: sources.objects, debug: &sources.debug, vdso: sources.vdso.as_ref() };
    let answers = questions.ask(&mut sources.readers, &files);
    let kernel = sources.kernel.as_ref().and_then(|kernel| kernel.as_ref().ok());
    let build = |(window, used)| {
        let mut builder = Builder::new(window, used, &answers, sources.objects);
        builder.kernel = kernel;
        builder.build()
    };
    windows.iter().zip(&used).map(build).collect()
}
