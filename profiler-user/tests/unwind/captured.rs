//! Stacks of arm64 that were captured, walked here with the same tables and the same `step()` as there: at each instruction of prologues, epilogues and a leaf,
//! below a frame of 40,000 bytes, one of changing size and a signal handler, with plain and with signed return addresses. `arm64/capture.sh` made them.

use anyhow::{Context as _, Result, ensure};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _, SymbolKind};
use profiler::model::unwind::UnwindTable;
use profiler::parse::eh_frame::unwind_table_for;
use profiler::parse::machine::Machine;
use profiler_common::ended::Ended;
use profiler_common::unwind::arm64::{Cfa, Saved, code_address, pack, step};
use profiler_common::unwind::rule::Rule;
use profiler_common::unwind::{Registers, table};
use std::collections::HashMap;

/// Bits of an address where they were captured.
const ADDRESS_BITS: u32 = 48;
/// Functions on the way to the leaf, from it to the root: `descend` three times.
const STRAIGHT: [&str; 9] = ["stop_in_leaf", "plain", "large", "changing", "descend", "descend", "descend", "begin", "_start"];
/// The same below a signal handler.
const SIGNALLED: [&str; 11] =
    ["stop_in_leaf", "plain", "large", "changing", "descend", "handle", "trampoline", "interrupted", "signalled", "begin", "_start"];

/// A program that was stopped.
struct Program {
    table: UnwindTable,
    /// What to take from an address to have the place in the file.
    bias: u64,
    /// Functions: first address, length, name.
    functions: Vec<(u64, u64, String)>,
}

/// Where it was stopped.
struct Stop {
    registers: Registers,
    words: HashMap<u64, u64>,
    /// gdb's own walk: addresses.
    frames: Vec<u64>,
}

impl Program {
    fn new(bytes: &[u8]) -> Result<Self> {
        // In memory of its own, and so aligned, as a mapped file is.
        let bytes = &*bytes.to_vec();
        let table = unwind_table_for(bytes, Machine::Arm64).map_err(|error| anyhow::anyhow!("{error}"))?;
        let file = object::File::parse(bytes)?;
        let code = file.segments().next().context("a segment")?;
        let function = |symbol: object::Symbol<'_, '_>| Some((symbol.address(), symbol.size(), symbol.name().ok()?.to_owned()));
        let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0).filter_map(function);
        Ok(Self { bias: code.address() - code.file_range().0, functions: functions.collect(), table })
    }

    fn name(&self, address: u64) -> &str {
        let inside = |(first, length, _): &&(u64, u64, String)| (*first..first + length).contains(&address);
        self.functions.iter().find(inside).map_or("trampoline", |(_, _, name)| name)
    }

    /// The rule at an address. What lies outside of the program is the page that takes a handler back: on a machine it is the vDSO's.
    fn rule(&self, address: u64) -> Rule {
        let offset = address.wrapping_sub(self.bias);
        let Some(part) = self.table.parts.iter().find(|part| offset.wrapping_sub(part.first) < u64::from(part.length())) else {
            return pack(Cfa::Signal, Saved::Same, Saved::Same);
        };
        table::find(|word| part.word(word), offset - part.first, |value| value)
    }

    /// Walks from a stop: addresses, and how it ended.
    fn walk(&self, stop: &Stop) -> (Vec<u64>, Ended) {
        let (mut registers, mut is_exact, mut frames) = (stop.registers, true, vec![stop.registers.ip]);
        loop {
            let rule = self.rule(registers.ip - u64::from(!is_exact));
            match step(rule, &registers, |at| Some(stop.words.get(&at).copied().unwrap_or(0)), |_| None) {
                Ok(caller) => registers = Registers { ip: code_address(caller.ip, ADDRESS_BITS), ..caller },
                Err(ended) => return (frames, ended),
            }
            is_exact = rule.leads_to_interrupted();
            frames.push(registers.ip);
            if frames.len() > 100 {
                return (frames, Ended::DepthLimit);
            }
        }
    }

    /// The functions of a walk, from its leaf.
    fn names(&self, frames: &[u64], stop: &Stop) -> Vec<&str> {
        let before = |at: usize| {
            let is_exact = at == 0 || self.rule(frames[at - 1]).leads_to_interrupted() && !self.is_code(frames[at - 1]);
            frames[at] - u64::from(!is_exact)
        };
        debug_assert_eq!(frames[0], stop.registers.ip);
        (0..frames.len()).map(|at| self.name(before(at))).collect()
    }

    fn is_code(&self, address: u64) -> bool {
        self.name(address) != "trampoline"
    }
}

