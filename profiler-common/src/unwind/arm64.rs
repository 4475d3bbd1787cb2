//! The twin of `rule.rs` for arm64: what is known of one place in its code, and the step from there. A call leaves its return address in x30, not on the
//! stack; where it is saved, it lies beside x29, most often at the low end of the frame, so both need a longer reach than rbp does.
//!
//! [`Registers::bx`] is x30 here. It is known in the leaf, and behind a signal frame; a caller has lost its own to its call.
//!
//! A return address may be signed (`paciasp`): bits above the address space then hold a code. Nothing here tells signed from plain; [`code_address`] takes the
//! bits away from both, which leaves a plain one as it is.

use super::Registers;
use super::frame_pointer::{self, SavedFrame};
use super::rule::{KIND_FP, KIND_FRAME_POINTER, KIND_GO, KIND_ROOT, KIND_SIGNAL, KIND_SP, Rule};
use crate::ended::Ended;

/// x0 to x30, by number: the leaf alone knows them.
const KIND_REGISTER: u8 = 0x20;

// What becomes of x29 and x30.
const SAME: u64 = 0;
const AT: u64 = 1;
const LOST: u64 = 2;

/// Where the CFA is, the stack pointer before the call, or what stands in its place. Offsets are words of 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cfa {
    /// sp + words.
    Sp(i32),
    /// x29 + words.
    Fp(i32),
    /// Another register: known in the leaf alone.
    Register {
        /// Its number, 0 to 30.
        number: u8,
        /// Words from it.
        words: i32,
    },
    /// The frame that the kernel laid down for a signal handler: all registers are in it.
    Signal,
    /// There is no caller.
    Root,
}

/// What becomes of x29 or x30.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Saved {
    /// It is still in its register.
    Same,
    /// It was saved so many words of 8 bytes from the CFA.
    At(i16),
    /// It is lost.
    Lost,
}

impl Saved {
    const fn pack(self) -> (u64, u64) {
        match self {
            Self::Same => (SAME, 0),
            Self::At(words) => (AT, words as u16 as u64),
            Self::Lost => (LOST, 0),
        }
    }
}

/// Words that a CFA can lie away from its register, either way: 4 MB.
pub const CFA_WORDS_MAX: i32 = (1 << 19) - 1;

/// Packs a rule; [`Rule::NONE`] if the CFA lies too far away.
///
/// ```text
///   63     48 47     32 31        12 11 10 9  8 7      0
///   x30 at  | x29 at  | cfa words  | x30 | x29 | kind        x29 at, x30 at: 16 bits each, words of 8 bytes from the CFA
/// ```
pub const fn pack(cfa: Cfa, fp: Saved, lr: Saved) -> Rule {
    let ((fp_kind, fp_at), (lr_kind, lr_at)) = (fp.pack(), lr.pack());
    let (kind, words) = match cfa {
        Cfa::Sp(words) => (KIND_SP, words),
        Cfa::Fp(words) => (KIND_FP, words),
        Cfa::Register { number, words } if number <= 30 => (KIND_REGISTER | number, words),
        Cfa::Register { .. } => return Rule::NONE,
        Cfa::Signal => (KIND_SIGNAL, 0),
        Cfa::Root => (KIND_ROOT, 0),
    };
    if words > CFA_WORDS_MAX || words < -CFA_WORDS_MAX {
        return Rule::NONE;
    }
    Rule(kind as u64 | fp_kind << 8 | lr_kind << 10 | (words as u64 & 0xf_ffff) << 12 | fp_at << 32 | lr_at << 48)
}

/// `struct rt_sigframe` of arch/arm64/kernel/signal.c, to which sp points once the handler has returned: 128 bytes of `siginfo`, 176 of `ucontext` before its
/// `uc_mcontext`, there the address of the fault, then x0 to x30, sp, pc (arch/arm64/include/uapi/asm/{ucontext,sigcontext}.h).
const SIGNAL_REGISTERS: u64 = 128 + 176 + 8;
const SIGNAL_FP: u64 = SIGNAL_REGISTERS + 29 * 8;
const SIGNAL_LR: u64 = SIGNAL_REGISTERS + 30 * 8;
const SIGNAL_SP: u64 = SIGNAL_REGISTERS + 31 * 8;
const SIGNAL_IP: u64 = SIGNAL_REGISTERS + 32 * 8;

/// A return address without the code that signs it, in an address space of so many bits.
#[inline(always)]
pub const fn code_address(address: u64, address_bits: u32) -> u64 {
    // A kernel gives user space at least 36 bits; whoever says less, and 0 above all, has not said anything.
    if address_bits < 36 || address_bits > 63 { address } else { address & ((1 << address_bits) - 1) }
}

