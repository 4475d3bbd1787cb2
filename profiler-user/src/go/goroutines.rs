//! The goroutines of a Go program that runs, from the runtime's own table. Nobody is stopped: each is read, then its stack, then it is read again, and what is not
//! the same both times counts as moving (the runtime moves stacks).

use super::error::GoHeapError;
use super::goroutine_layout::{self as layout, Layout};
use super::pages::Pages;
use crate::memory::{MemoryReader, RANGE_MAX_BYTES, Range, Unreadable};
use crate::model::go_heap::NoGoHeap;
use crate::model::goroutines::GoroutinePlaces;
use crate::model::process::Pid;
use crate::model::stack::{LastAddress, Manner, UserStack};
use profiler_common::ended::Ended;
use profiler_common::unwind::Registers;
use std::time::Instant;

/// Goroutines that are read; a program may say that it has more.
const GOROUTINES_MAX: u64 = 4 << 20;
/// Bytes of one stack that are read together with others ..
const STACK_MAX: u64 = 256 << 10;
/// .. and of one that has more. Go's own dumps tell the outermost frames of the deepest stack and how many are left out.
const DEEP_STACK_MAX: u64 = 16 << 20;
/// Frames of one stack: of a program that recurses without an end the outermost are missing.
const FRAMES_MAX: usize = 1 << 17;
/// Goroutines that are read together.
const BATCH: usize = 128;
/// Rounds for one that moves.
const ROUNDS: usize = 3;
/// Labels of one goroutine, and bytes of each text.
const LABELS_MAX: u64 = 16;
const LABEL_MAX_BYTES: u64 = 256;

/// Whose goroutines.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The process. Whoever asks makes sure that it is the one meant, before and after.
    pub pid: Pid,
    /// The difference between the addresses in the process and those in its file.
    pub bias: u64,
    /// What the file says.
    pub places: GoroutinePlaces,
    /// When it must be done.
    pub deadline: Instant,
    /// Bytes of stacks that may be kept here.
    pub bytes_max: usize,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Goroutine {
    /// Its number.
    pub id: u64,
    /// State, or why it waits.
    pub state: &'static str,
    /// Since when it waits, on the monotonic clock, ns; 0 if the runtime has not noted it.
    pub wait_since: u64,
    /// It runs on no other thread.
    pub is_locked: bool,
    /// By which it was started; 0 if that is not known.
    pub parent: u64,
    /// Where the call returns to that started it; 0 if none did.
    pub created_at: u64,
    /// Its first function.
    pub begins_at: u64,
    /// The thread that runs it.
    pub thread: Option<u32>,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Registers and bytes, or why there is no stack.
    pub stack: Result<UserStack, NoStack>,
}

/// Why a goroutine has no stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoStack {
    /// It runs: its registers are those of its thread.
    Running,
    /// It has moved each time.
    Moving,
    /// Its stack cannot be read.
    Unreadable,
    /// There are more stacks than there is room for.
    NoRoom,
}

/// Reads them all, in the order of their numbers.
///
/// # Errors
/// The table is not one, or the process does not let it be read.
pub fn read(memory: &mut MemoryReader, request: &Request) -> Result<Vec<Goroutine>, GoHeapError> {
    let places = request.places;
    let layout = layout::of(places.minor).ok_or(GoHeapError::Implausible { address: 0, what: "its version is not known" })?;
    let table = table(memory, request)?;
    let mut found = Found {
        layout,
        request: *request,
        goroutines: Vec::new(),
        odd: 0,
        left: request.bytes_max,
        deep: Vec::new(),
        share: STACK_MAX as usize,
    };
    for batch in table.chunks(BATCH) {
        found.batch(memory, batch)?;
    }
    let deep = std::mem::take(&mut found.deep);
    for (at, one) in deep.iter().enumerate() {
        found.share = (found.left / (deep.len() - at)).clamp(STACK_MAX as usize, DEEP_STACK_MAX as usize);
        found.batch(memory, &[*one])?;
    }
    // A program that runs has some that can be read, and next to none that cannot be one.
    if found.odd * 8 > table.len() || found.goroutines.is_empty() {
        return Err(GoHeapError::Implausible { address: places.all.wrapping_add(request.bias), what: "what it lists are no goroutines" });
    }
    let mut goroutines = found.goroutines;
    goroutines.sort_by_key(|goroutine| goroutine.id);
    goroutines.dedup_by_key(|goroutine| goroutine.id);
    Ok(goroutines)
}

