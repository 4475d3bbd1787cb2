//! What is asked of a file because Go made it.

use super::client::{Reader, ReaderError};
use super::wire::{Answer, Request};
use crate::model::go_heap::GoHeap;
use crate::model::go_waits::GoWaits;
use crate::model::goroutines::Goroutines;
use crate::model::mapping::ObjectId;
use std::os::fd::BorrowedFd;

impl Reader {
    /// Where the runtime of a Go program keeps its memory profile, or why it is not known.
    ///
    /// # Errors
    /// No reader can be had, or the file is bad.
    pub fn go_heap(&mut self, object: ObjectId, file: BorrowedFd<'_>) -> Result<GoHeap, ReaderError> {
        match self.about(object, file, &Request::GoHeap)? {
            Answer::GoHeap(answer) => Ok(answer),
            _ => Err(self.distrust(object)),
        }
    }

    /// Where the runtime of a Go program keeps its goroutines, or why it is not known.
    ///
    /// # Errors
    /// No reader can be had, or the file is bad.
    pub fn goroutines(&mut self, object: ObjectId, file: BorrowedFd<'_>) -> Result<Goroutines, ReaderError> {
        match self.about(object, file, &Request::Goroutines)? {
            Answer::Goroutines(answer) => Ok(answer),
            _ => Err(self.distrust(object)),
        }
    }

    /// Where the runtime of a Go program keeps what it records of its goroutines' waits, or why it is not known.
    ///
    /// # Errors
    /// No reader can be had, or the file is bad.
    pub fn go_waits(&mut self, object: ObjectId, file: BorrowedFd<'_>) -> Result<GoWaits, ReaderError> {
        match self.about(object, file, &Request::GoWaits)? {
            Answer::GoWaits(answer) => Ok(answer),
            _ => Err(self.distrust(object)),
        }
    }
}