/// One frame up; as [`super::rule::step`]. The CFA lies above the stack pointer, or at it where the return address is still in x30: which is no more than
/// once, so a walk climbs and ends.
///
/// # Errors
/// How the walk ended: at the root, or where no caller can be found.
#[inline(always)]
pub fn step(
    rule: Rule,
    from: &Registers,
    mut read: impl FnMut(u64) -> Option<u64>,
    register: impl FnOnce(u8) -> Option<u64>,
) -> Result<Registers, Ended> {
    let kind = rule.0 as u8;
    let offset = (((rule.0 as u32 as i32) >> 12) as i64 * 8) as u64;
    let cfa = if kind == KIND_SP {
        from.sp.wrapping_add(offset)
    } else if kind == KIND_FP {
        from.fp.wrapping_add(offset)
    } else if kind == KIND_FRAME_POINTER || kind == KIND_GO {
        let above = if kind == KIND_GO { 0 } else { from.sp };
        let saved = |at: u64| Some(SavedFrame { fp: read(at)?, return_address: read(at.wrapping_add(8))? });
        return match frame_pointer::step(from.fp, above, saved) {
            Ok(up) => Ok(Registers { bx: NO_LINK, ..up }),
            Err(ended) => Err(ended),
        };
    } else if kind == KIND_SIGNAL {
        return interrupted(from.sp, read);
    } else if kind == KIND_ROOT {
        return Err(Ended::Root);
    } else if kind & !0x1f == KIND_REGISTER && kind != KIND_REGISTER | 31 {
        let Some(value) = register(kind - KIND_REGISTER) else { return Err(Ended::NoRule) };
        value.wrapping_add(offset)
    } else {
        return Err(Ended::NoRule);
    };
    let is_saved = rule.0 >> 10 & 3 == AT;
    if cfa & 7 != 0 || cfa < from.sp || (is_saved && cfa == from.sp) {
        return Err(Ended::BadFrame);
    }
    let lr_at = (i64::from((rule.0 >> 48) as i16) * 8) as u64;
    let ip = match is_saved {
        true => read(cfa.wrapping_add(lr_at)),
        // Lost, or once more "still in x30", behind a call that has overwritten it.
        false if rule.0 >> 10 & 3 != SAME || from.bx == NO_LINK => return Err(Ended::NoRule),
        false => Some(from.bx),
    };
    let Some(ip) = ip else { return Err(Ended::Unreadable) };
    if ip == 0 {
        return Err(Ended::Root);
    }
    let fp_at = (i64::from((rule.0 >> 32) as i16) * 8) as u64;
    let fp = match rule.0 >> 8 & 3 {
        SAME => Some(from.fp),
        AT => read(cfa.wrapping_add(fp_at)),
        _ => Some(0),
    };
    let Some(fp) = fp else { return Err(Ended::Unreadable) };
    Ok(Registers { ip, sp: cfa, fp, bx: NO_LINK })
}

/// x30 of a caller: its call has overwritten it. No code lies there: it is not a multiple of 4.
pub const NO_LINK: u64 = 1;

