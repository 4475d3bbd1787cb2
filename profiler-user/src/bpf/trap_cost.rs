//! What a trap costs on this machine: a function of our own is called with a probe on it and without. And what the traps of a recording have cost by that.

use super::counters::Counted;
use super::probe_links::close;
use super::probes::{Probes, Ran, Returns, Trap};
use crate::model::process::Pid;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// Calls of one measurement.
const CALLS: u32 = 500;
/// How much dearer a trap is in a program than in a loop that does nothing else: it takes caches and predictions with it that the program has to make anew.
/// (Measured on redis 0.9 to 1.1, on CPython that reads and writes JSON 1.2, in PostgreSQL under pgbench 2.5 times as much. What a program does beside its calls
/// cannot be known from outside, and a budget is to be kept.)
const IN_A_PROGRAM: f64 = 2.5;
/// Links of another process beside our own, where it is tried out what each of them adds.
const OTHERS: usize = 8;
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
    /// What each other process adds that is probed in the same file: the kernel asks all who want to know of a place whether they mean this process. At an entry.
    entry_beside: f64,
    /// The same where returns are seen, at both ends of a call.
    call_beside: f64,
}

/// What the programs have met so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Met {
    ran: Ran,
    calls: u64,
    stepped: u64,
}

/// What the traps of a recording have cost, added up from look to look: what one costs changes with what is probed.
pub(super) struct TrapAccount {
    cost: TrapCost,
    met: Met,
    others: usize,
    spent: Spent,
}

/// What the traps of a recording have cost so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spent {
    /// All of them, with the programs that they run: time of the traced processes.
    pub all: Duration,
    /// The part of it for calls that make a block, without their returns: what would be left if nothing else were probed.
    pub entries: Duration,
}

impl TrapAccount {
    /// Nothing has been met but what was tried out.
    pub(super) fn new(cost: TrapCost, tried: Ran) -> Self {
        Self { cost, met: Met { ran: tried, ..Met::default() }, others: 0, spent: Spent::default() }
    }

    /// Adds what has been met since the last look; what has been spent by now.
    pub(super) fn look(&mut self, probes: &Probes, counted: &Counted) -> Spent {
        let met = Met { ran: probes.ran(), calls: counted.runs, stepped: counted.stepped };
        // Whoever was disarmed since was probed until then.
        let others = std::mem::replace(&mut self.others, probes.processes().saturating_sub(1));
        let mut since = met.since(&self.met);
        if probes.returns() == Returns::NotSeen {
            // A call that comes while nothing is counted, as long as disarming takes, is a trap all the same.
            since.calls = since.calls.max(since.ran.calls_and_returns);
        }
        let more = self.cost.spent(&since, others.max(self.others), probes.returns());
        self.met = met;
        self.spent = Spent { all: self.spent.all + more.all, entries: self.spent.entries + more.entries };
        self.spent
    }
}

impl Met {
    fn since(&self, before: &Self) -> Self {
        let ran = Ran {
            calls_and_returns: self.ran.calls_and_returns.saturating_sub(before.ran.calls_and_returns),
            frees: self.ran.frees.saturating_sub(before.ran.frees),
            time_ns: self.ran.time_ns.saturating_sub(before.ran.time_ns),
        };
        Self { ran, calls: self.calls.saturating_sub(before.calls), stepped: self.stepped.saturating_sub(before.stepped) }
    }
}

