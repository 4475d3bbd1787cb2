//! A rule in 15 bits, for the shapes that nearly all rows have, so that a search that has found the row need not go to yet another place, which is cold.
//!
//! ```text
//!   14     13   11 10     8 7        0
//!   base  | bx    | fp     | cfa        cfa: words of 8 bytes from rsp (base 0) or rbp (base 1)
//!                                       fp, bx: 0 still in its register; n: saved n + 1 words below the CFA
//! ```
//!
//! It is a short form of the number that a rule is, whatever that means: [`long`] of what [`short`] gives is the same number. So rules of arm64 are safe with it;
//! theirs have other shapes, and most have no short form.

use super::rule::{AT, KIND_FP, KIND_SP, Rule};

/// Bits of the short form.
pub const BITS: u32 = 15;

/// The rule of a short form; higher bits do not matter. No `if`: in the kernel program each would be two ways for the verifier.
#[inline(always)]
pub fn long(short: u32) -> Rule {
    let short = u64::from(short);
    let kind = KIND_SP as u64 + (short >> 14 & 1);
    let (fp, bx) = (short >> 8 & 7, short >> 11 & 7);
    Rule(kind | is_saved(fp) << 8 | is_saved(bx) << 10 | place(fp) << 12 | place(bx) << 22 | (short & 0xff) << 35)
}

/// The short form of a rule, if it has one.
pub fn short(rule: Rule) -> Option<u32> {
    let base = u32::from(rule.0 & 0xff == u64::from(KIND_FP));
    let below = |place: u32| (rule.0 >> place & 0x3ff) as u32 ^ 0x3ff;
    let saved = |kind: u32, place: u32| if rule.0 >> kind & 3 == AT { below(place) & 7 } else { 0 };
    let short = base << 14 | saved(10, 22) << 11 | saved(8, 12) << 8 | (rule.0 >> 35 & 0xff) as u32;
    (long(short) == rule).then_some(short)
}

/// [`AT`] or, for 0, `SAME`.
#[inline(always)]
fn is_saved(words: u64) -> u64 {
    words.wrapping_add(7) >> 3
}

/// The ten bits that say so many words and one below the CFA; none for 0.
#[inline(always)]
fn place(words: u64) -> u64 {
    !words & 0u64.wrapping_sub(is_saved(words)) & 0x3ff
}

const _: () = assert!(AT == 1 && KIND_FP == KIND_SP + 1);

#[cfg(test)]
mod tests {
    use super::super::rule::{Cfa, Saved};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_short_form_is_that_of_its_long_one() {
        for form in 0..1 << BITS {
            assert_eq!(short(long(form)), Some(form));
            assert_eq!(long(form | 0xffff_8000), long(form));
        }
    }

    #[test]
    fn it_means_what_the_rule_does() {
        let rule = Rule::new(Cfa::Sp(56), Saved::At(-6), Saved::At(-7));
        assert_eq!(short(rule), Some(6 << 11 | 5 << 8 | 7));
        assert_eq!(short(Rule::new(Cfa::Fp(16), Saved::At(-2), Saved::Same)), Some(1 << 14 | 1 << 8 | 2));
        let far = [
            Rule::NONE,
            Rule::FRAME_POINTER,
            Rule::new(Cfa::Sp(256 * 8), Saved::Same, Saved::Same),
            Rule::new(Cfa::Sp(12), Saved::Same, Saved::Same),
            Rule::new(Cfa::Sp(-8), Saved::Same, Saved::Same),
            Rule::new(Cfa::Sp(80), Saved::At(-9), Saved::Same),
            Rule::new(Cfa::Sp(80), Saved::At(1), Saved::Same),
            Rule::new(Cfa::Sp(80), Saved::At(-1), Saved::Same),
            Rule::new(Cfa::Sp(80), Saved::Lost, Saved::Same),
            Rule::new(Cfa::Plt { above: 11 }, Saved::Same, Saved::Same),
        ];
        assert_eq!(far.map(short), [None; 10]);
    }

    proptest! {
        #[test]
        fn a_number_that_has_a_short_form_is_given_back(rule: u64) {
            if let Some(form) = short(Rule(rule)) {
                prop_assert_eq!(long(form), Rule(rule));
            }
        }
    }
}
