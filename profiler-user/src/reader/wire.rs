//! The messages between the profiler and a reader, and their bytes. Decoding takes any bytes without panic and without believing a length: what a reader
//! answers may be the work of the file that it read.
//!
//! A message is its length (u32) and so many bytes; numbers are little endian, texts are their length (u32) and their bytes.

use crate::model::allocator::{Allocator, GivenFunction};
use crate::model::answer::Detail;
use crate::model::answer::{LINES_MAX, LINES_MEAN, ObjectFacts, SymbolLine, TEXT_MAX_BYTES};
use crate::model::go_heap::GoHeap;
use crate::model::go_waits::GoWaits;
use crate::model::goroutines::Goroutines;
use crate::model::mapping::ObjectId;
use crate::model::probe_points::{FoundPoints, WantedPoints};
use crate::model::profile::Unresolved;
use crate::model::unwind::UnwindTable;
use std::collections::HashMap;
use std::sync::Arc;

/// Most addresses in one request.
pub(super) const ADDRESSES_MAX: usize = 8192;

/// Longest request, bytes.
pub(super) const REQUEST_MAX_BYTES: usize = 8 * ADDRESSES_MAX + 256;

/// Longest answer, bytes.
pub(super) const ANSWER_MAX_BYTES: usize = 16 << 20;

/// What is wrong with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a message that does not follow the form: {0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// What is asked of a reader. The descriptors that belong to it wait with the keeper.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// What is this file?
    Identify,
    /// Which functions are at these offsets of the file?
    Symbolize {
        /// Which object, for the reader's cache.
        object: ObjectId,
        /// How much of it to use.
        detail: Detail,
        /// There is a separate debug file.
        debug: Presence,
        /// There is a file with shared debug information.
        alt: Presence,
        /// File offsets.
        offsets: Vec<u64>,
    },
    /// Which names does this perf map have for these addresses?
    PerfMap {
        /// Runtime addresses.
        addresses: Vec<u64>,
    },
    /// How does one leave this file's code?
    Unwind,
    /// Which functions of an allocator has this file? These are some, beside those that are so by their names.
    Allocator(Vec<GivenFunction>),
    /// Where does Go's runtime keep its memory profile?
    GoHeap,
    /// Where does it keep its goroutines?
    Goroutines,
    /// Where does it keep its goroutines' waits?
    GoWaits,
    /// Where are these functions and marks?
    Points(WantedPoints),
}

/// Whether a file belongs to a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Presence {
    /// It does.
    Given,
    /// It does not.
    Absent,
}

