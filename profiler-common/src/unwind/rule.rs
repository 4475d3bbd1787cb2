//! What is known of one place in the code: where its caller's registers are. The form is that of DWARF's call frame information (DWARF 5, 6.4), cut
//! down to what compilers write for x86-64: over 99.8 % of all rows find the CFA (the stack pointer before the call) from rsp or rbp, and the rest are a
//! handful of shapes, each with its own kind here. Its twin for arm64 is `arm64.rs`.

use super::Registers;
use super::frame_pointer::{self, SavedFrame};
use crate::ended::Ended;

/// One rule, in 8 bytes: the kind of CFA, what becomes of rbp and rbx, and their offsets.
///
/// ```text
///   63           32 31    22 21    12 11 10 9  8 7      0
///   cfa offset i32 | bx at  | fp at  | bx  | fp | kind    fp at, bx at: 10 bits each, words of 8 bytes from the CFA
///   add i16 |at i16                                       for the kinds that read the CFA from memory
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Rule(pub u64);

// Kinds; 0 is no rule, so that zeroed memory says nothing. Those that are seen outside of this file mean the same on arm64.
const KIND_NONE: u8 = 0;
pub(super) const KIND_SP: u8 = 1;
pub(super) const KIND_FP: u8 = 2;
const KIND_AT_SP: u8 = 3;
const KIND_AT_FP: u8 = 4;
const KIND_PLT: u8 = 5;
pub(super) const KIND_SIGNAL: u8 = 6;
pub(super) const KIND_ROOT: u8 = 7;
pub(super) const KIND_FRAME_POINTER: u8 = 8;
const KIND_REGISTER: u8 = 9;
const KIND_RETURN_IN: u8 = 10;
pub(super) const KIND_GO: u8 = 11;
const KIND_RETURN_PROBE: u8 = 12;
const KIND_CLONE: u8 = 13;

// What becomes of a saved register.
pub(super) const SAME: u64 = 0;
pub(super) const AT: u64 = 1;
pub(super) const LOST: u64 = 2;
pub(super) const AT_FP: u64 = 3;

/// Where the CFA is, or what stands in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cfa {
    /// Nothing is known.
    None,
    /// rsp + offset.
    Sp(i32),
    /// rbp + offset.
    Fp(i32),
    /// The word at rsp + at, plus add.
    AtSp {
        /// Bytes from rsp.
        at: i16,
        /// Added to what is there.
        add: i16,
    },
    /// The word at rbp + at, plus add.
    AtFp {
        /// Bytes from rbp.
        at: i16,
        /// Added to what is there.
        add: i16,
    },
    /// An entry of the procedure linkage table, 16 bytes long: rsp + 8, and 8 more from byte `above` on, behind its push.
    Plt {
        /// The first byte of the entry that comes after the push.
        above: u8,
    },
    /// The frame that the kernel laid down for a signal handler: all registers are in it.
    Signal,
    /// There is no caller.
    Root,
    /// Another register, by its DWARF number: known in the leaf alone.
    Register {
        /// DWARF number of the register.
        number: u8,
        /// Bytes from it.
        offset: i32,
    },
    /// At the system call that makes a thread or a process with a stack of its own, and behind it: rax is 0 in the child, which has no caller; the parent's frame is
    /// that of an entry. Known in the leaf alone.
    Clone,
    /// rsp + offset, and the return address is in a register and not on the stack (`vfork`): known in the leaf alone.
    ReturnIn {
        /// DWARF number of the register.
        number: u8,
        /// Bytes from rsp.
        offset: i32,
    },
}

/// What becomes of one of the caller's registers. Saved ones lie within 512 words of the CFA, or count as lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Saved {
    /// It is still in its register.
    Same,
    /// It was saved so many words of 8 bytes from the CFA.
    At(i16),
    /// It was saved so many words of 8 bytes from where rbp points: behind a stack that was aligned anew.
    AtFp(i16),
    /// It is lost.
    Lost,
}

