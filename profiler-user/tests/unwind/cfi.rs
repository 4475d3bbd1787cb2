//! Call frame information evaluated by gimli alone, on made-up registers and memory: what the tables of the profiler must agree with.

use anyhow::{Context as _, Result};
use gimli::{
    AArch64, BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, EvaluationResult, LittleEndian, Location, Register, RegisterRule,
    UnwindContext, UnwindExpression, UnwindSection as _, UnwindTableRow, Value, Vendor, X86_64,
};
use object::{Object as _, ObjectSection as _, ObjectSegment as _};
use profiler::parse::machine::Machine;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// The registers of a machine that a walk follows, by their DWARF numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Followed {
    /// The return address.
    pub(crate) ip: Register,
    /// The stack pointer.
    pub(crate) sp: Register,
    /// The frame pointer.
    pub(crate) fp: Register,
    /// The one beside it.
    pub(crate) beside: Register,
    vendor: Vendor,
}

impl Followed {
    /// Those of a machine.
    pub(crate) fn of(machine: Machine) -> Self {
        match machine {
            Machine::X86_64 => Self { ip: X86_64::RA, sp: X86_64::RSP, fp: X86_64::RBP, beside: X86_64::RBX, vendor: Vendor::Default },
            Machine::Arm64 => Self { ip: AArch64::X30, sp: AArch64::SP, fp: AArch64::X29, beside: AArch64::X30, vendor: Vendor::AArch64 },
        }
    }

    /// What a register holds, made up: every one points somewhere else, and all above the stack pointer.
    pub(crate) fn register(self, number: u16) -> u64 {
        0x7ffd_0000_1000 + u64::from(number ^ self.sp.0) * 0x1_0000
    }
}

/// The caller's registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caller {
    /// Instruction pointer.
    pub(crate) ip: u64,
    /// Stack pointer.
    pub(crate) sp: u64,
    /// The frame pointer; None where it is lost.
    pub(crate) fp: Option<u64>,
    /// The register beside it; None where it is lost.
    pub(crate) beside: Option<u64>,
}

/// What a row says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Says {
    /// There is no caller.
    Root,
    /// Where it is.
    Caller(Caller),
    /// Something that gimli cannot evaluate either, or that makes no sense in a program.
    Nothing,
}

/// A made-up word of memory: never 0, a multiple of 8, above the stack.
pub(crate) fn memory(at: u64) -> u64 {
    0x7ffe_0000_0000 + ((at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 30) & !7)
}

/// A row of a file: from where to where in the file, at which address, and what it says there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// File offset of its first byte.
    pub(crate) first: u64,
    /// File offset behind its last.
    pub(crate) end: u64,
    /// What to add to an offset to have the address.
    pub(crate) bias: u64,
    /// What it says at its first byte.
    pub(crate) says: Says,
    /// What it says at its last byte: entries of the PLT look at the address.
    pub(crate) says_last: Says,
}

/// Calls `each` with the rows of a file's `.eh_frame`, function by function.
///
/// # Errors
/// The file cannot be parsed.
pub(crate) fn rows(bytes: &[u8], machine: Machine, mut each: impl FnMut(Row)) -> Result<()> {
    let followed = Followed::of(machine);
    let file = object::File::parse(bytes)?;
    let Some(section) = file.section_by_name(".eh_frame") else { return Ok(()) };
    let data = section.uncompressed_data()?;
    let mut frames = EhFrame::new(&data, LittleEndian);
    frames.set_address_size(8);
    frames.set_vendor(followed.vendor);
    let address = |name| file.section_by_name(name).map_or(0, |section| section.address());
    let bases = BaseAddresses::default().set_eh_frame(section.address()).set_text(address(".text")).set_got(address(".got"));
    let code: Vec<(u64, u64, u64)> = file
        .segments()
        .filter(|segment| matches!(segment.flags(), object::SegmentFlags::Elf { p_flags } if p_flags & object::elf::PF_X != 0))
        .map(|segment| (segment.address(), segment.file_range().0, segment.file_range().1))
        .collect();
    let (mut entries, mut context) = (frames.entries(&bases), UnwindContext::new());
    while let Some(entry) = entries.next()? {
        let CieOrFde::Fde(fde) = entry else { continue };
        let fde = fde.parse(|_, bases, offset| frames.cie_from_offset(bases, offset))?;
        let start = fde.initial_address();
        let Some((address, offset, _)) = code.iter().find(|(address, _, size)| (*address..address + size).contains(&start)) else {
            continue;
        };
        let bias = address.wrapping_sub(*offset);
        let mut table = fde.rows(&frames, &bases, &mut context)?;
        while let Some(row) = table.next_row()? {
            let (first, end) = (row.start_address(), row.end_address().min(fde.end_address()));
            if first < end {
                let says_last = says(row, &frames, followed, end - 1);
                each(Row { first: first - bias, end: end - bias, bias, says: says(row, &frames, followed, first), says_last });
            }
        }
    }
    Ok(())
}