/// What a reader says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// The file cannot be read, in a few words.
    Refused(String),
    /// To [`Request::Identify`].
    Facts(ObjectFacts),
    /// To [`Request::Symbolize`]: for each offset the lines, or why there are none.
    Lines(Vec<Result<Vec<SymbolLine>, Unresolved>>),
    /// To [`Request::PerfMap`].
    Names(Vec<Option<String>>),
    /// To [`Request::Unwind`].
    Unwind(UnwindTable),
    /// To [`Request::Allocator`].
    Allocator(Allocator),
    /// To [`Request::GoHeap`].
    GoHeap(GoHeap),
    /// To [`Request::Goroutines`].
    Goroutines(Goroutines),
    /// To [`Request::GoWaits`].
    GoWaits(GoWaits),
    /// To [`Request::Points`].
    Points(FoundPoints),
}

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Out::default();
        match self {
            Self::Identify => out.u8(0),
            Self::Symbolize { object, detail, debug, alt, offsets } => {
                out.u8(1);
                for number in [object.device, object.inode, object.modified_ns as u64, object.size] {
                    out.u64(number);
                }
                let flags = [*detail == Detail::SymbolsOnly, *debug == Presence::Given, *alt == Presence::Given];
                out.u8(flags.into_iter().enumerate().map(|(bit, set)| u8::from(set) << bit).sum());
                out.numbers(offsets);
            }
            Self::PerfMap { addresses } => {
                out.u8(2);
                out.numbers(addresses);
            }
            Self::Unwind => out.u8(3),
            Self::Allocator(given) => out.given_functions(given),
            Self::GoHeap => out.u8(5),
            Self::Goroutines => out.u8(6),
            Self::Points(wanted) => out.wanted_points(wanted),
            Self::GoWaits => out.u8(8),
        }
        out.0
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = In(bytes);
        let request = match from.u8()? {
            0 => Self::Identify,
            1 => {
                let object = ObjectId { device: from.u64()?, inode: from.u64()?, modified_ns: from.u64()? as i64, size: from.u64()? };
                let flags = from.u8()?;
                let presence = |bit: u8| if flags & bit != 0 { Presence::Given } else { Presence::Absent };
                let detail = if flags & 1 != 0 { Detail::SymbolsOnly } else { Detail::Full };
                Self::Symbolize { object, detail, debug: presence(2), alt: presence(4), offsets: from.numbers()? }
            }
            2 => Self::PerfMap { addresses: from.numbers()? },
            3 => Self::Unwind,
            4 => Self::Allocator(from.given_functions()?),
            5 => Self::GoHeap,
            6 => Self::Goroutines,
            7 => Self::Points(from.wanted_points()?),
            8 => Self::GoWaits,
            _ => return Err(Malformed("an unknown request")),
        };
        from.end().map(|()| request)
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Out::default();
        match self {
            Self::Refused(why) => {
                out.u8(0);
                out.bytes(crate::model::answer::bounded(why).as_bytes());
            }
            Self::Facts(facts) => {
                out.u8(1);
                out.facts(facts);
            }
            Self::Lines(answers) => {
                out.u8(2);
                out.lines(answers);
            }
            Self::Names(names) => {
                out.u8(3);
                out.u32(names.len());
                for name in names {
                    out.optional(name.as_ref().map(|name| name.as_bytes()));
                }
            }
            Self::Unwind(table) => {
                out.u8(4);
                out.unwind(table);
            }
            Self::Allocator(allocator) => {
                out.u8(5);
                out.allocator(allocator);
            }
            Self::GoHeap(answer) => {
                out.u8(6);
                out.go_heap(answer);
            }
            Self::Goroutines(answer) => {
                out.u8(7);
                out.goroutines(answer);
            }
            Self::Points(found) => out.found_points(found),
            Self::GoWaits(answer) => out.go_waits(answer),
        }
        out.0
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = In(bytes);
        let answer = match from.u8()? {
            0 => Self::Refused(from.text()?),
            1 => Self::Facts(from.facts()?),
            2 => Self::Lines(from.lines()?),
            3 => {
                let count = from.count(ADDRESSES_MAX)?;
                Self::Names((0..count).map(|_| Ok(from.optional()?.map(lossy))).collect::<Result<_, _>>()?)
            }
            4 => Self::Unwind(from.unwind()?),
            5 => Self::Allocator(from.allocator()?),
            6 => Self::GoHeap(from.go_heap()?),
            7 => Self::Goroutines(from.goroutines()?),
            8 => Self::Points(from.found_points()?),
            9 => Self::GoWaits(from.go_waits()?),
            _ => return Err(Malformed("an unknown answer")),
        };
        from.end().map(|()| answer)
    }
}

/// Numbers of the reasons that a reader can give; everything else is the profiler's to say.
fn reason(number: u8) -> Result<Unresolved, Malformed> {
    match number {
        0 => Ok(Unresolved::NoSymbol),
        1 => Ok(Unresolved::FileBad),
        _ => Err(Malformed("an unknown reason")),
    }
}

