//! One round: look, read, look again.

use crate::bpf::{BpfError, Capture, SeenThread};
use crate::memory::{MemoryError, MemoryReader, Range};
use crate::model::process::Pid;
use crate::model::stack::{LastAddress, UserStack};
use profiler_common::snapshot::{ThreadRecord, USER_COMPAT, USER_NATIVE};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Bytes of a stack that are read at first: most are not deeper.
pub const BYTES_FIRST: u32 = 2 << 10;
/// And at most.
pub const BYTES_MAX: u32 = 1 << 20;
/// So many threads are few.
const FEW: usize = 16;
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

/// A thread that was met.
#[derive(Debug)]
pub struct Thread {
    /// What the kernel knew of it at the second look.
    pub seen: SeenThread,
    /// Its user stack.
    pub user: Result<Taken, Missing>,
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

impl Look<'_> {
    /// Looks at all threads, or at those of these ids; each with how many bytes of its stack are wanted.
    ///
    /// # Errors
    /// The iterator or the helper cannot be had.
    pub fn round(&mut self, wanted: Option<&BTreeMap<u32, u32>>) -> Result<Vec<Thread>, LookError> {
        let bytes_of = |tid: u32| wanted.map_or(Some(BYTES_FIRST), |wanted| wanted.get(&tid).copied());
        let first = self.look(wanted)?;
        let still: Vec<(&SeenThread, Range)> =
            first.iter().filter_map(|seen| Some((seen, range(&seen.record, bytes_of(seen.record.tid)?)?))).collect();
        let ranges: Vec<Range> = still.iter().map(|(_, range)| *range).collect();
        let mut read = Vec::with_capacity(ranges.len());
        self.read(&ranges, &mut read)?;
        let read: HashMap<u32, (&ThreadRecord, Result<Vec<u8>, Missing>)> =
            still.iter().zip(read).map(|((seen, _), bytes)| (seen.record.tid, (&seen.record, bytes))).collect();
        let second = self.look(wanted)?;
        let thread = |seen: SeenThread| {
            let asked = bytes_of(seen.record.tid)?;
            let user = user(&seen.record, read.get(&seen.record.tid), asked);
            Some(Thread { seen, user })
        };
        Ok(second.into_iter().filter_map(thread).collect())
    }

    /// A few threads are looked at one by one, and nobody beside them.
    fn look(&mut self, wanted: Option<&BTreeMap<u32, u32>>) -> Result<Vec<SeenThread>, BpfError> {
        match wanted {
            Some(wanted) if wanted.len() <= FEW => self.capture.look_at_some(wanted.keys().copied()),
            _ => self.capture.look_at_threads(self.pid),
        }
    }

    /// Reads ranges; where the helper does not come back, half of them at a time, until the one is found that holds it.
    fn read(&mut self, ranges: &[Range], into: &mut Vec<Result<Vec<u8>, Missing>>) -> Result<(), LookError> {
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

/// What the two looks and the bytes in between say of a thread.
fn user(now: &ThreadRecord, read: Option<&(&ThreadRecord, Result<Vec<u8>, Missing>)>, asked: u32) -> Result<Taken, Missing> {
    match now.user {
        USER_NATIVE => {}
        USER_COMPAT => {
            let stack = UserStack::Walked { addresses: vec![now.registers[0]], ended: profiler_common::ended::Ended::Compat };
            return Ok(Taken { stack, is_part: false });
        }
        _ => return Err(Missing::NoUserSide),
    }
    let (before, bytes) = read.ok_or(Missing::Moved)?;
    if now.is_on_cpu != 0 || !is_same_moment(before, now) {
        return Err(Missing::Moved);
    }
    let bytes = bytes.as_ref().map_err(|why| *why)?;
    let registers = now.walk_from();
    let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default())).collect();
    let stack = UserStack::Unfinished { addresses: vec![registers.ip], registers, at: LastAddress::Interrupted, words };
    Ok(Taken { stack, is_part: bytes.len() >= asked as usize && asked < BYTES_MAX })
}

/// Whether a thread has not run between two looks, at both of which it was on no CPU: whoever leaves a CPU is counted.
fn is_same_moment(before: &ThreadRecord, now: &ThreadRecord) -> bool {
    before.process == now.process
        && before.voluntary_switches == now.voluntary_switches
        && before.involuntary_switches == now.involuntary_switches
        && before.registers == now.registers
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    #[test]
    fn a_thread_that_has_run_in_between_has_no_stack_and_one_that_has_not_has() {
        let before =
            ThreadRecord { user: USER_NATIVE, registers: [0x1000, 0x7000, 0, 0], voluntary_switches: 4, ..ThreadRecord::new_zeroed() };
        let bytes = |length| Ok(vec![0; length]);
        assert!(user(&before, Some(&(&before, bytes(4096))), 4096).is_ok_and(|taken| taken.is_part));
        assert!(user(&before, Some(&(&before, bytes(512))), 4096).is_ok_and(|taken| !taken.is_part));
        for moved in [
            ThreadRecord { voluntary_switches: 5, ..before },
            ThreadRecord { involuntary_switches: 1, ..before },
            ThreadRecord { is_on_cpu: 1, ..before },
        ] {
            assert_eq!(user(&moved, Some(&(&before, bytes(4096))), 4096).unwrap_err(), Missing::Moved);
        }
        assert_eq!(user(&before, None, 4096).unwrap_err(), Missing::Moved);
        assert_eq!(user(&before, Some(&(&before, Err(Missing::Hangs))), 4096).unwrap_err(), Missing::Hangs);
        let kernel = ThreadRecord { user: 0, ..before };
        assert_eq!(user(&kernel, None, 4096).unwrap_err(), Missing::NoUserSide);
    }
}