impl Rule {
    /// Nothing is known here.
    pub const NONE: Self = Self(KIND_NONE as u64);
    /// Frames are chained by their frame pointers.
    pub const FRAME_POINTER: Self = Self(KIND_FRAME_POINTER as u64);
    /// So they are, from stack to stack: Go's code runs on a goroutine's stack and on its thread's, and the chain leads from one to the other.
    pub const GO_FRAME_POINTER: Self = Self(KIND_GO as u64);

    /// The address is the kernel's, put in the place of a return address: the task knows which it was. `step()` finds no caller by it.
    pub const RETURN_PROBE: Self = Self(KIND_RETURN_PROBE as u64);

    /// Packs a rule.
    pub const fn new(cfa: Cfa, fp: Saved, bx: Saved) -> Self {
        let ((fp_kind, fp_at), (bx_kind, bx_at)) = (fp.pack(), bx.pack());
        let (kind, offset) = match cfa {
            Cfa::None => return Self::NONE,
            Cfa::Sp(offset) => (KIND_SP, offset as u32),
            Cfa::Fp(offset) => (KIND_FP, offset as u32),
            Cfa::AtSp { at, add } => (KIND_AT_SP, two(at, add)),
            Cfa::AtFp { at, add } => (KIND_AT_FP, two(at, add)),
            Cfa::Plt { above } => (KIND_PLT, above as u32),
            Cfa::Signal => (KIND_SIGNAL, 0),
            Cfa::Root => (KIND_ROOT, 0),
            Cfa::Clone => (KIND_CLONE, 0),
            // 24 bits are left for the offset; the number takes the fourth byte.
            Cfa::Register { number, offset } => (KIND_REGISTER, (offset as u32 & 0xff_ffff) | (number as u32) << 24),
            Cfa::ReturnIn { number, offset } => (KIND_RETURN_IN, (offset as u32 & 0xff_ffff) | (number as u32) << 24),
        };
        Self(kind as u64 | fp_kind << 8 | bx_kind << 10 | fp_at << 12 | bx_at << 22 | (offset as u64) << 32)
    }

    pub(super) const fn kind(self) -> u8 {
        self.0 as u8
    }

    pub(super) const fn offset(self) -> u64 {
        ((self.0 as i64) >> 32) as u64
    }

    /// The caller's value of a register: rbp or rbx.
    #[inline(always)]
    fn caller(self, which: Which, from: &Registers, cfa: u64, read: &mut impl FnMut(u64) -> Option<u64>) -> Option<u64> {
        let (value, shift, place) = match which {
            Which::Fp => (from.fp, 8, 12),
            Which::Bx => (from.bx, 10, 22),
        };
        let kind = self.0 >> shift & 3;
        if kind == SAME {
            return Some(value);
        }
        if kind == LOST {
            return Some(0);
        }
        let base = if kind == AT { cfa } else { from.fp };
        let words = ((self.0 << (54 - place)) as i64) >> 54;
        read(base.wrapping_add((words * 8) as u64))
    }

    /// Whether there is no caller.
    pub const fn is_root(self) -> bool {
        self.kind() == KIND_ROOT
    }

    /// Whether it is [`Rule::RETURN_PROBE`].
    pub const fn is_return_probe(self) -> bool {
        self.kind() == KIND_RETURN_PROBE
    }

    /// Whether the walk goes on at an instruction that was interrupted, and not behind a call.
    pub const fn leads_to_interrupted(self) -> bool {
        self.kind() == KIND_SIGNAL
    }
}

/// The registers that a rule says something of.
#[derive(Clone, Copy)]
enum Which {
    Fp,
    Bx,
}

impl Saved {
    /// The same, but a word that lies too far away is lost.
    pub const fn near(self) -> Self {
        match self {
            Self::At(words) | Self::AtFp(words) if words < -512 || words > 511 => Self::Lost,
            near => near,
        }
    }

