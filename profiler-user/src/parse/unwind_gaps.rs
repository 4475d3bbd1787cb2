//! Code between functions that have call frame information: what can be known of it by looking at it.

use super::go_frames::GoFrames;
use super::machine::Machine;
use super::unwind_gaps_arm64 as arm64;
use super::unwind_parts::Parts;
use profiler_common::unwind::rule::{Cfa, Rule, Saved};
use std::cell::Cell;

/// A gap of this size, bytes, or larger is looked at as code of a compiler of its own.
const LARGE: usize = 4096;
/// Bytes of a large gap that are looked at: what its functions begin with shows in the first of them.
const LOOKED_AT: u64 = 1 << 20;
/// A gap of a file of assembly is no larger than this, bytes.
const ASSEMBLY: u64 = 16 << 10;
/// What both begin with.
const PUSH: u8 = 0x55;
/// `push %rbp; mov %rsp,%rbp`, in both encodings of the move.
const PROLOGUES: [&[u8]; 2] = [&[0x55, 0x48, 0x89, 0xe5], &[0x55, 0x48, 0x8b, 0xec]];
/// `pause; mov $1,%rax; ret`: `SpinPause` of HotSpot, in which the threads of a JVM's collector wait. It was written by hand and has no rows.
const SPIN: &[u8] = &[0xf3, 0x90, 0x48, 0xc7, 0xc0, 1, 0, 0, 0, 0xc3];
/// `syscall; test %rax,%rax`: what the system call of glibc's `clone` and `clone3` goes on with, in parent and child. Its rows leave that out, since they would be
/// wrong in the child.
const CLONE: &[u8] = &[0x0f, 0x05, 0x48, 0x85, 0xc0];
/// What follows: `jl`, short and long, to where a failure is noted; `je` to where the thread begins; `ret`.
const IF_FAILED: [(&[u8], usize); 2] = [(&[0x7c], 1), (&[0x0f, 0x8c], 4)];
const IF_CHILD: [(&[u8], usize); 2] = [(&[0x74], 1), (&[0x0f, 0x84], 4)];
const RET: u8 = 0xc3;
/// No longer than that is all of it.
const CLONE_MAX: u64 = 18;
/// The entry point of a file and the few instructions that follow it: `_start` of the dynamic linker has no rows.
const ENTRY_BYTES: u64 = 256;

/// What lies between the functions of a file, in places of the file.
pub(super) struct Gaps<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) machine: Machine,
    /// What holds in all of them: [`Rule::NONE`] unless the file is Go's.
    pub(super) default: Rule,
    /// Go's functions, if its table was found.
    pub(super) go: Option<GoFrames<'a>>,
    /// Where the program begins.
    pub(super) entry: Option<u64>,
    /// `.init` and `.fini`: a function each, put together by the linker from pieces of many files.
    pub(super) stubs: Vec<(u64, u64)>,
    /// Bytes of code that may still be looked at: a file with holes has gigabytes for nothing.
    pub(super) left: Cell<usize>,
    /// `.plt`, of which the files for x86-64 have rows, and those for arm64 not.
    pub(super) linkage: Option<(u64, u64)>,
}