/// How many lines an answer about so many addresses may have.
pub(super) fn lines_allowed(answers: usize) -> usize {
    4096 + LINES_MEAN * answers
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes being written.
#[derive(Default)]
pub(super) struct Out(pub(super) Vec<u8>);

impl Out {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// A length or an index: all of them are bounded far below 2^32.
    pub(super) fn u32(&mut self, value: usize) {
        self.0.extend((value as u32).to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(TEXT_MAX_BYTES)];
        self.u32(bytes.len());
        self.0.extend(bytes);
    }

    pub(super) fn optional(&mut self, bytes: Option<&[u8]>) {
        self.u8(u8::from(bytes.is_some()));
        if let Some(bytes) = bytes {
            self.bytes(bytes);
        }
    }

    pub(super) fn numbers(&mut self, numbers: &[u64]) {
        self.u32(numbers.len());
        for number in numbers {
            self.u64(*number);
        }
    }

    /// Texts once each, then the lines that refer to them: names and file names repeat.
    fn lines(&mut self, answers: &[Result<Vec<SymbolLine>, Unresolved>]) {
        let mut texts: Vec<&str> = Vec::new();
        let mut index: HashMap<&str, usize> = HashMap::new();
        let mut body = Out::default();
        body.u32(answers.len());
        for answer in answers {
            match answer {
                Ok(lines) => {
                    let lines = &lines[..lines.len().min(LINES_MAX)];
                    body.u8(lines.len() as u8);
                    for line in lines {
                        for text in [&line.name, &line.system_name, &line.filename] {
                            body.u32(*index.entry(text).or_insert_with(|| {
                                texts.push(text);
                                texts.len() - 1
                            }));
                        }
                        [line.line, line.column, line.start_line].into_iter().for_each(|number| body.u32(number as usize));
                        body.go_place(line.go);
                    }
                }
                Err(why) => {
                    body.u8(0);
                    body.u8(u8::from(*why == Unresolved::FileBad));
                }
            }
        }
        self.u32(texts.len());
        for text in texts {
            self.bytes(text.as_bytes());
        }
        self.0.extend(body.0);
    }
}

/// Bytes being read.
pub(super) struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("something follows its end")) }
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        Ok(self.u8()? != 0)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A count of things that take at least one byte each: nothing is allocated for more of them than the message can hold.
    pub(super) fn count(&mut self, most: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count > most.min(self.0.len()) { Err(Malformed("a count beyond its bound")) } else { Ok(count) }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.count(TEXT_MAX_BYTES)?;
        self.take(length)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        self.bytes().map(lossy)
    }

    pub(super) fn optional(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        if self.flag()? { self.bytes().map(Some) } else { Ok(None) }
    }

    pub(super) fn numbers(&mut self) -> Result<Vec<u64>, Malformed> {
        let count = self.count(ADDRESSES_MAX)?;
        (0..count).map(|_| self.u64()).collect()
    }

    fn lines(&mut self) -> Result<Vec<Result<Vec<SymbolLine>, Unresolved>>, Malformed> {
        let count = self.count(3 * LINES_MAX * ADDRESSES_MAX)?;
        let texts: Vec<Arc<str>> = (0..count).map(|_| self.text().map(Arc::from)).collect::<Result<_, _>>()?;
        let answers = self.count(ADDRESSES_MAX)?;
        let mut left = lines_allowed(answers);
        (0..answers)
            .map(|_| match usize::from(self.u8()?) {
                0 => Ok(Err(reason(self.u8()?)?)),
                lines => {
                    left = left.checked_sub(lines).filter(|_| lines <= LINES_MAX).ok_or(Malformed("too many lines"))?;
                    (0..lines).map(|_| self.line(&texts)).collect::<Result<_, _>>().map(Ok)
                }
            })
            .collect()
    }

    fn line(&mut self, texts: &[Arc<str>]) -> Result<SymbolLine, Malformed> {
        let mut text = || {
            let index = self.u32()? as usize;
            texts.get(index).cloned().ok_or(Malformed("a text that is not there"))
        };
        let (name, system_name, filename) = (text()?, text()?, text()?);
        let [line, column, start_line] = [self.u32()?, self.u32()?, self.u32()?];
        Ok(SymbolLine { name, system_name, filename, line, column, start_line, go: self.go_place()? })
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
