//! Code of an ELF file as it lies in its bytes: what stands at an address, for as much of it as is mapped executable.

use super::elf;
use crate::model::answer::LoadSegment;
use iced_x86::{Code, Instruction, OpKind, Register};

/// The code of one file.
#[derive(Debug)]
pub(super) struct MachineCode<'a> {
    bytes: &'a [u8],
    executable: Vec<LoadSegment>,
}

impl<'a> MachineCode<'a> {
    pub(super) fn new(file: &object::File<'_>, bytes: &'a [u8]) -> Self {
        let executable = elf::segments(file).into_iter().filter(|segment| segment.executable).collect();
        Self { bytes, executable }
    }

    /// Where an address lies in the file, if code can be there.
    pub(super) fn offset(&self, address: u64) -> Option<u64> {
        elf::file_offset(&self.executable, address).filter(|offset| *offset < self.bytes.len() as u64)
    }

    /// At most so many bytes from an address on.
    pub(super) fn at(&self, address: u64, most: u64) -> &'a [u8] {
        let bytes = || {
            let segment = self
                .executable
                .iter()
                .find(|segment| address.checked_sub(segment.virtual_address).is_some_and(|inside| inside < segment.file_size))?;
            let inside = address - segment.virtual_address;
            let first = segment.file_offset.checked_add(inside)?;
            let end = first.checked_add(most.min(segment.file_size - inside))?.min(self.bytes.len() as u64);
            self.bytes.get(first as usize..end as usize)
        };
        bytes().unwrap_or_default()
    }
}

/// Whether these two, one behind the other, leave when the first argument is null: `test %rdi,%rdi` and `je`.
pub(super) fn is_null_check(test: &Instruction, jump: &Instruction) -> bool {
    let same = test.op0_kind() == OpKind::Register && test.op0_register() == Register::RDI && test.op1_register() == Register::RDI;
    same && test.code() == Code::Test_rm64_r64 && matches!(jump.code(), Code::Je_rel8_64 | Code::Je_rel32_64)
}