impl Gaps<'_> {
    /// Rows for a gap.
    pub(super) fn fill(&self, parts: &mut Parts, from: u64, to: u64) {
        if self.default != Rule::NONE {
            parts.push(from, self.default);
            return self.go.iter().for_each(|go| go.fill(parts, from, to));
        }
        if self.keeps_frame_pointers(from, to) {
            return parts.push(from, Rule::FRAME_POINTER);
        }
        if let Some(length) = self.clone_call(parts, from, to) {
            parts.push(from, Rule::new(Cfa::Clone, Saved::Same, Saved::Same));
            return parts.push(from + length as u64, Rule::NONE);
        }
        parts.push(from, Rule::NONE);
        if let Some(at) = self.spin(from, to) {
            parts.push(from + at as u64, Rule::new(Cfa::Sp(8), Saved::Same, Saved::Same));
            return parts.push(from + (at + SPIN.len()) as u64, Rule::NONE);
        }
        for (start, end) in self.stubs.iter().filter(|(start, end)| from <= *start && *end <= to) {
            self.stub(parts, *start, *end);
        }
        if self.machine == Machine::Arm64 {
            let plt = self.linkage.filter(|(start, end)| from <= *start && *end <= to);
            arm64::fill(parts, self.code(from, to).unwrap_or_default(), from, plt);
        }
        if let Some(entry) = self.entry.filter(|entry| (from..to).contains(entry)) {
            parts.push(entry, Rule::new(Cfa::Root, Saved::Same, Saved::Same));
            parts.push((entry + ENTRY_BYTES).min(to), Rule::NONE);
        }
    }

    /// Where in the gap a thread spins.
    fn spin(&self, from: u64, to: u64) -> Option<usize> {
        if to - from > ASSEMBLY {
            return None;
        }
        // Looking at the first byte alone is many times faster, and it is rare.
        self.code(from, to)?.windows(SPIN.len()).position(|window| window[0] == SPIN[0] && window == SPIN)
    }

    /// How long what a `clone` goes on with is, if the gap is that. The function before it has a frame that is nothing but its return address.
    fn clone_call(&self, parts: &Parts, from: u64, to: u64) -> Option<usize> {
        let is_entry = parts.goes_on_with(Rule::new(Cfa::Sp(8), Saved::Same, Saved::Same));
        if self.machine != Machine::X86_64 || !is_entry { None } else { clone_call(self.code(from, to.min(from + CLONE_MAX))?) }
    }

    /// A large gap in which functions begin as those that keep frame pointers do: the code that V8 compiled when it was built.
    fn keeps_frame_pointers(&self, from: u64, to: u64) -> bool {
        if to - from < LARGE as u64 {
            return false;
        }
        let Some(code) = self.code(from, to.min(from + LOOKED_AT)) else { return false };
        let prologues = match self.machine {
            Machine::X86_64 => code.windows(4).filter(|window| window[0] == PUSH && PROLOGUES.contains(window)).count(),
            Machine::Arm64 => arm64::prologues(code),
        };
        prologues >= code.len() / LARGE
    }

    /// `sub $8,%rsp`, calls, `add $8,%rsp; ret`: anything else is left alone.
    fn stub(&self, parts: &mut Parts, start: u64, end: u64) {
        const ENDBR: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
        const DOWN: &[u8] = &[0x48, 0x83, 0xec, 0x08];
        const UP: &[u8] = &[0x48, 0x83, 0xc4, 0x08, 0xc3];
        let Some(code) = self.code(start, end) else { return };
        if self.machine == Machine::Arm64 {
            return arm64::stub(parts, code, start);
        }
        let first = if code.starts_with(ENDBR) { ENDBR.len() } else { 0 };
        let body = &code[first..];
        if !body.starts_with(DOWN) || !body.ends_with(UP) {
            return;
        }
        parts.push(start, Rule::new(Cfa::Sp(8), Saved::Same, Saved::Same));
        parts.push(start + (first + DOWN.len()) as u64, Rule::new(Cfa::Sp(16), Saved::Same, Saved::Same));
        parts.push(end - 1, Rule::new(Cfa::Sp(8), Saved::Same, Saved::Same));
        parts.push(end, Rule::NONE);
    }

    fn code(&self, from: u64, to: u64) -> Option<&[u8]> {
        let code = self.bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)?;
        self.left.set(self.left.get().checked_sub(code.len())?);
        Some(code)
    }
}

/// How many bytes the system call of a `clone` and what follows it have, if code begins with that.
fn clone_call(code: &[u8]) -> Option<usize> {
    let mut rest = code.strip_prefix(CLONE)?;
    for jumps in [IF_FAILED, IF_CHILD] {
        rest = jumps.into_iter().find_map(|(jump, bytes)| rest.strip_prefix(jump)?.get(bytes..))?;
    }
    (rest.first() == Some(&RET)).then(|| code.len() - rest.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_call_of_a_clone_is_known_by_what_follows_it() {
        // glibc 2.36, `clone3`, with what follows; then as its archive has it, where the jump goes to another file.
        let short = [0x0f, 0x05, 0x48, 0x85, 0xc0, 0x7c, 0x18, 0x74, 0x01, 0xc3, 0x31, 0xed];
        let long = [0x0f, 0x05, 0x48, 0x85, 0xc0, 0x0f, 0x8c, 0, 0, 0, 0, 0x74, 0x01, 0xc3];
        assert_eq!((clone_call(&short), clone_call(&long)), (Some(10), Some(14)));
        assert_eq!((clone_call(&short[..9]), clone_call(&short[2..])), (None, None));
        // A system call that makes nobody.
        assert_eq!(clone_call(&[0x0f, 0x05, 0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0x77, 0x01, 0xc3]), None);
    }
}