fn says(row: &UnwindTableRow<usize>, frames: &EhFrame<Bytes<'_>>, followed: Followed, ip: u64) -> Says {
    evaluated(row, frames, followed, ip).unwrap_or(Says::Nothing)
}

fn evaluated(row: &UnwindTableRow<usize>, frames: &EhFrame<Bytes<'_>>, followed: Followed, ip: u64) -> Result<Says> {
    let evaluation = Evaluated { frames, followed, ip };
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register: number, offset } => followed.register(number.0).wrapping_add(*offset as u64),
        CfaRule::Expression(expression) => evaluation.of(expression, None)?,
    };
    let value = |number: Register| -> Result<Option<u64>> {
        Ok(match row.register(number) {
            None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => Some(followed.register(number.0)),
            Some(RegisterRule::Offset(offset)) => Some(memory(cfa.wrapping_add(offset as u64))),
            Some(RegisterRule::Register(other)) => Some(followed.register(other.0)),
            Some(RegisterRule::Expression(expression)) => Some(memory(evaluation.of(&expression, Some(cfa))?)),
            Some(_) => None,
        })
    };
    match row.register(followed.ip) {
        Some(RegisterRule::Undefined) => return Ok(Says::Root),
        // The return address of x86-64 is no register that could have kept its value.
        None if followed.ip == X86_64::RA => return Ok(Says::Root),
        _ => {}
    }
    let ip = value(followed.ip)?.context("a return address")?;
    Ok(Says::Caller(Caller { ip, sp: cfa, fp: value(followed.fp)?, beside: value(followed.beside)? }))
}

/// What expressions are evaluated in.
struct Evaluated<'a, 'b> {
    frames: &'a EhFrame<Bytes<'b>>,
    followed: Followed,
    ip: u64,
}

impl Evaluated<'_, '_> {
    fn of(&self, expression: &UnwindExpression<usize>, cfa: Option<u64>) -> Result<u64> {
        let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
        let mut evaluation = expression.get(self.frames)?.evaluation(encoding);
        if let Some(cfa) = cfa {
            evaluation.set_initial_value(cfa);
        }
        let mut result = evaluation.evaluate()?;
        loop {
            result = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register: X86_64::RA, .. } if self.followed.ip == X86_64::RA => {
                    evaluation.resume_with_register(Value::Generic(self.ip))?
                }
                EvaluationResult::RequiresRegister { register: number, .. } => {
                    evaluation.resume_with_register(Value::Generic(self.followed.register(number.0)))?
                }
                EvaluationResult::RequiresMemory { address, .. } => evaluation.resume_with_memory(Value::Generic(memory(address)))?,
                other => anyhow::bail!("an expression that wants {other:?}"),
            };
        }
        match evaluation.as_result() {
            [piece] => match piece.location {
                Location::Address { address } => Ok(address),
                _ => anyhow::bail!("no address"),
            },
            _ => anyhow::bail!("several pieces"),
        }
    }
}