    const fn pack(self) -> (u64, u64) {
        match self.near() {
            Self::Same => (SAME, 0),
            Self::At(words) => (AT, words as u64 & 0x3ff),
            Self::AtFp(words) => (AT_FP, words as u64 & 0x3ff),
            Self::Lost => (LOST, 0),
        }
    }
}

const fn two(low: i16, high: i16) -> u32 {
    low as u16 as u32 | (high as u16 as u32) << 16
}

/// `struct rt_sigframe` of arch/x86/include/asm/sigframe.h as the handler's `ret` leaves rsp: at `uc`, whose registers begin 40 bytes in
/// (`uc_mcontext`, arch/x86/include/uapi/asm/sigcontext.h): r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
const SIGNAL_FP: u64 = 40 + 10 * 8;
const SIGNAL_BX: u64 = 40 + 11 * 8;
const SIGNAL_SP: u64 = 40 + 15 * 8;
const SIGNAL_IP: u64 = 40 + 16 * 8;

/// One frame up.
///
/// `read` reads a word of the walked thread's memory; `register` a general register by its DWARF number, where it is known: in the leaf. The CFA must
/// lie above the stack pointer, so that a walk in a stack that a hostile process prepared climbs, and ends. (A signal frame may lead to another stack; the
/// bound on frames ends that.)
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
    let kind = rule.kind();
    let cfa = if kind == KIND_SP {
        from.sp.wrapping_add(rule.offset())
    } else if kind == KIND_FP {
        from.fp.wrapping_add(rule.offset())
    } else if kind == KIND_FRAME_POINTER || kind == KIND_GO {
        let above = if kind == KIND_GO { 0 } else { from.sp };
        return frame_pointer::step(from.fp, above, |at| Some(SavedFrame { fp: read(at)?, return_address: read(at.wrapping_add(8))? }));
    } else {
        match rare(rule, from, &mut read, register) {
            Ok(Rare::Cfa(cfa)) => cfa,
            Ok(Rare::Caller(caller)) => return Ok(caller),
            Err(ended) => return Err(ended),
        }
    };
    if cfa & 7 != 0 || cfa <= from.sp {
        return Err(Ended::BadFrame);
    }
    let Some(ip) = read(cfa.wrapping_sub(8)) else { return Err(Ended::Unreadable) };
    if ip == 0 {
        return Err(Ended::Root);
    }
    let Some(fp) = rule.caller(Which::Fp, from, cfa, &mut read) else { return Err(Ended::Unreadable) };
    let Some(bx) = rule.caller(Which::Bx, from, cfa, &mut read) else { return Err(Ended::Unreadable) };
    Ok(Registers { ip, sp: cfa, fp, bx })
}

/// DWARF numbers of rax and rbx.
const RAX: u8 = 0;
const RBX: u8 = 3;

/// What a rule that is no plain offset leads to.
enum Rare {
    Cfa(u64),
    Caller(Registers),
}