/// The addresses of all goroutines there have ever been at once. The table only grows; while it is moved to a larger place, length and place may not belong
/// together, so the length is read on both sides of the place.
fn table(memory: &mut MemoryReader, request: &Request) -> Result<Vec<u64>, GoHeapError> {
    let at = request.places.all.wrapping_add(request.bias);
    let implausible = |what| GoHeapError::Implausible { address: at, what };
    let mut pages = Pages::new(memory, request.pid, request.deadline);
    let slice = |pages: &mut Pages<'_>| -> Result<[u64; 3], GoHeapError> {
        pages.forget();
        Ok([pages.u64(at.wrapping_add(8))?, pages.u64(at)?, pages.u64(at.wrapping_add(16))?])
    };
    let (mut last, mut now) = (slice(&mut pages)?, slice(&mut pages)?);
    for _ in 0..100 {
        if last == now {
            break;
        }
        (last, now) = (now, slice(&mut pages)?);
    }
    let [length, first, room] = now;
    if length == 0 || length > room || length > GOROUTINES_MAX || !first.is_multiple_of(8) {
        return Err(implausible("the table of goroutines has no such length"));
    }
    if length.saturating_mul(16) as usize > request.bytes_max {
        return Err(GoHeapError::TooLarge(request.bytes_max));
    }
    let mut bytes = vec![0; length as usize * 8];
    pages.copy(first, &mut bytes)?;
    let mut table: Vec<u64> = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default())).collect();
    // The same one again and again is no table of the runtime's; it is read once.
    let listed = table.len();
    table.sort_unstable();
    table.dedup();
    if table.len() * 2 < listed || table.iter().any(|address| !address.is_multiple_of(8)) {
        return Err(implausible("the table of goroutines lists the same ones again and again, or no addresses"));
    }
    Ok(table)
}

struct Found {
    layout: Layout,
    request: Request,
    goroutines: Vec<Goroutine>,
    /// What was listed and is no goroutine.
    odd: usize,
    left: usize,
    /// Those with much on their stacks, which are read one by one.
    deep: Vec<u64>,
    /// Bytes that one of those may have.
    share: usize,
}

impl Found {
    /// Reads some: first these, then their stacks, then these again; those that have moved once more.
    fn batch(&mut self, memory: &mut MemoryReader, batch: &[u64]) -> Result<(), GoHeapError> {
        let mut open: Vec<u64> = batch.to_vec();
        for round in 1..=ROUNDS {
            let before = self.read(memory, &open.iter().map(|at| Range { address: *at, length: layout::BYTES }).collect::<Vec<_>>())?;
            let stacks: Vec<Option<(u64, u64)>> = before.iter().map(|one| self.stack_of(one.as_deref())).collect();
            let is_read_now = |stack: &(u64, u64)| stack.1 <= STACK_MAX || batch.len() == 1;
            let wanted: Vec<Vec<Range>> = stacks
                .iter()
                .map(|stack| stack.filter(is_read_now).map(|stack| parts(stack, self.share.min(self.left))).unwrap_or_default())
                .collect();
            let mut read = self.read(memory, &wanted.concat())?.into_iter();
            let after = self.read(memory, &open.iter().map(|at| Range { address: *at, length: layout::BYTES }).collect::<Vec<_>>())?;
            let mut again = Vec::new();
            for (at, ((before, after), (stack, wanted))) in
                open.iter().zip(before.into_iter().zip(after).zip(stacks.into_iter().zip(wanted)))
            {
                let bytes = joined(&wanted, read.by_ref().take(wanted.len()).collect());
                if stack.is_some_and(|stack| !is_read_now(&stack)) {
                    self.deep.push(*at);
                    continue;
                }
                if self.has_moved(before.as_deref(), after.as_deref()) && round < ROUNDS {
                    again.push(*at);
                    continue;
                }
                let moved = self.has_moved(before.as_deref(), after.as_deref());
                self.take(memory, after.as_deref(), if moved { Err(NoStack::Moving) } else { bytes.ok_or(NoStack::Unreadable) })?;
            }
            if again.is_empty() {
                break;
            }
            open = again;
        }
        Ok(())
    }

