//! Process and mapping events from the kernel: what perf writes beside its samples, on three dummy events for each CPU.
//!
//! New names have an event of their own, which wakes us at the first record: an exec is one, and the files that it maps want to be opened before the process
//! is gone. Mappings, and threads that come and go, wake nobody until their ring begins to fill: a wake-up in the middle of its `mprotect` costs a process 25 us, and
//! there are some that change their mappings all the time.
//!
//! What found no room, the kernel tells in a record of its own, but only together with the next one that does find room. The last losses of a recording, or of
//! a CPU that goes away, would stay untold; so each event is asked for its whole number at its end.

use super::cpus;
use super::error::BpfError;
use super::mmap_ring::MmapRing;
use super::order::Last;
use super::perf_event::{Attributes, PerfEvent, READ_LOST, SAMPLE_TIME, SOFTWARE_DUMMY, TYPE_SOFTWARE, flag};
use crate::model::event::{MonotonicNs, ProcessEvent, TimedEvent};
use crate::model::mapping::{InodeId, MappedRange};
use crate::model::process::{Pid, Tid};
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};

// Types of record, and bits of their `misc` (include/uapi/linux/perf_event.h).
const RECORD_LOST: u32 = 2;
const RECORD_COMM: u32 = 3;
const RECORD_EXIT: u32 = 4;
const RECORD_FORK: u32 = 7;
const RECORD_MMAP2: u32 = 10;
const MISC_COMM_EXEC: u16 = 1 << 13;
const MISC_BUILD_ID: u16 = 1 << 14;

/// Bytes of one CPU's ring of mappings: room for 10,000 of them, which a process can make in 40 ms; a quarter of it on a machine with many CPUs.
const MAPPING_RING_BYTES: usize = 1 << 20;
/// A wake-up for so many bytes, some 200 to 300 mappings: an exec wakes us anyway, and who changes one now and then waits for us in none of a hundred changes.
const MAPPING_WAKE_BYTES: usize = 32 << 10;
/// Bytes of one CPU's ring of everything else, of which some thousand records find room as well.
const TASK_RING_BYTES: usize = 128 << 10;
/// Bytes of one CPU's ring of names.
const NAME_RING_BYTES: usize = 32 << 10;
const MANY_CPUS: usize = 8;

/// The dummy events and their rings, by CPU.
#[derive(Debug)]
pub(super) struct SideBand {
    cpus: BTreeMap<u32, [Channel; 3]>,
    /// What the rings are divided by.
    share: usize,
    /// Records that CPUs which are gone had no room for, not yet handed over.
    lost_with_cpus: u64,
}

/// An event and its ring.
#[derive(Debug)]
struct Channel {
    event: PerfEvent,
    ring: MmapRing,
    /// What it is known to have lost, by its records.
    told: u64,
}

impl Channel {
    fn drain(&mut self, each: &mut impl FnMut(Option<Record>)) {
        self.ring.drain(|bytes| {
            if let Some(record) = decode(bytes) {
                if let Some(Record::Lost(records)) = record {
                    self.told += records;
                }
                each(record);
            }
        });
    }

    /// What it has lost and no record tells of. A kernel that cannot be asked says nothing.
    fn untold(&self) -> u64 {
        self.event.lost().map_or(0, |lost| lost.saturating_sub(self.told))
    }
}

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// Something happened.
    Event(TimedEvent),
    /// The kernel had no room for this many records.
    Lost(u64),
}

impl SideBand {
    /// Opens the events; records are written from now on.
    pub(super) fn open() -> Result<Self, BpfError> {
        let online = cpus::online()?;
        let share = if online.len() > MANY_CPUS { 4 } else { 1 };
        let mut band = Self { cpus: BTreeMap::new(), share, lost_with_cpus: 0 };
        for cpu in online {
            band.add(cpu)?;
        }
        Ok(band)
    }

