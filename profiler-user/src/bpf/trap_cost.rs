//! What a trap costs on this machine: a function of our own is called with a probe on it and without. And what the traps of a recording have cost by that.

use super::counters::Counted;
use super::probes::{Probes, Ran, Trap};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// Calls of one measurement.
const CALLS: u32 = 500;
/// How much dearer a trap is in a program than in a loop that does nothing else: it takes caches and predictions with it that the program has to make anew.
/// (Measured on CPython that reads and writes JSON: 660 to 690 ns for a call that costs some 560 by the loop, 1.2 times as much; a little more is taken, for
/// returns and stepped instructions were not measured so, and a budget is to be kept.)
const IN_A_PROGRAM: f64 = 1.25;
/// Measurements, of which the fastest counts: what disturbs one makes it longer.
const TURNS: usize = 5;

#[cfg(not(target_arch = "aarch64"))]
std::arch::global_asm!(
    ".globl profiler_tried_emulated",
    ".globl profiler_tried_stepped",
    "profiler_tried_emulated: push rbp",
    "pop rbp",
    "ret",
    "profiler_tried_stepped: xor eax, eax",
    "ret",
);
#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".globl profiler_tried_emulated",
    ".globl profiler_tried_stepped",
    "profiler_tried_emulated: nop",
    "ret",
    "profiler_tried_stepped: mov x0, xzr",
    "ret",
);

// SAFETY: two functions without arguments, as they stand above.
unsafe extern "C" {
    safe fn profiler_tried_emulated();
    safe fn profiler_tried_stepped();
}

/// Nanoseconds of each trap, the program's own time in it left out where that is measured by itself.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct TrapCost {
    emulated: f64,
    stepped: f64,
    returned: f64,
}

/// What the traps of a recording have cost so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spent {
    /// All of them, with the programs that they run: time of the traced processes.
    pub all: Duration,
    /// The part of it for calls that make a block, without their returns: what would be left if nothing else were probed.
    pub entries: Duration,
}

impl TrapCost {
    /// Tries it out. The programs must be counting nothing; those of returns are asked for by the caller.
    pub(super) fn measure(probes: &Probes, ask_for_returns: impl FnOnce() -> Result<(), super::BpfError>) -> Result<Self, super::BpfError> {
        let failed = |source| super::BpfError::Probe { pid: std::process::id(), source };
        let tried = |function: extern "C" fn(), trap| {
            let (path, offset) = place_of(function as usize as u64)?;
            let plain = fastest(function);
            let links = probes.try_out(&path, offset, trap)?;
            let trapped = fastest(function);
            drop(links);
            Ok((trapped - plain).max(0.0))
        };
        let emulated = tried(profiler_tried_emulated, Trap::Entry).map_err(failed)?;
        let stepped = tried(profiler_tried_stepped, Trap::Entry).map_err(failed)?;
        ask_for_returns()?;
        let both = tried(profiler_tried_emulated, Trap::EntryAndReturn).map_err(failed)?;
        Ok(Self { emulated, stepped: stepped.max(emulated), returned: (both - emulated).max(0.0) })
    }

    /// What has been spent.
    pub(super) fn spent(&self, ran: &Ran, counted: &Counted) -> Spent {
        let stepped = counted.stepped as f64 * (self.stepped - self.emulated);
        let returns = ran.calls_and_returns.saturating_sub(counted.runs) as f64 * self.returned;
        let traps = IN_A_PROGRAM * ((counted.runs + ran.frees) as f64 * self.emulated + stepped + returns);
        let entries = IN_A_PROGRAM * (counted.runs as f64 * self.emulated + stepped);
        // The programs' own time goes by calls: a call that is not sampled, and a free, hardly take any.
        let nanoseconds = |number: f64| Duration::from_nanos(number as u64);
        Spent { all: nanoseconds(traps + ran.time_ns as f64), entries: nanoseconds(entries + ran.time_ns as f64) }
    }
}

/// Nanoseconds of a call.
fn fastest(function: extern "C" fn()) -> f64 {
    let turn = || {
        let begun = Instant::now();
        (0..CALLS).for_each(|_| function());
        begun.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    (0..TURNS).map(|_| turn()).fold(f64::INFINITY, f64::min)
}

/// The file and the offset in it that an address of our own text is mapped from.
fn place_of(address: u64) -> io::Result<(String, u64)> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    maps.lines().find_map(|line| place_in(line, address)).ok_or_else(|| io::Error::other("our own text is in no file"))
}

fn place_in(line: &str, address: u64) -> Option<(String, u64)> {
    let mut words = line.split_whitespace();
    let range = words.next()?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let offset = u64::from_str_radix(words.nth(1)?, 16).ok()?;
    (start..end).contains(&address).then(|| (format!("/proc/self/map_files/{range}"), address - start + offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_text_is_found_in_its_file() {
        let (path, offset) = place_of(profiler_tried_stepped as extern "C" fn() as usize as u64).expect("it is mapped");
        assert!(path.starts_with("/proc/self/map_files/"));
        assert!(offset > 0);
        let line = "55d0-55f0 r-xp 00001000 fe:00 42 /usr/bin/x";
        assert_eq!(place_in(line, 0x55d8), Some(("/proc/self/map_files/55d0-55f0".into(), 0x1008)));
        assert_eq!(place_in(line, 0x55f0), None);
    }

    #[test]
    fn what_is_spent_is_what_was_met() {
        let cost = TrapCost { emulated: 600.0, stepped: 4000.0, returned: 300.0 };
        let ran = Ran { calls_and_returns: 1100, frees: 500, time_ns: 50_000 };
        let counted = Counted { runs: 1000, stepped: 10, ..Counted::default() };
        // 1,500 traps, 10 of them dear, 100 returns, and the programs.
        let in_a_program = |ns: u64| Duration::from_nanos(ns * 5 / 4 + 50_000);
        assert_eq!(cost.spent(&ran, &counted).all, in_a_program(1500 * 600 + 10 * 3400 + 100 * 300));
        assert_eq!(cost.spent(&ran, &counted).entries, in_a_program(1000 * 600 + 10 * 3400));
    }
}
