//! The readers, as this room asks them.

use super::native::{LinesOrWhy, NativeReader};
use crate::model::mapping::ObjectId;
use crate::reader::{ObjectFacts, Reader, ReaderError, SymbolizeRequest};
use std::os::fd::BorrowedFd;

impl NativeReader for Reader {
    fn identify(&mut self, object: ObjectId, file: BorrowedFd<'_>) -> Result<ObjectFacts, ReaderError> {
        Reader::identify(self, object, file)
    }

    fn symbolize(&mut self, request: SymbolizeRequest<'_>) -> Result<Vec<LinesOrWhy>, ReaderError> {
        Reader::symbolize(self, request)
    }

    fn perf_map(&mut self, object: ObjectId, file: BorrowedFd<'_>, addresses: &[u64]) -> Result<Vec<Option<String>>, ReaderError> {
        Reader::perf_map(self, object, file, addresses)
    }
}