    /// Takes in a CPU that came on line.
    pub(super) fn add(&mut self, cpu: u32) -> Result<(), BpfError> {
        if self.cpus.contains_key(&cpu) {
            return Ok(());
        }
        let open = |flags: u64, ring_bytes: usize, wakeup: usize| -> Result<Option<Channel>, BpfError> {
            let attributes = Attributes {
                kind: TYPE_SOFTWARE,
                config: SOFTWARE_DUMMY,
                sample_type: SAMPLE_TIME,
                read_format: READ_LOST,
                flags: flags | flag::SAMPLE_ID_ALL | flag::WATERMARK | flag::USE_CLOCK_ID,
                wakeup: wakeup as u32,
                clock_id: libc::CLOCK_MONOTONIC,
                ..Attributes::default()
            };
            let event = match PerfEvent::open(&attributes, cpu) {
                // Before Linux 6.0, which another check refuses in better words.
                Err(source) if source.raw_os_error() == Some(libc::EINVAL) => {
                    PerfEvent::open(&Attributes { read_format: 0, ..attributes }, cpu)
                }
                opened => opened,
            };
            let event = match event {
                Err(source) if source.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
                other => other.map_err(|source| BpfError::PerfEvent { event: "process events", cpu, source })?,
            };
            let ring = MmapRing::map(&event, ring_bytes)?;
            Ok(Some(Channel { event, ring, told: 0 }))
        };
        let (mapping_bytes, task_bytes) = (MAPPING_RING_BYTES / self.share, TASK_RING_BYTES / self.share);
        let mappings = open(flag::MMAP | flag::MMAP2, mapping_bytes, MAPPING_WAKE_BYTES)?;
        let tasks = open(flag::TASK, task_bytes, task_bytes / 4)?;
        let names = open(flag::COMM | flag::COMM_EXEC, NAME_RING_BYTES / self.share, 1)?;
        if let (Some(mappings), Some(tasks), Some(names)) = (mappings, tasks, names) {
            self.cpus.insert(cpu, [mappings, tasks, names]);
        }
        Ok(())
    }

    /// Lets go of a CPU that went off line, after a last drain.
    pub(super) fn remove(&mut self, cpu: u32) {
        let channels = self.cpus.remove(&cpu);
        self.lost_with_cpus += channels.iter().flatten().map(Channel::untold).sum::<u64>();
    }

    /// Hands over everything that waits, CPU by CPU; the last time also what was lost and no record told of.
    pub(super) fn drain(&mut self, last: Last, mut each: impl FnMut(Option<Record>)) {
        self.cpus.values_mut().flatten().for_each(|channel| channel.drain(&mut each));
        let untold = match last {
            Last::No => 0,
            Last::Yes => self.cpus.values().flatten().map(Channel::untold).sum(),
        };
        let lost = untold + std::mem::take(&mut self.lost_with_cpus);
        if lost > 0 {
            each(Some(Record::Lost(lost)));
        }
    }

    /// Nothing more is written. (What cannot be stopped goes on, and is drained as before.)
    pub(super) fn stop(&self) {
        for channel in self.cpus.values().flatten() {
            let _ = channel.event.disable();
        }
    }

    /// Descriptors that become readable when records wait.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.cpus.values().flatten().map(|channel| channel.event.as_fd())
    }

    /// Bytes of all rings.
    pub(super) fn bytes(&self) -> usize {
        self.cpus.values().flatten().map(|channel| channel.ring.bytes()).sum()
    }
}

/// Reads words off a record, front to back.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_ne_bytes(*word))
    }

    fn u64(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*word))
    }
}

/// The outer None: a record of no interest. The inner one: a record that does not read as what it says it is.
fn decode(bytes: &[u8]) -> Option<Option<Record>> {
    let mut words = Words(bytes);
    let (kind, word) = (words.u32()?, words.u32()?);
    let misc = word as u16;
    // The trailer that `sample_id_all` adds: the time alone.
    let (body, trailer) = words.0.split_at_checked(words.0.len().checked_sub(8)?)?;
    let time = MonotonicNs(Words(trailer).u64()?);
    let body = Words(body);
    let event = match kind {
        RECORD_LOST => return Some(lost(body).map(Record::Lost)),
        RECORD_COMM => comm(body, misc),
        RECORD_FORK => fork(body),
        RECORD_EXIT => exit(body),
        // pid -1: memory of the kernel's own.
        RECORD_MMAP2 if body.0.starts_with(&[0xff; 4]) => return None,
        RECORD_MMAP2 => mapping(body, misc),
        _ => return None,
    };
    Some(event.map(|event| Record::Event(TimedEvent { time, event })))
}

