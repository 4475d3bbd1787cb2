//! One row of call frame information to one rule, for arm64 (DWARF for the Arm 64-bit Architecture, 4). The twin of `unwind_rule.rs`.

use super::frame_rows::{Bytes, FOLLOWED, FrameRow};
use gimli::{AArch64, CfaRule, Register, RegisterRule, UnwindSection};
use profiler_common::unwind::arm64::{Cfa, Saved, pack};
use profiler_common::unwind::rule::Rule;

/// What the walk follows.
pub(super) const REGISTERS: [Register; FOLLOWED] = [AArch64::X29, AArch64::X30, AArch64::SP];

/// The rule of a row; [`Rule::NONE`] if there is no form for it here. Whether the return address is signed there is left out: the walk takes the signature from any.
pub(super) fn rule<'a, S: UnwindSection<Bytes<'a>>>(row: &FrameRow, _section: &S) -> Rule {
    let lr = match row.register(AArch64::X30) {
        Some(RegisterRule::Undefined) => return pack(Cfa::Root, Saved::Same, Saved::Same),
        other => saved(other),
    };
    let fp = saved(row.register(AArch64::X29));
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => plain(*register, *offset),
        // Of vectors whose length is not known before the program runs; no compiler for what distributions ship makes one.
        CfaRule::Expression(_) => None,
    };
    match cfa {
        Some(cfa) if lr != Saved::Lost => pack(cfa, fp, lr),
        _ => Rule::NONE,
    }
}

fn plain(register: Register, offset: i64) -> Option<Cfa> {
    let words = i32::try_from(whole_words(offset)?).ok()?;
    match register {
        AArch64::SP => Some(Cfa::Sp(words)),
        AArch64::X29 => Some(Cfa::Fp(words)),
        Register(number @ 0..=30) => Some(Cfa::Register { number: number as u8, words }),
        _ => None,
    }
}

/// Where the caller's value of a register is. Of what nothing is said the value stays: so the architecture has it.
fn saved(rule: Option<RegisterRule<usize>>) -> Saved {
    match rule {
        None | Some(RegisterRule::SameValue) => Saved::Same,
        Some(RegisterRule::Offset(bytes)) => whole_words(bytes).and_then(|words| i16::try_from(words).ok()).map_or(Saved::Lost, Saved::At),
        Some(_) => Saved::Lost,
    }
}

fn whole_words(bytes: i64) -> Option<i64> {
    (bytes % 8 == 0).then_some(bytes / 8)
}
