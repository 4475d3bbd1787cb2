//! Stacks that were walked before: what must still be in memory for a walk to come to the same end. To look at that takes a fraction of a walk, and most stacks
//! of a thread are one that it had: the wait at one lock, the allocation in one loop, what called the function that takes the time.
//!
//! A walk by plain rules depends on the registers that it begins with and on the words that it reads: the return address of each frame, and the frame pointers
//! that frames are found by. If those are as they were, each register of each frame is, by induction, and so is its end. A frame pointer that no rule looks at,
//! which is any number in code that uses the register for others, is not looked at here, either.

use super::rule::{AT, AT_FP, KIND_FP, KIND_FRAME_POINTER, KIND_SP, Rule, SAME};

/// Frames of a stack that is remembered, at most.
pub const KNOWN_FRAMES_MAX: usize = 128;
/// Saved frame pointers that it depends on, at most.
pub const KNOWN_POINTERS_MAX: usize = 64;
/// Bytes from its stack pointer to the last word that it depends on, at most.
pub const KNOWN_BYTES_MAX: u64 = 8192;

const _: () = assert!(KNOWN_FRAMES_MAX.is_power_of_two() && KNOWN_POINTERS_MAX.is_power_of_two());

/// What a plain rule looks at beside the stack pointer and the return address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The frame pointer, and what it is.
    pub pointer: Option<u64>,
    /// The address where the caller's frame pointer was saved; or [`STAYS`], or [`LOST_WORD`].
    pub saved: u64,
}

/// The frame pointer is still in its register.
pub const STAYS: u64 = 0;
/// It is lost.
pub const LOST_WORD: u64 = u64::MAX;

impl Rule {
    /// What it looks at, where it has led to the stack pointer `caller_sp`; None if that is more than a [`Shape`] tells.
    #[inline(always)]
    pub const fn shape(self, caller_sp: u64) -> Option<Shape> {
        let kind = self.kind();
        if kind == KIND_FRAME_POINTER {
            let pointer = caller_sp.wrapping_sub(16);
            return Some(Shape { pointer: Some(pointer), saved: pointer });
        }
        if self.0 >> 10 & 3 == AT_FP {
            return None; // To find rbx it reads by the frame pointer.
        }
        let saved = match self.0 >> 8 & 3 {
            SAME => STAYS,
            AT => caller_sp.wrapping_add((((self.0 << 42) as i64 >> 54) * 8) as u64),
            AT_FP => return None,
            _ => LOST_WORD,
        };
        match kind {
            KIND_SP => Some(Shape { pointer: None, saved }),
            KIND_FP => Some(Shape { pointer: Some(caller_sp.wrapping_sub(self.offset())), saved }),
            _ => None,
        }
    }
}

/// Where a walk has the frame pointer of a frame from, while it is looked through for what it depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct PointerAt(pub u64);

/// What finding the caller of a frame depends on, beside its return address and its stack pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depends {
    /// Nothing.
    No,
    /// The frame pointer that the walk began with.
    OnRegister,
    /// A word at an address.
    OnWord {
        /// Its address.
        at: u64,
        /// What is there.
        is: u64,
    },
    /// More than can be told here.
    Unknown,
}

impl PointerAt {
    /// The register that the walk began with. (Every other number but the next is the address of a word.)
    pub const REGISTER: Self = Self(0);
    /// It was looked at, or is a number that the rules give.
    pub const KNOWN: Self = Self(LOST_WORD);