fn lost(mut body: Words<'_>) -> Option<u64> {
    let _id = body.u64()?;
    body.u64()
}

fn comm(mut body: Words<'_>, misc: u16) -> Option<ProcessEvent> {
    let (pid, tid) = (Pid(body.u32()?), Tid(body.u32()?));
    let comm = until_nul(body.0).to_vec();
    Some(if misc & MISC_COMM_EXEC != 0 { ProcessEvent::Exec { pid, comm } } else { ProcessEvent::Renamed { pid, tid, comm } })
}

fn fork(mut body: Words<'_>) -> Option<ProcessEvent> {
    let (pid, parent, tid) = (body.u32()?, body.u32()?, body.u32()?);
    Some(ProcessEvent::Fork { pid: Pid(pid), tid: Tid(tid), parent: Pid(parent) })
}

fn exit(mut body: Words<'_>) -> Option<ProcessEvent> {
    let (pid, _parent, tid) = (body.u32()?, body.u32()?, body.u32()?);
    Some(ProcessEvent::Exit { pid: Pid(pid), tid: Tid(tid) })
}

fn mapping(mut body: Words<'_>, misc: u16) -> Option<ProcessEvent> {
    let (pid, _tid) = (body.u32()?, body.u32()?);
    let (start, length, file_offset) = (body.u64()?, body.u64()?, body.u64()?);
    let (major, minor, inode, generation) = (body.u32()?, body.u32()?, body.u64()?, body.u64()?);
    let (_protection, _flags) = (body.u32()?, body.u32()?);
    // With a build id in their place the four are not what their names say.
    let file = if misc & MISC_BUILD_ID != 0 { InodeId { major: 0, minor: 0, inode: 0 } } else { InodeId { major, minor, inode } };
    let range = MappedRange {
        start,
        end: start.checked_add(length)?,
        file_offset,
        file,
        generation: Some(generation as u32),
        path: until_nul(body.0).to_vec(),
    };
    Some(ProcessEvent::Map { pid: Pid(pid), range })
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(kind: u32, misc: u16, words: &[u32], tail: &[u8], time: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(misc.to_ne_bytes());
        bytes.extend(0u16.to_ne_bytes());
        words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes.extend(tail);
        bytes.extend(time.to_ne_bytes());
        bytes
    }

    #[test]
    fn an_exec_is_told_from_a_new_name() {
        let named = record(RECORD_COMM, 0, &[7, 8], b"worker\0\0", 99);
        assert_eq!(
            decode(&named),
            Some(Some(Record::Event(TimedEvent {
                time: MonotonicNs(99),
                event: ProcessEvent::Renamed { pid: Pid(7), tid: Tid(8), comm: b"worker".to_vec() }
            })))
        );
        let exec = record(RECORD_COMM, MISC_COMM_EXEC, &[7, 7], b"sh\0\0\0\0\0\0", 1);
        assert!(matches!(decode(&exec), Some(Some(Record::Event(TimedEvent { event: ProcessEvent::Exec { .. }, .. })))));
    }

    #[test]
    fn a_mapping_keeps_its_file_and_path() {
        let words = [5, 5, 0x1000, 0, 0x2000, 0, 0x3000, 0, 8, 1, 42, 0, 9, 0, 5, 2];
        let bytes = record(RECORD_MMAP2, 2, &words, b"/bin/a b\0\0\0\0\0\0\0\0", 3);
        let Some(Some(Record::Event(TimedEvent { event: ProcessEvent::Map { pid, range }, .. }))) = decode(&bytes) else {
            panic!("a mapping")
        };
        assert_eq!((pid, range.start, range.end, range.file_offset), (Pid(5), 0x1000, 0x3000, 0x3000));
        assert_eq!((range.file, range.path.as_slice()), (InodeId { major: 8, minor: 1, inode: 42 }, b"/bin/a b".as_slice()));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