/// The registers of what a signal interrupted.
#[inline(always)]
fn interrupted(sp: u64, mut read: impl FnMut(u64) -> Option<u64>) -> Result<Registers, Ended> {
    let Some(ip) = read(sp.wrapping_add(SIGNAL_IP)) else { return Err(Ended::Unreadable) };
    let Some(to) = read(sp.wrapping_add(SIGNAL_SP)) else { return Err(Ended::Unreadable) };
    let Some(fp) = read(sp.wrapping_add(SIGNAL_FP)) else { return Err(Ended::Unreadable) };
    let Some(bx) = read(sp.wrapping_add(SIGNAL_LR)) else { return Err(Ended::Unreadable) };
    Ok(Registers { ip, sp: to, fp, bx })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FROM: Registers = Registers { ip: 0x40_1004, sp: 0x7000, fp: 0x7100, bx: 0x40_2000 };

    fn step_with(rule: Rule, words: &[(u64, u64)]) -> Result<Registers, Ended> {
        let read = |at| words.iter().find(|(address, _)| *address == at).map(|(_, word)| *word);
        step(rule, &FROM, read, |number| (number == 10).then_some(0x7200))
    }

    #[test]
    fn a_leaf_returns_to_x30_and_a_caller_has_lost_its_own() {
        let leaf = pack(Cfa::Sp(0), Saved::Same, Saved::Same);
        let up = step_with(leaf, &[]).expect("x30 is known");
        assert_eq!(up, Registers { ip: 0x40_2000, sp: 0x7000, fp: 0x7100, bx: NO_LINK });
        assert_eq!(step(leaf, &up, |_| Some(8), |_| None), Err(Ended::NoRule), "no loop");
        assert_eq!(step(leaf, &Registers { bx: 0, ..FROM }, |_| Some(8), |_| None), Err(Ended::Root), "the first function of a thread");
    }

    #[test]
    fn saved_pairs_are_found_however_far_away() {
        let up = step_with(pack(Cfa::Fp(4), Saved::At(-4), Saved::At(-3)), &[(0x7100, 0xcc), (0x7108, 0xbb)]);
        assert_eq!(up, Ok(Registers { ip: 0xbb, sp: 0x7120, fp: 0xcc, bx: NO_LINK }));
        let up = step_with(pack(Cfa::Sp(0x2000), Saved::At(-0x2000), Saved::At(-0x1fff)), &[(0x7000, 0xcc), (0x7008, 0xbb)]);
        assert_eq!(up.map(|up| (up.ip, up.sp, up.fp)), Ok((0xbb, 0x1_7000, 0xcc)));
        assert_eq!(pack(Cfa::Sp(1 << 20), Saved::Same, Saved::Same), Rule::NONE);
        let up = step_with(pack(Cfa::Register { number: 10, words: -2 }, Saved::Lost, Saved::At(-1)), &[(0x71e8, 0xff)]);
        assert_eq!(up.map(|up| (up.ip, up.sp, up.fp)), Ok((0xff, 0x71f0, 0)));
        assert_eq!(step_with(pack(Cfa::Register { number: 11, words: 0 }, Saved::Same, Saved::Same), &[]), Err(Ended::NoRule));
    }

    #[test]
    fn what_leads_nowhere_says_so() {
        assert_eq!(step_with(pack(Cfa::Root, Saved::Same, Saved::Same), &[]), Err(Ended::Root));
        assert_eq!(step_with(pack(Cfa::Sp(2), Saved::Same, Saved::At(-1)), &[]), Err(Ended::Unreadable));
        assert_eq!(step_with(pack(Cfa::Sp(2), Saved::Same, Saved::At(-1)), &[(0x7008, 0)]), Err(Ended::Root));
        assert_eq!(step_with(pack(Cfa::Sp(0), Saved::Same, Saved::At(-1)), &[(0x6ff8, 5)]), Err(Ended::BadFrame));
        assert_eq!(step_with(pack(Cfa::Sp(-2), Saved::Same, Saved::Same), &[]), Err(Ended::BadFrame));
        assert_eq!(step_with(pack(Cfa::Sp(2), Saved::Same, Saved::Lost), &[]), Err(Ended::NoRule));
        assert_eq!(step_with(Rule::NONE, &[]), Err(Ended::NoRule));
        assert_eq!(step_with(Rule::FRAME_POINTER, &[(0x7100, 0x7200), (0x7108, 5)]).map(|up| (up.sp, up.bx)), Ok((0x7110, NO_LINK)));
    }

    #[test]
    fn behind_a_signal_x30_is_known_again() {
        let frame = [(0x7000 + 568, 0x40_3000), (0x7000 + 560, 0x9000), (0x7000 + 544, 0x9100), (0x7000 + 552, 0x40_4000)];
        let rule = pack(Cfa::Signal, Saved::Same, Saved::Same);
        assert!(rule.leads_to_interrupted());
        assert_eq!(step_with(rule, &frame), Ok(Registers { ip: 0x40_3000, sp: 0x9000, fp: 0x9100, bx: 0x40_4000 }));
    }

    #[test]
    fn signatures_are_taken_away() {
        assert_eq!(code_address(0x0035_aaaa_bbbb_cccc, 48), 0xaaaa_bbbb_cccc);
        assert_eq!(code_address(0x0035_55aa_bbbb_cccc, 39), 0x2a_bbbb_cccc);
        assert_eq!(code_address(0xaaaa_bbbb_cccc, 48), 0xaaaa_bbbb_cccc);
        assert_eq!(code_address(u64::MAX, 0), u64::MAX);
    }

    proptest! {
        #[test]
        fn any_rule_climbs_or_ends(rule in any::<u64>(), sp in any::<u64>(), fp in any::<u64>(), word in any::<u64>()) {
            let from = Registers { ip: 0, sp, fp, bx: word };
            if let Ok(to) = step(Rule(rule), &from, |_| Some(word), |_| Some(word)) {
                let jumps = [KIND_SIGNAL, KIND_GO].contains(&(rule as u8));
                prop_assert!(jumps || to.sp > from.sp || (to.sp == from.sp && to.bx == NO_LINK) || from.fp > u64::MAX - 16);
            }
        }

        #[test]
        fn offsets_survive_packing(words in -CFA_WORDS_MAX..=CFA_WORDS_MAX, fp_at in any::<i16>(), lr_at in any::<i16>()) {
            let from = Registers { sp: 0x4000_0000, ..FROM };
            let cfa = (0x4000_0000 + i64::from(words) * 8) as u64;
            let up = step(pack(Cfa::Sp(words), Saved::At(fp_at), Saved::At(lr_at)), &from, |at| Some(at ^ (1 << 60)), |_| None);
            if words > 0 {
                let at = |words: i16| cfa.wrapping_add((i64::from(words) * 8) as u64) ^ (1 << 60);
                prop_assert_eq!(up, Ok(Registers { ip: at(lr_at), sp: cfa, fp: at(fp_at), bx: NO_LINK }));
            } else {
                prop_assert_eq!(up, Err(Ended::BadFrame));
            }
        }
    }
}