#[inline(always)]
fn rare(
    rule: Rule,
    from: &Registers,
    read: &mut impl FnMut(u64) -> Option<u64>,
    register: impl FnOnce(u8) -> Option<u64>,
) -> Result<Rare, Ended> {
    let kind = rule.kind();
    let (at, add) = (i64::from((rule.0 >> 32) as i16) as u64, ((rule.0 as i64) >> 48) as u64);
    if kind == KIND_ROOT {
        return Err(Ended::Root);
    }
    if kind == KIND_AT_SP || kind == KIND_AT_FP {
        let base = if kind == KIND_AT_SP { from.sp } else { from.fp };
        let Some(word) = read(base.wrapping_add(at)) else { return Err(Ended::Unreadable) };
        return Ok(Rare::Cfa(word.wrapping_add(add)));
    }
    if kind == KIND_PLT {
        let pushed = if from.ip & 15 >= rule.offset() { 8 } else { 0 };
        return Ok(Rare::Cfa(from.sp.wrapping_add(8).wrapping_add(pushed)));
    }
    if kind == KIND_SIGNAL {
        let Some(ip) = read(from.sp.wrapping_add(SIGNAL_IP)) else { return Err(Ended::Unreadable) };
        let Some(sp) = read(from.sp.wrapping_add(SIGNAL_SP)) else { return Err(Ended::Unreadable) };
        let Some(fp) = read(from.sp.wrapping_add(SIGNAL_FP)) else { return Err(Ended::Unreadable) };
        let Some(bx) = read(from.sp.wrapping_add(SIGNAL_BX)) else { return Err(Ended::Unreadable) };
        return Ok(Rare::Caller(Registers { ip, sp, fp, bx }));
    }
    if kind == KIND_CLONE {
        return match register(RAX) {
            Some(0) => Err(Ended::Root),
            Some(_) => Ok(Rare::Cfa(from.sp.wrapping_add(8))),
            None => Err(Ended::NoRule),
        };
    }
    if kind == KIND_REGISTER || kind == KIND_RETURN_IN {
        let offset = i64::from((((rule.0 >> 32) as u32) << 8) as i32 >> 8) as u64;
        let number = (rule.0 >> 56) as u8;
        let value = if number == RBX { from.bx } else { register(number).unwrap_or(0) };
        if value == 0 {
            return Err(Ended::NoRule);
        }
        if kind == KIND_REGISTER {
            return Ok(Rare::Cfa(value.wrapping_add(offset)));
        }
        let cfa = from.sp.wrapping_add(offset);
        let Some(fp) = rule.caller(Which::Fp, from, cfa, read) else { return Err(Ended::Unreadable) };
        let Some(bx) = rule.caller(Which::Bx, from, cfa, read) else { return Err(Ended::Unreadable) };
        return Ok(Rare::Caller(Registers { ip: value, sp: cfa, fp, bx }));
    }
    Err(Ended::NoRule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn memory(words: &[(u64, u64)]) -> impl FnMut(u64) -> Option<u64> + '_ {
        |at| words.iter().find(|(address, _)| *address == at).map(|(_, word)| *word)
    }

    const FROM: Registers = Registers { ip: 0x40_1007, sp: 0x7000, fp: 0x7100, bx: 0x7300 };

    fn step_with(rule: Rule, words: &[(u64, u64)]) -> Result<Registers, Ended> {
        step(rule, &FROM, memory(words), |number| (number == 10).then_some(0x7200))
    }

    #[test]
    fn plain_rules_find_caller_and_frame_pointer() {
        let up = step_with(Rule::new(Cfa::Sp(0x20), Saved::Same, Saved::Same), &[(0x7018, 0xaa)]);
        assert_eq!(up, Ok(Registers { ip: 0xaa, sp: 0x7020, fp: 0x7100, bx: 0x7300 }));
        let up = step_with(Rule::new(Cfa::Fp(16), Saved::At(-2), Saved::Same), &[(0x7108, 0xbb), (0x7100, 0xcc)]);
        assert_eq!(up, Ok(Registers { ip: 0xbb, sp: 0x7110, fp: 0xcc, bx: 0x7300 }));
        assert_eq!(step_with(Rule::new(Cfa::Sp(8), Saved::Same, Saved::Same), &[(0x7000, 0)]), Err(Ended::Root));
        assert_eq!(step_with(Rule::new(Cfa::Sp(8), Saved::Same, Saved::Same), &[]), Err(Ended::Unreadable));
        assert_eq!(step_with(Rule::new(Cfa::Sp(0), Saved::Same, Saved::Same), &[]), Err(Ended::BadFrame));
        assert_eq!(step_with(Rule::new(Cfa::Sp(-8), Saved::Same, Saved::Same), &[]), Err(Ended::BadFrame));
    }

    #[test]
    fn rare_rules_find_theirs() {
        let up = step_with(
            Rule::new(Cfa::AtFp { at: -8, add: 0 }, Saved::At(-2), Saved::Same),
            &[(0x70f8, 0x7300), (0x72f8, 0xdd), (0x72f0, 0xee)],
        );
        assert_eq!(up, Ok(Registers { ip: 0xdd, sp: 0x7300, fp: 0xee, bx: 0x7300 }));
        let up = step_with(
            Rule::new(Cfa::AtFp { at: -8, add: 0 }, Saved::AtFp(0), Saved::Same),
            &[(0x70f8, 0x7300), (0x72f8, 0xdd), (0x7100, 0xee)],
        );
        assert_eq!(up, Ok(Registers { ip: 0xdd, sp: 0x7300, fp: 0xee, bx: 0x7300 }));
        let up = step_with(Rule::new(Cfa::ReturnIn { number: 10, offset: 0 }, Saved::Same, Saved::Same), &[]);
        assert_eq!(up, Ok(Registers { ip: 0x7200, sp: 0x7000, fp: 0x7100, bx: 0x7300 }));
        let up = step_with(Rule::new(Cfa::AtSp { at: 0x40, add: 8 }, Saved::Same, Saved::Same), &[(0x7040, 0x7300), (0x7300, 0xdd)]);
        assert_eq!(up.map(|up| (up.ip, up.sp)), Ok((0xdd, 0x7308)));
        let plt = |above| step_with(Rule::new(Cfa::Plt { above }, Saved::Same, Saved::Same), &[(0x7000, 1), (0x7008, 2)]).map(|up| up.ip);
        assert_eq!((plt(11), plt(7)), (Ok(1), Ok(2)));
        let up = step_with(Rule::new(Cfa::Register { number: 10, offset: -16 }, Saved::Same, Saved::Same), &[(0x71e8, 0xff)]);
        assert_eq!(up.map(|up| (up.ip, up.sp)), Ok((0xff, 0x71f0)));
        assert_eq!(step_with(Rule::new(Cfa::Register { number: 11, offset: 0 }, Saved::Same, Saved::Same), &[]), Err(Ended::NoRule));
        let up = step_with(
            Rule::new(Cfa::Signal, Saved::Same, Saved::Same),
            &[(0x70a8, 0x10), (0x70a0, 0x20), (0x7078, 0x30), (0x7080, 0x7300)],
        );
        assert_eq!(up, Ok(Registers { ip: 0x10, sp: 0x20, fp: 0x30, bx: 0x7300 }));
        assert_eq!(step_with(Rule::new(Cfa::Root, Saved::Same, Saved::Same), &[]), Err(Ended::Root));
        let clone = |rax| step(Rule::new(Cfa::Clone, Saved::Same, Saved::Same), &FROM, memory(&[(0x7000, 0xcc)]), |_| rax);
        assert_eq!(clone(Some(4711)), Ok(Registers { ip: 0xcc, sp: 0x7008, fp: 0x7100, bx: 0x7300 }));
        assert_eq!((clone(Some(0)), clone(None)), (Err(Ended::Root), Err(Ended::NoRule)));
        assert_eq!(step_with(Rule::NONE, &[]), Err(Ended::NoRule));
        assert_eq!(step_with(Rule::FRAME_POINTER, &[(0x7100, 0x7200), (0x7108, 5)]).map(|up| up.sp), Ok(0x7110));
    }

    proptest! {
        #[test]
        fn any_rule_climbs_or_ends(rule in any::<u64>(), sp in any::<u64>(), fp in any::<u64>(), word in any::<u64>()) {
            let from = Registers { ip: 0, sp, fp, bx: word };
            if let Ok(to) = step(Rule(rule), &from, |_| Some(word), |_| Some(word)) {
                let jumps = [KIND_SIGNAL, KIND_RETURN_IN, KIND_GO].contains(&Rule(rule).kind());
                prop_assert!(jumps || to.sp > from.sp || from.fp > u64::MAX - 16);
            }
        }
    }
}
