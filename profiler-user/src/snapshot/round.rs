//! The steps of a round: look, read, look again.

use crate::bpf::{BpfError, Capture, SeenThread};
use crate::memory::{MemoryError, MemoryReader, RANGE_MAX_BYTES, Range};
use crate::model::process::Pid;
use crate::model::stack::{Beyond, LastAddress, Manner, UserStack};
use profiler_common::snapshot::{ThreadRecord, USER_COMPAT, USER_NATIVE};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Bytes of a stack that are read at first: most are not deeper.
const BYTES_FIRST: u32 = 2 << 10;
/// And at most.
pub const BYTES_MAX: u32 = 1 << 20;
/// So many threads are few.
const FEW: usize = 16;
/// Stacks that are read at once.
const PART: usize = 256;
/// How long the helper may take for one question; a page that does not come takes all of it.
const PATIENCE: Duration = Duration::from_millis(500);

/// What to look with, at whom.
pub struct Look<'a> {
    /// The border.
    pub capture: &'a mut Capture,
    /// The helper.
    pub memory: &'a mut MemoryReader,
    /// The process.
    pub pid: Pid,
    /// When the whole snapshot must be done: what was not read by then is not read.
    pub deadline: Instant,
}

/// The beginning of a user stack.
#[derive(Debug)]
pub struct Taken {
    /// Registers and bytes.
    pub stack: UserStack,
    /// More bytes may be had.
    pub is_part: bool,
}

/// Why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// It was on a CPU, or has run meanwhile: another round may do better.
    Moved,
    /// It has no user side.
    NoUserSide,
    /// Its stack cannot be read.
    Unreadable,
    /// A page of its stack does not come: it belongs to a file system that does not answer.
    Hangs,
}

/// How many bytes of their stacks are wanted, of all threads or of some.
pub type Wanted<'a> = Option<&'a BTreeMap<u32, u32>>;

/// How many bytes of a thread's stack are wanted, if it is.
pub fn wanted_of(wanted: Wanted<'_>, tid: u32) -> Option<u32> {
    wanted.map_or(Some(BYTES_FIRST), |wanted| wanted.get(&tid).copied())
}