impl TrapCost {
    /// Tries it out. The programs must be counting nothing; those of returns are asked for by the caller.
    pub(super) fn measure(probes: &Probes, ask_for_returns: impl FnOnce() -> Result<(), super::BpfError>) -> Result<Self, super::BpfError> {
        let failed = |source| super::BpfError::Probe { pid: std::process::id(), source };
        let tried = |function: extern "C" fn(), trap, others| {
            let (path, offset) = place_of(function as usize as u64)?;
            let plain = fastest(function);
            let links = probes.try_out(&path, offset, trap, others)?;
            let trapped = fastest(function);
            close(links);
            Ok((trapped - plain).max(0.0))
        };
        let others = another().map_or_else(Vec::new, |pid| vec![pid; OTHERS]);
        let each = |with: f64, without: f64| (with - without).max(0.0) / OTHERS as f64;
        let emulated = tried(profiler_tried_emulated, Trap::Entry, &[]).map_err(failed)?;
        let stepped = tried(profiler_tried_stepped, Trap::Entry, &[]).map_err(failed)?;
        let among = tried(profiler_tried_emulated, Trap::Entry, &others).map_err(failed)?;
        ask_for_returns()?;
        let both = tried(profiler_tried_emulated, Trap::EntryAndReturn, &[]).map_err(failed)?;
        let both_among = tried(profiler_tried_emulated, Trap::EntryAndReturn, &others).map_err(failed)?;
        let (stepped, returned) = (stepped.max(emulated), (both - emulated).max(0.0));
        Ok(Self { emulated, stepped, returned, entry_beside: each(among, emulated), call_beside: each(both_among, both) })
    }

    /// What that costs in a process, while so many others are probed.
    fn spent(&self, met: &Met, others: usize, returns: Returns) -> Spent {
        let (calls, frees, others) = (met.calls as f64, met.ran.frees as f64, others as f64);
        let stepped = met.stepped as f64 * (self.stepped - self.emulated);
        let asked = met.ran.calls_and_returns.saturating_sub(met.calls) as f64;
        let (returned, call_beside) = match returns {
            Returns::NotSeen => (0.0, self.entry_beside),
            // Who is not meant cannot say that it does not want the return.
            Returns::WhereAsked if others > 0.0 => (calls, self.call_beside),
            Returns::WhereAsked | Returns::Seen => (asked, self.call_beside),
        };
        let traps = IN_A_PROGRAM * ((calls + frees) * self.emulated + stepped + returned * self.returned)
            + others * (calls * call_beside + frees * self.entry_beside);
        let entries = IN_A_PROGRAM * (calls * self.emulated + stepped) + others * calls * self.entry_beside;
        // The programs' own time goes by calls: a call that is not sampled, and a free, hardly take any.
        let nanoseconds = |number: f64| Duration::from_nanos(number as u64);
        Spent { all: nanoseconds(traps + met.ran.time_ns as f64), entries: nanoseconds(entries + met.ran.time_ns as f64) }
    }
}

/// A process that is not this one.
fn another() -> Option<Pid> {
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    [Some(1), parent].into_iter().flatten().find(|pid| *pid != std::process::id()).map(Pid)
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

    const COST: TrapCost = TrapCost { emulated: 600.0, stepped: 4000.0, returned: 300.0, entry_beside: 20.0, call_beside: 100.0 };
    const MET: Met = Met { ran: Ran { calls_and_returns: 1100, frees: 500, time_ns: 50_000 }, calls: 1000, stepped: 10 };

    /// With what a trap takes beside itself, and the programs.
    fn in_a_program(ns: u64) -> Duration {
        Duration::from_nanos(ns * 5 / 2 + 50_000)
    }

    #[test]
    fn what_is_spent_is_what_was_met() {
        // 1,500 traps, 10 of them dear, 100 returns.
        let spent = COST.spent(&MET, 0, Returns::WhereAsked);
        assert_eq!(spent.all, in_a_program(1500 * 600 + 10 * 3400 + 100 * 300));
        assert_eq!(spent.entries, in_a_program(1000 * 600 + 10 * 3400));
        assert_eq!(COST.spent(&MET, 0, Returns::NotSeen).all, in_a_program(1500 * 600 + 10 * 3400));
    }

    #[test]
    fn each_process_that_is_probed_beside_makes_a_trap_dearer_and_has_every_return_seen() {
        let spent = COST.spent(&MET, 7, Returns::WhereAsked);
        let beside = Duration::from_nanos(7 * (1000 * 100 + 500 * 20));
        assert_eq!(spent.all, in_a_program(1500 * 600 + 10 * 3400 + 1000 * 300) + beside);
        assert_eq!(spent.entries, in_a_program(1000 * 600 + 10 * 3400) + Duration::from_nanos(7 * 1000 * 20));
    }
}
