//! Files are parsed beside the recording: one thread that asks one reader, file after file.

use super::memory::Memory;
use crate::model::mapping::ObjectId;
use crate::model::unwind::UnwindTable;
use crate::reader::{Reader, ReaderOptions};
use crate::unwind::TableOf;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// A reader that has had nothing to do for so long ends, and with it its memory.
const IDLE: Duration = Duration::from_secs(5);
/// How long one file may take: a compiler of 154 MB takes a tenth of a second.
const DEADLINE: Duration = Duration::from_secs(10);

/// Stacks wait for each table, with what was copied of them, and there is room for so many: where all CPUs are wanted, its work would take five times as long and
/// some of them would go without. It is the same work, and soon done.
const NICENESS: i32 = -10;

/// A file to be parsed.
pub(super) struct Wanted {
    pub(super) table: TableOf,
    pub(super) object: ObjectId,
    pub(super) file: OwnedFd,
}

/// A file that was; None if nothing could be made of it.
pub(super) type Built = (TableOf, Option<UnwindTable>);

/// The thread, as the recording sees it.
pub(super) struct TableBuilder {
    wanted: Sender<Wanted>,
    built: Receiver<Built>,
    waiting: usize,
    /// Readable when something was built.
    news: Arc<OwnedFd>,
}

impl TableBuilder {
    /// Starts the thread; a reader is started when there is something to read.
    pub(super) fn start(memory: Arc<Memory>) -> io::Result<Self> {
        let (wanted, requests) = channel::<Wanted>();
        let (answers, built) = channel();
        let news = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let told = Arc::clone(&news);
        let options = ReaderOptions { deadline: DEADLINE, niceness: NICENESS, ..ReaderOptions::default() };
        std::thread::Builder::new()
            .name("profiler-tables".into())
            .spawn(move || serve(Reader::new(options), &requests, &answers, (&told, &memory)))?;
        Ok(Self { wanted, built, waiting: 0, news })
    }

    /// Readable when something was built.
    pub(super) fn news(&self) -> io::Result<OwnedFd> {
        self.news.as_fd().try_clone_to_owned()
    }

    /// Asks for a table.
    pub(super) fn ask(&mut self, wanted: Wanted) {
        if self.wanted.send(wanted).is_ok() {
            self.waiting += 1;
        }
    }

    /// What was built since the last time.
    pub(super) fn built(&mut self) -> Vec<Built> {
        let mut count = [0; 8];
        // Nothing may have been built, and then there is nothing to read.
        let _ = rustix::io::read(&*self.news, &mut count);
        let built: Vec<Built> = self.built.try_iter().collect();
        self.waiting -= built.len();
        built
    }

    /// Waits for the next one; None when nothing is on its way, or it takes too long.
    pub(super) fn wait(&mut self, most: Duration) -> Option<Built> {
        if self.waiting == 0 {
            return None;
        }
        let built = self.built.recv_timeout(most).ok()?;
        self.waiting -= 1;
        Some(built)
    }
}

fn serve(mut reader: Reader, requests: &Receiver<Wanted>, answers: &Sender<Built>, (news, memory): (&OwnedFd, &Memory)) {
    while let Some(wanted) = next(&mut reader, requests, memory) {
        if reader.pid().is_none() {
            reader.set_data_limit(memory.promise());
        }
        // A file that cannot be parsed has no table, and that is all that is to be said.
        let table = reader.unwind_table(wanted.object, wanted.file.as_fd()).ok();
        if answers.send((wanted.table, table)).is_err() {
            return;
        }
        // The count may be at its end, and is readable then.
        let _ = rustix::io::write(news, &1u64.to_ne_bytes());
    }
}

/// The next file; the reader ends when there is none for a while. None when the recording is over.
fn next(reader: &mut Reader, requests: &Receiver<Wanted>, memory: &Memory) -> Option<Wanted> {
    match requests.recv_timeout(IDLE) {
        Ok(wanted) => Some(wanted),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => {
            reader.stop();
            memory.take_back();
            requests.recv().ok()
        }
    }
}