impl Look<'_> {
    /// Looks at all threads, or at those that are wanted. A few are looked at one by one, and nobody beside them.
    ///
    /// # Errors
    /// The iterator cannot be had.
    pub fn threads(&mut self, wanted: Wanted<'_>) -> Result<Vec<SeenThread>, LookError> {
        let mut seen = match wanted {
            Some(wanted) if wanted.len() <= FEW => self.capture.look_at_some(wanted.keys().copied()),
            _ => self.capture.look_at_threads(self.pid),
        }?;
        seen.retain(|seen| wanted_of(wanted, seen.record.tid).is_some());
        Ok(seen)
    }

    /// Of threads that were looked at, as many from the first on as are read at once: so many stacks do not lie in memory side by side.
    pub fn part<'a>(seen: &'a [SeenThread], wanted: Wanted<'_>) -> &'a [SeenThread] {
        let mut bytes = 0;
        let fits = |seen: &&SeenThread| {
            bytes += u64::from(wanted_of(wanted, seen.record.tid).unwrap_or(0));
            bytes <= u64::from(RANGE_MAX_BYTES)
        };
        let most = seen.iter().take(PART).take_while(fits).count();
        &seen[..most.max(1).min(seen.len())]
    }

    /// What the stacks of threads that were looked at hold now. Whether that belongs together, another look must tell.
    ///
    /// # Errors
    /// The helper cannot be had.
    pub fn stacks(&mut self, seen: &[SeenThread], wanted: Wanted<'_>) -> Result<Vec<Result<Taken, Missing>>, LookError> {
        let range = |seen: &SeenThread| range(&seen.record, wanted_of(wanted, seen.record.tid)?);
        let ranges: Vec<Option<Range>> = seen.iter().map(range).collect();
        let mut read = Vec::with_capacity(ranges.len());
        self.read(&ranges.iter().flatten().copied().collect::<Vec<_>>(), &mut read)?;
        let mut read = read.into_iter();
        let one = |(seen, range): (&SeenThread, &Option<Range>)| {
            let read = range.and_then(|range| Some((range.length, read.next()?)));
            taken(&seen.record, read)
        };
        Ok(seen.iter().zip(&ranges).map(one).collect())
    }

    /// Reads ranges; where the helper does not come back, half of them at a time, until the one is found that holds it.
    ///
    /// # Errors
    /// The helper cannot be had.
    pub fn read(&mut self, ranges: &[Range], into: &mut Vec<Result<Vec<u8>, Missing>>) -> Result<(), LookError> {
        if ranges.is_empty() {
            return Ok(());
        }
        if Instant::now() >= self.deadline {
            into.extend(ranges.iter().map(|_| Err(Missing::Hangs)));
            return Ok(());
        }
        match self.memory.read(self.pid, ranges, Instant::now() + PATIENCE) {
            Ok(read) => into.extend(read.into_iter().map(|bytes| bytes.map_err(|_| Missing::Unreadable))),
            Err(MemoryError::Deadline) if ranges.len() == 1 => into.push(Err(Missing::Hangs)),
            Err(MemoryError::Deadline) => {
                let (front, back) = ranges.split_at(ranges.len() / 2);
                self.read(front, into)?;
                self.read(back, into)?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Why a look is not possible.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The iterator cannot be had.
    #[error(transparent)]
    Threads(#[from] BpfError),
    /// The helper cannot be had.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// What to read of a thread that is on no CPU.
fn range(record: &ThreadRecord, length: u32) -> Option<Range> {
    (record.user == USER_NATIVE && record.is_on_cpu == 0).then(|| Range { address: record.walk_from().sp & !7, length })
}

/// What is there to walk, by one look and the bytes that were read after it, of so many that were asked for.
fn taken(record: &ThreadRecord, read: Option<(u32, Result<Vec<u8>, Missing>)>) -> Result<Taken, Missing> {
    match record.user {
        USER_NATIVE => {}
        USER_COMPAT => {
            let stack = UserStack::Walked { addresses: vec![record.registers[0]], ended: profiler_common::ended::Ended::Compat };
            return Ok(Taken { stack, is_part: false });
        }
        _ => return Err(Missing::NoUserSide),
    }
    let (asked, bytes) = read.ok_or(Missing::Moved)?;
    let bytes = bytes?;
    let stack = unfinished(record, &bytes);
    Ok(Taken { stack, is_part: bytes.len() >= asked as usize && asked < BYTES_MAX })
}

/// A stack of which its thread's registers are known, and what was read from where it ends, to be walked.
pub fn unfinished(record: &ThreadRecord, bytes: &[u8]) -> UserStack {
    let registers = record.walk_from();
    let words = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default())).collect();
    UserStack::Unfinished {
        addresses: vec![registers.ip],
        registers,
        at: LastAddress::Interrupted,
        leaf: Some(record.leaf),
        words,
        beyond: Some(Beyond::default()),
        manner: Manner::default(),
    }
}

/// What there is of a thread whose stack was not read.
///
/// # Errors
/// Nothing.
pub fn unread(record: &ThreadRecord) -> Result<Taken, Missing> {
    taken(record, None)
}

/// Whether what was read between two looks at a thread is one moment's: it was on no CPU at both, and has not run in between, for whoever leaves a CPU is counted.
pub fn is_one_moment(before: &ThreadRecord, now: &ThreadRecord) -> bool {
    before.is_on_cpu == 0
        && now.is_on_cpu == 0
        && before.user == now.user
        && before.process == now.process
        && before.voluntary_switches == now.voluntary_switches
        && before.involuntary_switches == now.involuntary_switches
        && before.registers == now.registers
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    fn sleeping() -> ThreadRecord {
        ThreadRecord { user: USER_NATIVE, registers: [0x1000, 0x7000, 0, 0], voluntary_switches: 4, ..ThreadRecord::new_zeroed() }
    }

    #[test]
    fn a_thread_that_has_run_in_between_has_no_stack_and_one_that_has_not_has() {
        let before = sleeping();
        assert!(is_one_moment(&before, &before));
        for moved in [
            ThreadRecord { voluntary_switches: 5, ..before },
            ThreadRecord { involuntary_switches: 1, ..before },
            ThreadRecord { is_on_cpu: 1, ..before },
        ] {
            assert!(!is_one_moment(&before, &moved) && !is_one_moment(&moved, &before));
        }
        let mut other = before;
        other.process.tgid += 1;
        assert!(!is_one_moment(&before, &other));
    }

    #[test]
    fn what_was_read_is_to_be_walked_and_what_was_not_says_why() {
        let (before, bytes) = (sleeping(), |length| Some((4096, Ok(vec![0; length]))));
        assert!(taken(&before, bytes(4096)).is_ok_and(|taken| taken.is_part));
        assert!(taken(&before, bytes(512)).is_ok_and(|taken| !taken.is_part));
        assert_eq!(unread(&before).unwrap_err(), Missing::Moved);
        assert_eq!(taken(&before, Some((4096, Err(Missing::Hangs)))).unwrap_err(), Missing::Hangs);
        assert_eq!(unread(&ThreadRecord { user: 0, ..before }).unwrap_err(), Missing::NoUserSide);
        assert!(unread(&ThreadRecord { user: USER_COMPAT, ..before }).is_ok_and(|taken| !taken.is_part));
    }

    #[test]
    fn a_part_holds_no_more_than_is_read_at_once_and_at_least_one() {
        let seen: Vec<SeenThread> =
            (0..600).map(|tid| SeenThread { record: ThreadRecord { tid, ..sleeping() }, kernel: Vec::new() }).collect();
        assert_eq!(Look::part(&seen, None).len(), PART);
        assert_eq!(Look::part(&seen[..3], None).len(), 3);
        for (bytes, length) in [(RANGE_MAX_BYTES, 1), (RANGE_MAX_BYTES / 8, 8)] {
            let wanted = (0..600).map(|tid| (tid, bytes)).collect();
            assert_eq!(Look::part(&seen, Some(&wanted)).len(), length);
        }
        assert!(Look::part(&[], None).is_empty());
    }
}
