//! Takes the DWARF out of the linked object and leaves what a loader needs: programs, maps, relocations, symbols and BTF.

use anyhow::{Context, Result, bail};
use object::build::elf::{Builder, SectionData};

/// The object without its DWARF sections and their relocations.
///
/// # Errors
/// It is no ELF file, or it carries no BTF.
pub(crate) fn without_dwarf(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Builder::read(bytes).context("reading the linked object")?;
    let is_dwarf = |name: &[u8]| name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    for section in &mut elf.sections {
        section.delete |= is_dwarf(section.name.as_slice());
    }
    elf.delete_orphans();
    // LLVM keeps the names of sections and of symbols in one table; the writer wants one for each.
    if !elf.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = elf.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = object::elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    if !elf.sections.iter().any(|section| !section.delete && section.name.as_slice() == b".BTF") {
        bail!("the linked object carries no BTF; the linker must be called with --btf, and the compiler with debug information");
    }
    let mut out = Vec::new();
    elf.write(&mut out).context("writing the stripped object")?;
    Ok(out)
}
