//! One row of call frame information to one rule, for x86-64. Its twin for arm64 is `unwind_rule_arm64.rs`.

use super::frame_rows::{Bytes, FOLLOWED, FrameRow};
use gimli::{CfaRule, Operation, Register, RegisterRule, UnwindExpression, UnwindSection, X86_64};
use profiler_common::unwind::rule::{Cfa, Rule, Saved};

/// What the walk follows.
pub(super) const REGISTERS: [Register; FOLLOWED] = [X86_64::RBP, X86_64::RBX, X86_64::RA];

/// Operations of one expression that are looked at.
const OPERATIONS_MAX: usize = 16;

/// The encoding of what this is about: x86-64.
const ENCODING: gimli::Encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };

/// The rule of a row; [`Rule::NONE`] if there is no form for it here.
pub(super) fn rule<'a, S: UnwindSection<Bytes<'a>>>(row: &FrameRow, section: &S) -> Rule {
    let (fp, bx) = (saved(row, X86_64::RBP, section), saved(row, X86_64::RBX, section));
    match row.register(X86_64::RA) {
        None | Some(RegisterRule::Undefined) => return Rule::new(Cfa::Root, Saved::Same, Saved::Same),
        Some(RegisterRule::Offset(-8)) => {}
        Some(RegisterRule::Register(register)) => return return_in(row, register, fp, bx),
        Some(_) => return Rule::NONE,
    }
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => plain(*register, *offset),
        CfaRule::Expression(expression) => operations(expression, section).and_then(|operations| computed(&operations)),
    };
    cfa.map_or(Rule::NONE, |cfa| Rule::new(cfa, fp, bx))
}

fn plain(register: gimli::Register, offset: i64) -> Option<Cfa> {
    let offset = i32::try_from(offset).ok()?;
    match register {
        X86_64::RSP => Some(Cfa::Sp(offset)),
        X86_64::RBP => Some(Cfa::Fp(offset)),
        gimli::Register(number @ 0..=15) if offset.unsigned_abs() < 1 << 23 => Some(Cfa::Register { number: number as u8, offset }),
        _ => None,
    }
}

/// `vfork` of glibc keeps its return address in a register, because the child uses the same stack.
fn return_in(row: &FrameRow, register: gimli::Register, fp: Saved, bx: Saved) -> Rule {
    match (row.cfa(), register) {
        (CfaRule::RegisterAndOffset { register: X86_64::RSP, offset }, gimli::Register(number @ 0..=15)) => {
            let small = i32::try_from(*offset).ok().filter(|offset| offset.unsigned_abs() < 1 << 23);
            small.map_or(Rule::NONE, |offset| Rule::new(Cfa::ReturnIn { number: number as u8, offset }, fp, bx))
        }
        _ => Rule::NONE,
    }
}

/// Where the caller's value of a register is, if the callee keeps it.
fn saved<'a, S: UnwindSection<Bytes<'a>>>(row: &FrameRow, register: gimli::Register, section: &S) -> Saved {
    let words = |bytes: i64| (bytes % 8 == 0).then(|| i16::try_from(bytes / 8).ok()).flatten();
    match row.register(register) {
        None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => Saved::Same,
        Some(RegisterRule::Offset(bytes)) => words(bytes).map_or(Saved::Lost, Saved::At).near(),
        Some(RegisterRule::Expression(expression)) => match operations(&expression, section).as_deref() {
            Some([Operation::RegisterOffset { register: X86_64::RBP, offset, .. }]) => {
                words(*offset).map_or(Saved::Lost, Saved::AtFp).near()
            }
            _ => Saved::Lost,
        },
        Some(_) => Saved::Lost,
    }
}

fn operations<'a, S: UnwindSection<Bytes<'a>>>(expression: &UnwindExpression<usize>, section: &S) -> Option<Vec<Operation<Bytes<'a>>>> {
    let mut all = expression.get(section).ok()?.operations(ENCODING);
    let mut operations = Vec::new();
    while let Some(operation) = all.next().ok()? {
        if operations.len() >= OPERATIONS_MAX {
            return None;
        }
        operations.push(operation);
    }
    Some(operations)
}

/// The shapes of expressions that occur: an entry of the PLT, and a stack pointer that was saved on the stack before it was aligned.
fn computed(operations: &[Operation<Bytes<'_>>]) -> Option<Cfa> {
    use Operation::{And, Deref, Ge, Plus, PlusConstant, RegisterOffset, Shl, UnsignedConstant};
    let small = |value: i64| i16::try_from(value).ok();
    match operations {
        [
            RegisterOffset { register: X86_64::RSP, offset: 8, .. },
            RegisterOffset { register: X86_64::RA, offset: 0, .. },
            UnsignedConstant { value: 15 },
            And,
            UnsignedConstant { value: above @ 1..=15 },
            Ge,
            UnsignedConstant { value: 3 },
            Shl,
            Plus,
        ] => Some(Cfa::Plt { above: *above as u8 }),
        [RegisterOffset { register, offset, .. }, Deref { size: 8, space: false, .. }, rest @ ..] => {
            let add = match rest {
                [] => 0,
                [PlusConstant { value }] | [UnsignedConstant { value }, Plus] => i16::try_from(*value).ok()?,
                _ => return None,
            };
            let at = small(*offset)?;
            match *register {
                X86_64::RSP => Some(Cfa::AtSp { at, add }),
                X86_64::RBP => Some(Cfa::AtFp { at, add }),
                _ => None,
            }
        }
        _ => None,
    }
}