    fn read(&self, memory: &mut MemoryReader, ranges: &[Range]) -> Result<Vec<Option<Vec<u8>>>, GoHeapError> {
        let read = memory.read(self.request.pid, ranges, self.request.deadline)?;
        let one = |bytes: Result<Vec<u8>, Unreadable>| match bytes {
            Err(Unreadable::Gone) => Err(GoHeapError::Gone),
            Err(_) => Ok(None),
            Ok(bytes) => Ok(Some(bytes)),
        };
        read.into_iter().map(one).collect()
    }

    /// Whether it has run between two readings, as far as the runtime notes it.
    fn has_moved(&self, before: Option<&[u8]>, after: Option<&[u8]>) -> bool {
        let (Some(before), Some(after)) = (before, after) else { return false };
        let of = self.layout;
        let places =
            [layout::STACK_LOW, layout::STACK_HIGH, layout::SP, layout::PC, of.bp, of.system_sp, of.system_pc, of.id, of.wait_since];
        places.into_iter().any(|at| word(before, at) != word(after, at))
            || half(before, of.status) & !layout::SCAN != half(after, of.status) & !layout::SCAN
    }

    /// Registers of one that does not run: instruction pointer, stack pointer, frame pointer.
    fn registers(&self, bytes: &[u8]) -> Option<Registers> {
        let of = self.layout;
        let (ip, sp, fp) = match half(bytes, of.status) & !layout::SCAN {
            layout::RUNNING => return None,
            layout::IN_SYSTEM_CALL => (word(bytes, of.system_pc), word(bytes, of.system_sp), of.system_bp.map_or(0, |at| word(bytes, at))),
            _ => (word(bytes, layout::PC), word(bytes, layout::SP), word(bytes, of.bp)),
        };
        Some(Registers { ip, sp, fp, bx: 0 })
    }

    /// Where its stack is to be read: from which address on, and how many bytes.
    fn stack_of(&self, bytes: Option<&[u8]>) -> Option<(u64, u64)> {
        let bytes = bytes?;
        layout::state(half(bytes, self.layout.status) & !layout::SCAN)?;
        let (low, high) = (word(bytes, layout::STACK_LOW), word(bytes, layout::STACK_HIGH));
        let sp = self.registers(bytes)?.sp;
        (low < sp && sp < high && sp.is_multiple_of(8)).then(|| (sp, high - sp))
    }

    /// Keeps one, if it is one.
    fn take(&mut self, memory: &mut MemoryReader, bytes: Option<&[u8]>, stack: Result<Vec<u8>, NoStack>) -> Result<(), GoHeapError> {
        let Some(bytes) = bytes.filter(|bytes| bytes.len() == layout::BYTES as usize) else {
            self.odd += 1;
            return Ok(());
        };
        let (of, minor) = (self.layout, self.request.places.minor);
        let status = half(bytes, of.status);
        let id = word(bytes, of.id);
        if !layout::is_state(status) {
            self.odd += 1;
            return Ok(());
        }
        let status = status & !layout::SCAN;
        let Some(state) = layout::state(status).filter(|_| id != 0) else { return Ok(()) };
        let reason = || bytes.get(of.wait_reason).and_then(|number| layout::reason(minor, *number));
        let waits = matches!(status, layout::WAITING | layout::LEAKED);
        let stack = if status == layout::RUNNING { Err(NoStack::Running) } else { stack.and_then(|stack| self.unfinished(bytes, &stack)) };
        let thread = word(bytes, layout::THREAD);
        self.goroutines.push(Goroutine {
            id,
            state: if waits { reason().unwrap_or(state) } else { state },
            wait_since: if waits || status == layout::IN_SYSTEM_CALL { word(bytes, of.wait_since) } else { 0 },
            is_locked: word(bytes, of.locked) != 0,
            parent: word(bytes, of.parent),
            created_at: word(bytes, of.created_at),
            begins_at: word(bytes, of.begins_at),
            thread: if status == layout::RUNNING { self.thread(memory, thread)? } else { None },
            labels: if minor >= 24 { labels(memory, &self.request, word(bytes, of.labels))? } else { Vec::new() },
            stack,
        });
        Ok(())
    }

