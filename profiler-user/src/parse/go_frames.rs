//! How Go's functions are left, by Go's own table: it says at each instruction how far the stack pointer has moved (`pcsp`), in stripped programs too.
//!
//! What Go's runtime does at a traceback (`runtime/traceback.go` of 1.26), as rules: a function whose frame is gone or not there yet has its caller's address
//! at the stack pointer, which frame pointers would skip; one that writes the stack pointer itself (`abi.FuncFlagSPWrite`) goes from one of Go's stacks
//! to another, and there only the chain of frame pointers leads back.

use super::elf;
use super::pclntab::{Function, GoTable};
use super::unwind_parts::Parts;
use crate::model::answer::LoadSegment;
use profiler_common::unwind::rule::{Cfa, Rule, Saved};
use std::cell::Cell;

/// Rows of one function: those of real ones are a few hundred.
const STEPS_MAX: usize = 1 << 14;
/// Steps of all functions: many may share one table. Real programs have a few for each function.
const STEPS_IN_ALL_MAX: usize = 3_500_000;
/// Functions of one file: 48 bytes each while it is read. Large programs have 200,000.
const FUNCTIONS_MAX: usize = 500_000;
/// `runtime.goexit`: what every goroutine's first function returns to.
const GOEXIT: &str = "runtime.goexit";
/// What signal handlers return to, on Linux and by its older name: it asks the kernel to put all registers back.
const SIGNAL_RETURNS: [&str; 2] = ["runtime.sigreturn__sigaction", "runtime.sigreturn"];
/// `push %rbp`, and behind it `mov %rsp,%rbp`.
const PUSH_FP: u8 = 0x55;
const FP_FROM_SP: &[u8] = &[0x48, 0x89, 0xe5];
/// `mov %rbp,N(%rsp)`, with a short and with a long N: before 1.21 the frame pointer is saved when the frame is there.
const SAVE_FP: [&[u8]; 2] = [&[0x48, 0x89, 0x6c, 0x24], &[0x48, 0x89, 0xac, 0x24]];

/// The functions of a Go program, by their places in the file.
pub(super) struct GoFrames<'a> {
    table: &'a GoTable,
    bytes: &'a [u8],
    /// First and last byte in the file, and the difference of address and place.
    functions: Vec<Placed>,
    /// How many steps may still be taken.
    left: Cell<usize>,
}

struct Placed {
    first: u64,
    end: u64,
    bias: u64,
    function: Function,
}

impl<'a> GoFrames<'a> {
    /// Takes the functions of a table.
    pub(super) fn new(table: &'a GoTable, bytes: &'a [u8], code: &[LoadSegment]) -> Self {
        let mut functions: Vec<Placed> = Vec::new();
        for (function, end) in table.functions(bytes).take(FUNCTIONS_MAX) {
            let (Some(first), true) = (elf::file_offset(code, function.entry), end > function.entry) else { continue };
            if functions.last().is_none_or(|last| last.end <= first) {
                let bias = function.entry.wrapping_sub(first);
                functions.push(Placed { first, end: first.saturating_add(end - function.entry), bias, function });
            }
        }
        Self { table, bytes, functions, left: Cell::new(STEPS_IN_ALL_MAX) }
    }

    /// Rows for the functions that lie between two places.
    pub(super) fn fill(&self, parts: &mut Parts, from: u64, to: u64) {
        let begin = self.functions.partition_point(|placed| placed.first < from);
        for placed in self.functions[begin..].iter().take_while(|placed| placed.end <= to) {
            self.rows(parts, placed);
            parts.push(placed.end, Rule::GO_FRAME_POINTER);
        }
    }

    fn rows(&self, parts: &mut Parts, placed: &Placed) {
        let name = self.table.name(self.bytes, placed.function);
        if name == GOEXIT {
            return parts.push(placed.first, Rule::new(Cfa::Root, Saved::Same, Saved::Same));
        }
        if SIGNAL_RETURNS.contains(&name.as_str()) {
            return parts.push(placed.first, Rule::new(Cfa::Signal, Saved::Same, Saved::Same));
        }
        let steps: Vec<(u64, i32)> = self.table.stack_sizes(self.bytes, placed.function).take(STEPS_MAX.min(self.left.get())).collect();
        self.left.set(self.left.get() - steps.len());
        let has_frame = steps.iter().any(|(_, size)| *size > 0);
        let switches = self.table.writes_stack_pointer(self.bytes, placed.function);
        if steps.is_empty() || (switches && !has_frame) {
            return parts.push(placed.first, Rule::GO_FRAME_POINTER);
        }
        let saves_fp = self.saves_frame_pointer(placed, &steps);
        let mut from = placed.first;
        for (end, size) in steps {
            parts.push(from, rule(size, saves_fp, switches));
            from = end.wrapping_sub(placed.bias).clamp(from, placed.end);
        }
    }

    /// Whether the function keeps its caller's frame pointer in its frame: what it does where the frame begins. Assembly may have a frame without.
    fn saves_frame_pointer(&self, placed: &Placed, steps: &[(u64, i32)]) -> bool {
        let Some((begins, size)) = steps.windows(2).find(|pair| pair[0].1 == 0 && pair[1].1 > 0).map(|pair| (pair[0].0, pair[1].1)) else {
            return false;
        };
        let Ok(at) = usize::try_from(begins.wrapping_sub(placed.bias)) else { return false };
        let code = self.bytes.get(at..).unwrap_or_default();
        let pushed = size == 8 && at > 0 && self.bytes.get(at - 1) == Some(&PUSH_FP) && code.starts_with(FP_FROM_SP);
        pushed || SAVE_FP.iter().any(|save| code.starts_with(save))
    }
}

/// The rule where the stack pointer has moved by so many bytes.
fn rule(size: i32, saves_fp: bool, switches: bool) -> Rule {
    if switches && size > 0 {
        return Rule::GO_FRAME_POINTER;
    }
    let Some(cfa) = size.checked_add(8).filter(|cfa| *cfa >= 8) else { return Rule::NONE };
    let fp = if saves_fp && size > 0 { Saved::At(-2) } else { Saved::Same };
    Rule::new(Cfa::Sp(cfa), fp, Saved::Lost)
}
