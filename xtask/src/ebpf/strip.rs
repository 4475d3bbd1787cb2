//! Takes the DWARF out of the linked object and leaves what a loader needs: programs, maps, relocations, symbols and BTF.

use anyhow::{Context, Result, bail};
use object::build::elf::{Builder, SectionData};

/// A mangled name without the hashes of its crates, which depend on the folder that the sources lie in: in Rust's v0 mangling a crate is
/// `C [s BASE62 _] LENGTH NAME`, and the part in brackets may be missing. Only local symbols carry such names; the kernel takes names from the BTF.
fn without_disambiguators(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    if !name.starts_with(b"_R") {
        return name.to_vec();
    }
    while let Some(at) = rest.windows(2).position(|pair| pair == b"Cs") {
        let hash = rest[at + 2..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let behind = &rest[at + 2 + hash..];
        let is_crate = matches!(behind, [b'_', length, ..] if length.is_ascii_digit());
        out.extend(&rest[..=at]);
        rest = if is_crate { &behind[1..] } else { &rest[at + 1..] };
    }
    out.extend(rest);
    out
}

/// The object without its DWARF sections and their relocations, and without what the folder of the build has left in names.
///
/// # Errors
/// It is no ELF file, or it carries no BTF.
pub(crate) fn without_dwarf(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Builder::read(bytes).context("reading the linked object")?;
    let is_dwarf = |name: &[u8]| name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    for section in &mut elf.sections {
        section.delete |= is_dwarf(section.name.as_slice());
    }
    for symbol in &mut elf.symbols {
        symbol.name = without_disambiguators(symbol.name.as_slice()).into();
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

#[cfg(test)]
mod tests {
    use super::without_disambiguators;

    #[test]
    fn a_name_keeps_all_but_the_hashes_of_its_crates() {
        let shown = |name: &str| String::from_utf8(without_disambiguators(name.as_bytes())).expect("text");
        assert_eq!(shown("_RNvNtNtCsfq7Hk6L1Q4p_13profiler_ebpf5stack4user5frame"), "_RNvNtNtC13profiler_ebpf5stack4user5frame");
        assert_eq!(shown("_RINvCsa_1aNtCsb_1b1cE"), "_RINvC1aNtC1b1cE");
        assert_eq!(shown("_RNvC1a5CsxyzCs"), "_RNvC1a5CsxyzCs");
        assert_eq!(shown("memcpy"), "memcpy");
    }
}
