//! The DWARF sections of a file as gimli wants them: slices of the file, or what they are once decompressed.

use object::{Object, ObjectSection};
use std::collections::HashMap;

/// Most bytes that the compressed sections of one file may become. Beyond that there is no DWARF for us: a megabyte of zeros in a file costs nobody a gigabyte.
const INFLATED_MAX_BYTES: u64 = 128 << 20;

/// A piece of a DWARF section.
pub(super) type Slice<'a> = gimli::EndianSlice<'a, gimli::RunTimeEndian>;

/// The sections that are read.
const READ: [gimli::SectionId; 9] = [
    gimli::SectionId::DebugAbbrev,
    gimli::SectionId::DebugAddr,
    gimli::SectionId::DebugInfo,
    gimli::SectionId::DebugLine,
    gimli::SectionId::DebugLineStr,
    gimli::SectionId::DebugRanges,
    gimli::SectionId::DebugRngLists,
    gimli::SectionId::DebugStr,
    gimli::SectionId::DebugStrOffsets,
];

/// What had to be decompressed of a file; the rest stays where it is.
#[derive(Debug, Default)]
pub(super) struct Inflated(HashMap<&'static str, Vec<u8>>);

impl Inflated {
    /// Decompresses what is compressed. `None`: no DWARF, or too much of it.
    pub(super) fn read(file: &object::File<'_>) -> Option<Self> {
        let mut inflated = HashMap::new();
        let mut total = 0_u64;
        for id in READ {
            let Some(section) = file.section_by_name(id.name()) else { continue };
            let data = section.compressed_data().ok()?;
            if data.format == object::CompressionFormat::None {
                continue;
            }
            total = total.checked_add(data.uncompressed_size).filter(|total| *total <= INFLATED_MAX_BYTES)?;
            inflated.insert(id.name(), data.decompress().ok()?.into_owned());
        }
        Some(Self(inflated))
    }

    /// The sections, borrowed from the file or from here.
    pub(super) fn dwarf<'a>(&'a self, file: &object::File<'a>) -> gimli::Dwarf<Slice<'a>> {
        let endian = if file.is_little_endian() { gimli::RunTimeEndian::Little } else { gimli::RunTimeEndian::Big };
        let load = |id: gimli::SectionId| {
            let bytes = match self.0.get(id.name()) {
                Some(bytes) => bytes,
                None if READ.contains(&id) => file.section_by_name(id.name()).and_then(|section| section.data().ok()).unwrap_or_default(),
                None => &[],
            };
            Ok::<_, std::convert::Infallible>(Slice::new(bytes, endian))
        };
        match gimli::Dwarf::load(load) {
            Ok(dwarf) => dwarf,
            Err(never) => match never {},
        }
    }
}
