//! Files are looked through for an allocator's functions, or for Go's own profile, beside the recording.

use super::file_finder::FileFinder;
use crate::model::allocator::{Allocator, GivenFunction};
use crate::model::answer::LoadSegment;
use crate::model::go_heap::{GoHeapPlaces, NoGoHeap};
use crate::model::mapping::ObjectId;
use crate::reader::Reader;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

/// The thread that looks.
pub(super) type AllocatorFinder = FileFinder<Finding>;

/// What a file is to a heap profile.
pub(super) enum Finding {
    /// It has these functions of an allocator; none in most files.
    Allocator(Allocator),
    /// It is a Go program, whose runtime keeps the profile itself: where, and where the file's code is; or why not.
    Go(Result<(GoHeapPlaces, Vec<LoadSegment>), NoGoHeap>),
}

/// Starts the thread. `given`: functions of allocators that the user has named.
pub(super) fn start(given: Vec<GivenFunction>) -> io::Result<AllocatorFinder> {
    FileFinder::start("profiler-allocs", move |reader, object, file| look(reader, object, file, &given))
}

/// A file that cannot be read has no functions that could be probed.
fn look(reader: &mut Reader, object: ObjectId, file: &OwnedFd, given: &[GivenFunction]) -> Finding {
    match reader.go_heap(object, file.as_fd()) {
        Ok(Ok(places)) => Finding::Go(Ok((places, reader.identify(object, file.as_fd()).map(|facts| facts.segments).unwrap_or_default()))),
        Ok(Err(NoGoHeap::NotGo)) | Err(_) => Finding::Allocator(reader.allocator(object, file.as_fd(), given).unwrap_or_default()),
        Ok(Err(why)) => Finding::Go(Err(why)),
    }
}
