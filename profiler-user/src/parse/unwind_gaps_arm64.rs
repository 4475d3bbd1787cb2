//! Code of arm64 without call frame information, told by its instructions, each a word of 4 bytes (Arm Architecture Reference Manual, C6).

use super::unwind_parts::Parts;
use profiler_common::unwind::arm64::{Cfa, Saved, pack};
use profiler_common::unwind::rule::Rule;

/// `stp x29, x30, [sp, #-16]!`, `mov x29, sp`: how functions that keep frame pointers begin.
const PUSH_FRAME: u32 = 0xa9bf_7bfd;
const SET_FRAME: u32 = 0x9100_03fd;
/// `ldp x29, x30, [sp], #16`.
const POP_FRAME: u32 = 0xa8c1_7bfd;
/// `stp x16, x30, [sp, #-16]!`: how the first entry of a procedure linkage table begins, whose end jumps into the dynamic linker.
const PUSH_FOR_LINKER: u32 = 0xa9bf_7bf0;
/// Bytes of that entry.
const FIRST_ENTRY_BYTES: u64 = 32;
/// `mov x8, #139; svc #0`: the return from a signal handler, in the vDSO. Kernels from 5.8 on give no rows for it.
const SIGNAL_RETURN: [u32; 2] = [0xd280_1168, 0xd400_0001];

const LEAF: Rule = pack(Cfa::Sp(0), Saved::Same, Saved::Same);
const PUSHED: Rule = pack(Cfa::Sp(2), Saved::At(-2), Saved::At(-1));
const PUSHED_FOR_LINKER: Rule = pack(Cfa::Sp(2), Saved::Same, Saved::At(-1));
const SIGNAL: Rule = pack(Cfa::Signal, Saved::Same, Saved::Same);

fn instructions(code: &[u8]) -> impl Iterator<Item = u32> {
    code.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

/// Beginnings of functions that keep frame pointers.
pub(super) fn prologues(code: &[u8]) -> usize {
    instructions(code).zip(instructions(code).skip(1)).filter(|pair| *pair == (PUSH_FRAME, SET_FRAME)).count()
}

/// `.init` and `.fini`: a frame is pushed, functions are called, it is popped.
pub(super) fn stub(parts: &mut Parts, code: &[u8], start: u64) {
    let words: Vec<u32> = instructions(code).collect();
    let at = |wanted: u32| words.iter().position(|word| *word == wanted).map(|index| start + 4 * (index as u64 + 1));
    if let (Some(pushed), Some(popped)) = (at(PUSH_FRAME), at(POP_FRAME)) {
        parts.push(start, LEAF);
        parts.push(pushed, PUSHED);
        parts.push(popped, LEAF);
        parts.push(start + code.len() as u64, Rule::NONE);
    }
}

/// Rows for what is known in a gap that begins at `from`: the procedure linkage table, which comes with its place, and the return from a signal.
pub(super) fn fill(parts: &mut Parts, code: &[u8], from: u64, plt: Option<(u64, u64)>) {
    if let Some((start, end)) = plt {
        let inside = code.get((start - from) as usize..).unwrap_or_default();
        // With branch targets marked, an instruction comes before it.
        let pushes = instructions(inside).take(2).position(|word| word == PUSH_FOR_LINKER);
        parts.push(start, LEAF);
        if let Some(index) = pushes {
            parts.push(start + 4 * (index as u64 + 1), PUSHED_FOR_LINKER);
            parts.push((start + FIRST_ENTRY_BYTES).min(end), LEAF);
        }
        parts.push(end, Rule::NONE);
        return;
    }
    let found = instructions(code).zip(instructions(code).skip(1)).position(|pair| pair == SIGNAL_RETURN.into());
    if let Some(index) = found {
        // A handler returns to the first of the two; who looks an address up as that of a call looks one before.
        let at = from + 4 * index as u64;
        parts.push(at.saturating_sub(4).max(from), SIGNAL);
        parts.push(at + 8, Rule::NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::unwind::table::find;

    const NOP: u32 = 0xd503_201f;
    const RET: u32 = 0xd65f_03c0;

    fn rules(words: &[u32], fill: impl FnOnce(&mut Parts, &[u8])) -> Vec<Rule> {
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut parts = Parts::default();
        parts.push(0, Rule::NONE);
        fill(&mut parts, &code);
        let (parts, _) = parts.finish(code.len() as u64);
        (0..code.len() as u64).step_by(4).map(|place| find(|word| parts[0].word(word), place, |value| value)).collect()
    }

    #[test]
    fn the_return_from_a_signal_is_known_by_its_instructions() {
        let found = rules(&[RET, NOP, SIGNAL_RETURN[0], SIGNAL_RETURN[1], NOP], |parts, code| fill(parts, code, 0, None));
        assert_eq!(found, [Rule::NONE, SIGNAL, SIGNAL, SIGNAL, Rule::NONE]);
    }

    #[test]
    fn entries_of_the_linkage_table_are_leaves_but_for_the_first() {
        let plt: Vec<u32> = [NOP, PUSH_FOR_LINKER].into_iter().chain([NOP; 10]).collect();
        let found = rules(&plt, |parts, code| fill(parts, code, 0, Some((0, 48))));
        assert_eq!(found[..3], [LEAF, LEAF, PUSHED_FOR_LINKER]);
        assert_eq!(found[7..], [PUSHED_FOR_LINKER, LEAF, LEAF, LEAF, LEAF]);
    }

    #[test]
    fn the_pieces_of_init_are_one_function() {
        let found = rules(&[NOP, PUSH_FRAME, SET_FRAME, NOP, POP_FRAME, RET], |parts, code| stub(parts, code, 0));
        assert_eq!(found, [LEAF, LEAF, PUSHED, PUSHED, PUSHED, LEAF]);
        assert_eq!(prologues(&[PUSH_FRAME, SET_FRAME, RET].map(u32::to_le_bytes).concat()), 1);
    }
}
