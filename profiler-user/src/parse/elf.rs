//! What an ELF file says of itself, and where its addresses lie in the file.

use crate::model::answer::{LoadSegment, ObjectFacts, SEGMENTS_MAX, TEXT_MAX_BYTES};
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags};

/// Longest build id that is believed, bytes.
const BUILD_ID_MAX_BYTES: usize = 64;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It is no ELF file, or one that is damaged where it cannot be read around.
    #[error("the file is no readable ELF file: {0}")]
    Elf(String),
    /// The symbolizer refuses it, with and without its debug information.
    #[error("the file's symbols cannot be read: {0}")]
    Symbols(String),
}

/// Reads the headers and the few sections that tell what the file is.
///
/// # Errors
/// The bytes are no ELF file.
pub fn facts(bytes: &[u8]) -> Result<ObjectFacts, ParseError> {
    let file = object::File::parse(bytes).map_err(|error| ParseError::Elf(error.to_string()))?;
    if file.format() != object::BinaryFormat::Elf {
        return Err(ParseError::Elf("another format".into()));
    }
    let mut facts = ObjectFacts { segments: segments(&file), ..ObjectFacts::default() };
    facts.build_id = file.build_id().ok().flatten().filter(|id| !id.is_empty() && id.len() <= BUILD_ID_MAX_BYTES).map(<[u8]>::to_vec);
    facts.debug_link =
        file.gnu_debuglink().ok().flatten().filter(|(name, _)| name.len() <= TEXT_MAX_BYTES).map(|(name, crc)| (name.to_vec(), crc));
    facts.alt_link = file
        .gnu_debugaltlink()
        .ok()
        .flatten()
        .filter(|(path, id)| path.len() <= TEXT_MAX_BYTES && id.len() <= BUILD_ID_MAX_BYTES)
        .map(|(path, id)| (path.to_vec(), id.to_vec()));
    for section in file.sections() {
        match section.name_bytes().unwrap_or_default() {
            b".symtab" => facts.has_symbols = true,
            b".debug_info" | b".zdebug_info" => facts.has_debug_info = section.size() > 0,
            b".gopclntab" | b".data.rel.ro.gopclntab" => {
                facts.has_go_table = true;
                facts.is_go = true;
            }
            b".go.buildinfo" | b".note.go.buildid" => facts.is_go = true,
            _ => {}
        }
    }
    Ok(facts)
}

/// The sections that hold code: first address, and address behind the last byte.
pub fn code_sections(bytes: &[u8]) -> Vec<(u64, u64)> {
    let Ok(file) = object::File::parse(bytes) else { return Vec::new() };
    let is_code = |section: &object::Section<'_, '_>| section.kind() == object::SectionKind::Text;
    let range = |section: object::Section<'_, '_>| (section.address(), section.address().saturating_add(section.size()));
    file.sections().filter(is_code).take(SEGMENTS_MAX).map(range).collect()
}

/// What the loader maps.
pub(super) fn segments(file: &object::File<'_>) -> Vec<LoadSegment> {
    file.segments()
        .take(SEGMENTS_MAX)
        .map(|segment| {
            let (file_offset, file_size) = segment.file_range();
            let executable = matches!(segment.flags(), SegmentFlags::Elf { p_flags } if p_flags & object::elf::PF_X != 0);
            LoadSegment { file_offset, file_size, virtual_address: segment.address(), executable }
        })
        .collect()
}

/// The file's own address of a byte at an offset: by the executable segment that holds it, else by any.
pub fn virtual_address(segments: &[LoadSegment], offset: u64) -> Option<u64> {
    let holds = |segment: &&LoadSegment| offset.checked_sub(segment.file_offset).is_some_and(|at| at < segment.file_size);
    let segment = segments.iter().filter(|segment| segment.executable).find(holds).or_else(|| segments.iter().find(holds))?;
    segment.virtual_address.checked_add(offset - segment.file_offset)
}

/// The offset in the file of a byte at one of the file's own addresses.
pub(super) fn file_offset(segments: &[LoadSegment], address: u64) -> Option<u64> {
    segments.iter().find_map(|segment| {
        let inside = address.checked_sub(segment.virtual_address).filter(|inside| *inside < segment.file_size)?;
        segment.file_offset.checked_add(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_says_what_it_is() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let facts = facts(&bytes).unwrap();
        assert!(facts.has_symbols && !facts.is_go && facts.build_id.is_some_and(|id| id.len() >= 8));
        assert_eq!(facts.segments.iter().filter(|segment| segment.executable).count(), 1);
    }

    #[test]
    fn an_offset_belongs_to_the_executable_segment() {
        let segments = [
            LoadSegment { file_offset: 0, file_size: 0x2000, virtual_address: 0x40_0000, executable: false },
            LoadSegment { file_offset: 0x1000, file_size: 0x1000, virtual_address: 0x50_1000, executable: true },
        ];
        assert_eq!(virtual_address(&segments, 0x1010), Some(0x50_1010));
        assert_eq!(virtual_address(&segments, 0x10), Some(0x40_0010));
        assert_eq!(virtual_address(&segments, 0x2000), None);
        let overflowing = [LoadSegment { file_offset: 0, file_size: u64::MAX, virtual_address: u64::MAX, executable: true }];
        assert_eq!(virtual_address(&overflowing, 1), None);
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(facts(b"").is_err());
        assert!(facts(b"\x7fELF\x02\x01\x01 and nothing more").is_err());
    }
}