    /// Goes to the caller of a frame, which `rule` has found, with the stack pointer `caller_sp`.
    #[inline(always)]
    pub fn next(&mut self, rule: Rule, caller_sp: u64) -> Depends {
        let Some(shape) = rule.shape(caller_sp) else { return Depends::Unknown };
        let mut depends = Depends::No;
        if let Some(is) = shape.pointer {
            if *self == Self::REGISTER {
                depends = Depends::OnRegister;
            } else if *self != Self::KNOWN {
                depends = Depends::OnWord { at: self.0, is };
                *self = Self::KNOWN;
            }
        }
        if shape.saved != STAYS {
            *self = Self(shape.saved);
        }
        depends
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::{Cfa, Saved};
    use super::super::{Registers, step};
    use super::*;
    use crate::ended::Ended;
    use proptest::prelude::*;
    use std::vec::Vec;

    const BASE: u64 = 0x7000;
    const WORDS: usize = 64;

    fn read(stack: &[u64; WORDS], at: u64) -> Option<u64> {
        let distance = at.checked_sub(BASE)?;
        (distance % 8 == 0).then(|| stack.get(distance as usize / 8).copied()).flatten()
    }

    /// The walk: its frames, and the rule of each with the stack pointer of its caller.
    fn walk(rules: &[Rule], from: Registers, stack: &[u64; WORDS]) -> (Vec<u64>, Vec<(Rule, u64)>, Ended) {
        let (mut at, mut frames, mut taken) = (from, Vec::new(), Vec::new());
        loop {
            // What holds at an address is any of the rules: the address says which.
            let rule = rules[at.ip as usize % rules.len()];
            match step(rule, &at, |at| read(stack, at), |_| None) {
                Ok(caller) if frames.len() < 16 => {
                    taken.push((rule, caller.sp));
                    frames.push(caller.ip);
                    at = caller;
                }
                Ok(_) => return (frames, taken, Ended::DepthLimit),
                Err(ended) => {
                    let is_root = rule == Rule::new(Cfa::Root, Saved::Same, Saved::Same);
                    return (frames, taken, if is_root { ended } else { Ended::NoRule });
                }
            }
        }
    }

    /// What a walk depends on; None if that cannot be told.
    fn needs(from: Registers, frames: &[u64], taken: &[(Rule, u64)]) -> Option<(bool, Vec<(u64, u64)>)> {
        let (mut pointer, mut needs_register, mut words) = (PointerAt::REGISTER, false, Vec::new());
        assert_eq!(frames.len(), taken.len());
        for (frame, (rule, sp)) in frames.iter().zip(taken) {
            match pointer.next(*rule, *sp) {
                Depends::No => {}
                Depends::OnRegister => needs_register = true,
                Depends::OnWord { at, is } => words.push((at, is)),
                Depends::Unknown => return None,
            }
            words.push((sp - 8, *frame));
        }
        assert!(taken.first().is_none_or(|(_, sp)| *sp > from.sp));
        Some((needs_register, words))
    }

    fn rules() -> impl Strategy<Value = Vec<Rule>> {
        let saved = prop_oneof![Just(Saved::Same), (-6i16..0).prop_map(Saved::At), Just(Saved::Lost), Just(Saved::AtFp(0))];
        let cfa = prop_oneof![
            4 => (1i32..6).prop_map(|words| Cfa::Sp(words * 8)),
            3 => (1i32..4).prop_map(|words| Cfa::Fp(words * 8)),
            1 => Just(Cfa::AtFp { at: -8, add: 0 }),
            1 => Just(Cfa::Root),
        ];
        let rule = prop_oneof![
            5 => (cfa, saved.clone(), saved).prop_map(|(cfa, fp, bx)| Rule::new(cfa, fp, bx)),
            1 => Just(Rule::FRAME_POINTER)
        ];
        prop::collection::vec(rule, 1..6).prop_map(|mut rules| {
            rules.push(Rule::new(Cfa::Root, Saved::Same, Saved::Same));
            rules
        })
    }

    /// Words that are small numbers (which rule holds there), or addresses of the stack.
    fn words() -> impl Strategy<Value = [u64; WORDS]> {
        let word = prop_oneof![1u64..40, (0..WORDS as u64).prop_map(|at| BASE + at * 8)];
        prop::collection::vec(word, WORDS).prop_map(|words| words.try_into().expect("as many"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, max_global_rejects: 1 << 16, ..ProptestConfig::default() })]
        #[test]
        fn a_stack_whose_words_are_as_they_were_is_walked_as_it_was(
            rules in rules(), before in words(), changes in prop::collection::vec((0..WORDS, any::<u16>()), 0..6),
            fp in (0..WORDS as u64), other_fp in (0..WORDS as u64), ip in 1u64..40, bx in any::<u64>(),
        ) {
            let from = Registers { ip, sp: BASE, fp: BASE + fp * 8, bx: 0 };
            let (frames, taken, ended) = walk(&rules, from, &before);
            prop_assume!(ended == Ended::Root && !frames.is_empty());
            let Some((needs_register, words)) = needs(from, &frames, &taken) else { return Ok(()) };
            let mut after = before;
            for (at, word) in changes {
                after[at] = u64::from(word);
            }
            let later = Registers { fp: BASE + other_fp * 8, bx, ..from };
            if words.iter().all(|(at, is)| read(&after, *at) == Some(*is)) && !(needs_register && later.fp != from.fp) {
                let again = walk(&rules, later, &after);
                prop_assert_eq!((again.0, again.2), (frames, ended));
            }
        }
    }

    #[test]
    fn a_frame_pointer_counts_where_a_rule_looks_at_it() {
        let by_stack = |saved| Rule::new(Cfa::Sp(16), saved, Saved::Same);
        let by_pointer = Rule::new(Cfa::Fp(16), Saved::At(-2), Saved::Same);
        let mut pointer = PointerAt::REGISTER;
        assert_eq!(pointer.next(by_stack(Saved::Same), 0x7010), Depends::No);
        assert_eq!(pointer, PointerAt::REGISTER);
        assert_eq!(pointer.next(by_stack(Saved::At(-2)), 0x7020), Depends::No);
        assert_eq!(pointer, PointerAt(0x7010));
        assert_eq!(pointer.next(by_pointer, 0x7050), Depends::OnWord { at: 0x7010, is: 0x7040 });
        assert_eq!(pointer, PointerAt(0x7040));
        let first = |rule| PointerAt(0).next(rule, 0x7050);
        assert_eq!(first(by_pointer), Depends::OnRegister);
        assert_eq!(first(Rule::FRAME_POINTER), Depends::OnRegister);
        assert_eq!(first(Rule::new(Cfa::Signal, Saved::Same, Saved::Same)), Depends::Unknown);
        assert_eq!(first(Rule::new(Cfa::Sp(16), Saved::AtFp(1), Saved::Same)), Depends::Unknown);
        assert_eq!(first(Rule::new(Cfa::Sp(16), Saved::Same, Saved::AtFp(0))), Depends::Unknown);
    }
}