fn stops(text: &str) -> Result<Vec<Stop>> {
    let hex = |word: &str| u64::from_str_radix(word, 16).with_context(|| format!("{word} is no number"));
    let mut stops: Vec<Stop> = Vec::new();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').context("a line has a kind")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        match (kind, &fields[..]) {
            ("stop", [pc, sp, fp, lr]) => {
                let registers = Registers { ip: hex(pc)?, sp: hex(sp)?, fp: hex(fp)?, bx: hex(lr)? };
                stops.push(Stop { registers, words: HashMap::new(), frames: Vec::new() });
            }
            ("word", [at, word]) => {
                let stop = stops.last_mut().context("a stop comes first")?;
                stop.words.insert(hex(at)?, hex(word)?);
            }
            ("frames", frames) => {
                let stop = stops.last_mut().context("a stop comes first")?;
                for frame in frames {
                    stop.frames.push(hex(frame.split(':').next().unwrap_or_default())?);
                }
            }
            _ => anyhow::bail!("what is `{line}`?"),
        }
    }
    Ok(stops)
}

/// Walks every stop and holds it to the functions that the program is known to be in; gives the walks that went through a signal.
fn check(program: &Program, stops: &[Stop]) -> Result<usize> {
    let mut signalled = 0;
    for stop in stops {
        let (frames, ended) = program.walk(stop);
        let names = program.names(&frames, stop);
        let way: &[&str] = if names.contains(&"trampoline") { &SIGNALLED } else { &STRAIGHT };
        let from = way.iter().position(|name| *name == names[0]).with_context(|| format!("stopped in {}", names[0]))?;
        ensure!(names == way[from..] && ended == Ended::Root, "at {:x} we walk {names:?} and end with {ended:?}", stop.registers.ip);
        signalled += usize::from(way.len() == SIGNALLED.len());
    }
    Ok(signalled)
}

const PLAIN: (&[u8], &str) = (include_bytes!("arm64/plain.elf"), include_str!("arm64/plain.txt"));
const SIGNED: (&[u8], &str) = (include_bytes!("arm64/signed.elf"), include_str!("arm64/signed.txt"));

#[test]
fn captured_stacks_of_arm64_are_walked_to_their_root_and_as_gdb_walks_them() -> Result<()> {
    let (program, stops) = (Program::new(PLAIN.0)?, stops(PLAIN.1)?);
    ensure!(stops.len() == 30 && check(&program, &stops)? == 2, "{} stops", stops.len());
    for stop in &stops {
        ensure!(
            program.walk(stop).0 == stop.frames,
            "at {:x} gdb walks {:x?}, and we {:x?}",
            stop.registers.ip,
            stop.frames,
            program.walk(stop)
        );
    }
    Ok(())
}

#[test]
fn signed_return_addresses_are_walked_all_the_same() -> Result<()> {
    let (program, stops) = (Program::new(SIGNED.0)?, stops(SIGNED.1)?);
    ensure!(stops.len() == 30 && check(&program, &stops)? == 2, "{} stops", stops.len());
    let is_signed = |word: &u64| program.is_code(code_address(*word, ADDRESS_BITS)) && word >> ADDRESS_BITS != 0;
    let signed = stops.iter().map(|stop| stop.words.values().filter(|word| is_signed(word)).count()).min().unwrap_or(0);
    ensure!(signed >= 3, "{signed} signed return addresses: nothing is shown");
    Ok(())
}

/// The same stops with the tables of the other program are walked wrong, and that is noticed.
#[test]
fn wrong_rules_are_noticed() -> Result<()> {
    let stops = stops(PLAIN.1)?;
    let mut program = Program::new(PLAIN.0)?;
    program.table = Program::new(SIGNED.0)?.table;
    let wrong = stops.iter().filter(|stop| check(&program, std::slice::from_ref(*stop)).is_err()).count();
    ensure!(wrong > 10, "{wrong} of {} walks by wrong rules are noticed", stops.len());
    Ok(())
}
