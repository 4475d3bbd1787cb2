//! Call frame information, run for those registers alone that a walk follows: gimli reads the instructions, and its own table of rows, which keeps every
//! register of the machine, takes five times as long. (DWARF 5, 6.4.2; what a row means is in `unwind_rule.rs` and its twin.)

use gimli::{
    BaseAddresses, CallFrameInstruction, CallFrameInstructionIter, CfaRule, CommonInformationEntry, EndianSlice, FrameDescriptionEntry,
    LittleEndian, Register, RegisterRule, UnwindSection,
};

/// The bytes of a section.
pub(super) type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// Registers that are followed.
pub(super) const FOLLOWED: usize = 3;
/// States that a function may have remembered at once; compilers have one.
const REMEMBERED_MAX: usize = 8;

/// Where the frame is, and where the caller's values of the followed registers are.
#[derive(Clone, Debug)]
pub(super) struct FrameRow {
    followed: [Register; FOLLOWED],
    cfa: CfaRule<usize>,
    rules: [Option<RegisterRule<usize>>; FOLLOWED],
}

impl FrameRow {
    fn new(followed: [Register; FOLLOWED]) -> Self {
        Self { followed, cfa: CfaRule::RegisterAndOffset { register: Register(0), offset: 0 }, rules: [None, None, None] }
    }

    /// Where the frame is.
    pub(super) fn cfa(&self) -> &CfaRule<usize> {
        &self.cfa
    }

    /// What is said of a followed register; None: nothing.
    pub(super) fn register(&self, register: Register) -> Option<RegisterRule<usize>> {
        self.rules[self.place(register)?].clone()
    }

    fn place(&self, register: Register) -> Option<usize> {
        self.followed.iter().position(|followed| *followed == register)
    }

    fn set(&mut self, register: Register, rule: RegisterRule<usize>) {
        if let Some(place) = self.place(register) {
            self.rules[place] = Some(rule);
        }
    }
}

/// What functions have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    row: FrameRow,
    code_factor: u64,
    data_factor: i64,
}

impl Common {
    /// Runs the instructions of the entry that functions have in common; None if they make no sense.
    pub(super) fn new<'a, S: UnwindSection<Bytes<'a>>>(
        cie: &CommonInformationEntry<Bytes<'a>>,
        section: &'a S,
        bases: &'a BaseAddresses,
        followed: [Register; FOLLOWED],
    ) -> Option<Self> {
        let row = FrameRow::new(followed);
        let mut common = Self { row: row.clone(), code_factor: cie.code_alignment_factor(), data_factor: cie.data_alignment_factor() };
        let mut rows =
            Rows { common: &common, instructions: cie.instructions(section, bases), row, remembered: Vec::new(), at: 0, is_done: false };
        let mut last = None;
        while let Some((_, row)) = rows.next() {
            last = Some(row.clone());
        }
        common.row = last?;
        Some(common)
    }
}

/// The rows of one function, one after the other.
pub(super) struct Rows<'a, 'c> {
    common: &'c Common,
    instructions: CallFrameInstructionIter<'a, Bytes<'a>>,
    row: FrameRow,
    remembered: Vec<FrameRow>,
    /// The address that the row at work begins at.
    at: u64,
    is_done: bool,
}

/// What an instruction does beside changing the row.
enum Effect {
    Nothing,
    /// The row ends here, and the next one begins.
    Next(u64),
}

impl<'a, 'c> Rows<'a, 'c> {
    pub(super) fn new<S: UnwindSection<Bytes<'a>>>(
        fde: &FrameDescriptionEntry<Bytes<'a>>,
        section: &'a S,
        bases: &'a BaseAddresses,
        common: &'c Common,
    ) -> Self {
        let instructions = fde.instructions(section, bases);
        Self { common, instructions, row: common.row.clone(), remembered: Vec::new(), at: fde.initial_address(), is_done: false }
    }

    /// The next row with its address; None behind the last one, or where the instructions stop making sense.
    pub(super) fn next(&mut self) -> Option<(u64, &FrameRow)> {
        if self.is_done {
            return None;
        }
        let from = self.at;
        loop {
            let Some(instruction) = self.instructions.next().ok()? else {
                self.is_done = true;
                return Some((from, &self.row));
            };
            // What changes the row behind this one comes after it: the instructions stand in the order of the code.
            if let Effect::Next(address) = self.run(instruction)? {
                self.at = address;
                return Some((from, &self.row));
            }
        }
    }

    fn run(&mut self, instruction: CallFrameInstruction<usize>) -> Option<Effect> {
        use CallFrameInstruction as I;
        let factor = self.common.data_factor;
        let row = &mut self.row;
        match instruction {
            I::SetLoc { address } => return (address >= self.at).then_some(Effect::Next(address)),
            I::AdvanceLoc { delta } => {
                return Some(Effect::Next(self.at.checked_add(u64::from(delta).wrapping_mul(self.common.code_factor))?));
            }
            I::DefCfa { register, offset } => row.cfa = CfaRule::RegisterAndOffset { register, offset: offset as i64 },
            I::DefCfaSf { register, factored_offset } => {
                row.cfa = CfaRule::RegisterAndOffset { register, offset: factored_offset.wrapping_mul(factor) };
            }
            I::DefCfaExpression { expression } => row.cfa = CfaRule::Expression(expression),
            I::DefCfaRegister { .. } | I::DefCfaOffset { .. } | I::DefCfaOffsetSf { .. } => {
                let CfaRule::RegisterAndOffset { register, offset } = &mut row.cfa else { return None };
                match instruction {
                    I::DefCfaRegister { register: other } => *register = other,
                    I::DefCfaOffset { offset: other } => *offset = other as i64,
                    I::DefCfaOffsetSf { factored_offset } => *offset = factored_offset.wrapping_mul(factor),
                    _ => {}
                }
            }
            I::Undefined { register } => row.set(register, RegisterRule::Undefined),
            I::SameValue { register } => row.set(register, RegisterRule::SameValue),
            I::Offset { register, factored_offset } => {
                row.set(register, RegisterRule::Offset((factored_offset as i64).wrapping_mul(factor)));
            }
            I::OffsetExtendedSf { register, factored_offset } => {
                row.set(register, RegisterRule::Offset(factored_offset.wrapping_mul(factor)));
            }
            I::ValOffset { register, factored_offset } => {
                row.set(register, RegisterRule::ValOffset((factored_offset as i64).wrapping_mul(factor)));
            }
            I::ValOffsetSf { register, factored_offset } => {
                row.set(register, RegisterRule::ValOffset(factored_offset.wrapping_mul(factor)));
            }
            I::Register { dest_register, src_register } => row.set(dest_register, RegisterRule::Register(src_register)),
            I::Expression { register, expression } => row.set(register, RegisterRule::Expression(expression)),
            I::ValExpression { register, expression } => row.set(register, RegisterRule::ValExpression(expression)),
            I::Restore { register } => {
                if let Some(place) = row.place(register) {
                    row.rules[place] = self.common.row.rules[place].clone();
                }
            }
            I::RememberState if self.remembered.len() >= REMEMBERED_MAX => return None,
            I::RememberState => self.remembered.push(row.clone()),
            I::RestoreState => *row = self.remembered.pop()?,
            // How much of the stack are arguments, and whether the return address is signed, no walk asks.
            I::ArgsSize { .. } | I::NegateRaState | I::Nop => {}
        }
        Some(Effect::Nothing)
    }
}
