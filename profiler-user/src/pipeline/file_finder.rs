//! Files are looked through beside the recording: one thread that asks one reader, file after file.

use crate::model::mapping::ObjectId;
use crate::reader::{Reader, ReaderOptions};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// A reader that has had nothing to do for so long ends, and with it its memory.
const IDLE: Duration = Duration::from_secs(5);
/// How long one file may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Data of the reader, bytes.
const DATA_BYTES: u64 = 64 << 20;

type Wanted = (ObjectId, OwnedFd);

/// The thread, as the recording sees it.
pub(super) struct FileFinder<T> {
    wanted: Sender<Wanted>,
    found: Receiver<(ObjectId, T)>,
    /// Taken from `found` while waiting.
    kept: Vec<(ObjectId, T)>,
    waiting: usize,
    /// Readable when something was found.
    news: Arc<OwnedFd>,
}

impl<T: Send + 'static> FileFinder<T> {
    /// Starts the thread; a reader is started when there is something to read.
    pub(super) fn start(name: &str, look: impl FnMut(&mut Reader, ObjectId, &OwnedFd) -> T + Send + 'static) -> io::Result<Self> {
        let (wanted, requests) = channel::<Wanted>();
        let (answers, found) = channel();
        let news = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let told = Arc::clone(&news);
        let options = ReaderOptions { deadline: DEADLINE, data_limit_bytes: DATA_BYTES, ..ReaderOptions::default() };
        std::thread::Builder::new().name(name.into()).spawn(move || serve(Reader::new(options), look, (&requests, &answers, &told)))?;
        Ok(Self { wanted, found, kept: Vec::new(), waiting: 0, news })
    }

    /// Readable when something was found.
    pub(super) fn news(&self) -> io::Result<OwnedFd> {
        self.news.as_fd().try_clone_to_owned()
    }

    /// Asks for a file.
    pub(super) fn ask(&mut self, object: ObjectId, file: OwnedFd) {
        if self.wanted.send((object, file)).is_ok() {
            self.waiting += 1;
        }
    }

    /// What was found since the last time.
    pub(super) fn found(&mut self) -> Vec<(ObjectId, T)> {
        let mut count = [0; 8];
        // Nothing may have been found, and then there is nothing to read.
        let _ = rustix::io::read(&*self.news, &mut count);
        let mut found = std::mem::take(&mut self.kept);
        let more: Vec<(ObjectId, T)> = self.found.try_iter().collect();
        self.waiting -= more.len();
        found.extend(more);
        found
    }

    /// Waits for the next file; false when none is on its way, or it takes too long.
    pub(super) fn wait(&mut self, most: Duration) -> bool {
        if self.waiting == 0 {
            return false;
        }
        let Ok(found) = self.found.recv_timeout(most) else { return false };
        self.waiting -= 1;
        self.kept.push(found);
        true
    }
}

fn serve<T>(
    mut reader: Reader,
    mut look: impl FnMut(&mut Reader, ObjectId, &OwnedFd) -> T,
    (requests, answers, news): (&Receiver<Wanted>, &Sender<(ObjectId, T)>, &OwnedFd),
) {
    while let Some((object, file)) = next(&mut reader, requests) {
        let finding = look(&mut reader, object, &file);
        if answers.send((object, finding)).is_err() {
            return;
        }
        // The count may be at its end, and is readable then.
        let _ = rustix::io::write(news, &1u64.to_ne_bytes());
    }
}

/// The next file; the reader ends when there is none for a while. None when the recording is over.
fn next(reader: &mut Reader, requests: &Receiver<Wanted>) -> Option<Wanted> {
    match requests.recv_timeout(IDLE) {
        Ok(wanted) => Some(wanted),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => {
            reader.stop();
            requests.recv().ok()
        }
    }
}