    /// The stack as what is walked later. One that has never run stands at the first instruction of its first function; else a call returns to where it stands.
    fn unfinished(&mut self, bytes: &[u8], stack: &[u8]) -> Result<UserStack, NoStack> {
        let registers = self.registers(bytes).ok_or(NoStack::Running)?;
        self.left = self.left.checked_sub(stack.len()).ok_or(NoStack::NoRoom)?;
        let moved = |(first, end): (u64, u64)| (first.wrapping_add(self.request.bias), end.wrapping_add(self.request.bias));
        let (text, faults) = (moved(self.request.places.text), moved(self.request.places.faults));
        let (first, end, frame) = self.request.places.callbacks;
        let ((first, end), frames_max) = (moved((first, end)), FRAMES_MAX);
        let manner = Manner { frames_max, faults, callbacks: (first, end, frame) };
        let is_new = registers.ip == word(bytes, self.layout.begins_at);
        let (at, leaf) =
            if is_new { (LastAddress::Interrupted, registers.ip) } else { (LastAddress::ReturnedTo, registers.ip.wrapping_sub(1)) };
        if !(text.0..=text.1).contains(&registers.ip) {
            return Ok(UserStack::Walked { addresses: vec![leaf], ended: Ended::NoMapping });
        }
        let words = stack.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default())).collect();
        Ok(UserStack::Unfinished { addresses: vec![leaf], registers, at, leaf: None, words, beyond: None, manner })
    }

    /// The id of a thread of the runtime's.
    fn thread(&self, memory: &mut MemoryReader, at: u64) -> Result<Option<u32>, GoHeapError> {
        if at == 0 {
            return Ok(None);
        }
        let range = Range { address: at.wrapping_add(self.layout.thread_id as u64), length: 8 };
        let read = self.read(memory, &[range])?.pop().flatten();
        Ok(read.filter(|bytes| bytes.len() == 8).and_then(|bytes| u32::try_from(word(&bytes, 0)).ok()))
    }
}

/// What is read of a stack, in parts that can be read.
fn parts((address, length): (u64, u64), most: usize) -> Vec<Range> {
    // That there is no room left is found out by little.
    let length = length.min(most.max(8) as u64);
    let part = |from: u64| Range { address: address + from, length: (length - from).min(u64::from(RANGE_MAX_BYTES)) as u32 };
    (0..length).step_by(RANGE_MAX_BYTES as usize).map(part).collect()
}

/// What was read of the parts; what is missing in the middle ends it.
fn joined(wanted: &[Range], read: Vec<Option<Vec<u8>>>) -> Option<Vec<u8>> {
    let mut bytes = read.first()?.clone()?;
    for (at, part) in read.into_iter().enumerate().skip(1) {
        match part {
            Some(part) if bytes.len() as u64 == wanted[at].address - wanted[0].address => bytes.extend(part),
            _ => break,
        }
    }
    Some(bytes)
}

/// The labels, since 1.24 a slice of pairs. What cannot be read is no label.
fn labels(memory: &mut MemoryReader, request: &Request, at: u64) -> Result<Vec<(String, String)>, GoHeapError> {
    if at == 0 {
        return Ok(Vec::new());
    }
    let mut read = |address, length: u64| -> Result<Vec<u8>, GoHeapError> {
        let range = Range { address, length: length as u32 };
        let read = memory.read(request.pid, &[range], request.deadline)?.pop();
        Ok(read.and_then(Result::ok).filter(|bytes| bytes.len() as u64 == length).unwrap_or_default())
    };
    let slice = read(at, 16)?;
    let count = word(&slice, 8).min(LABELS_MAX);
    let pairs = read(word(&slice, 0), count * 32)?;
    let mut labels = Vec::new();
    for pair in pairs.chunks_exact(32) {
        let mut text = |at: usize| -> Result<String, GoHeapError> {
            let bytes = read(word(pair, at), word(pair, at + 8).min(LABEL_MAX_BYTES))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        labels.push((text(0)?, text(16)?));
    }
    labels.retain(|(key, value)| !key.is_empty() && !value.is_empty());
    Ok(labels)
}

/// A file without goroutines, in words.
pub fn why_not(why: &NoGoHeap) -> Option<String> {
    if *why == NoGoHeap::NotGo { None } else { Some(format!("{why}; its threads are shown instead")) }
}

/// A number of eight bytes; 0 where there is none.
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// A number of four bytes; 0 where there is none.
fn half(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
}
