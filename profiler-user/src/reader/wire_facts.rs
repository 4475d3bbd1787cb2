//! What a file says of itself, on the wire.

use super::wire::{In, Malformed, Out};
use crate::model::answer::{LoadSegment, ObjectFacts, SEGMENTS_MAX};

impl Out {
    pub(super) fn facts(&mut self, facts: &ObjectFacts) {
        self.optional(facts.build_id.as_deref());
        self.optional(facts.debug_link.as_ref().map(|(name, _)| name.as_slice()));
        self.u32(facts.debug_link.as_ref().map_or(0, |(_, crc)| *crc as usize));
        self.optional(facts.alt_link.as_ref().map(|(path, _)| path.as_slice()));
        self.optional(facts.alt_link.as_ref().map(|(_, id)| id.as_slice()));
        for flag in [facts.is_go, facts.has_symbols, facts.has_debug_info, facts.has_go_table] {
            self.u8(u8::from(flag));
        }
        let segments = &facts.segments[..facts.segments.len().min(SEGMENTS_MAX)];
        self.u32(segments.len());
        for segment in segments {
            self.u64(segment.file_offset);
            self.u64(segment.file_size);
            self.u64(segment.virtual_address);
            self.u8(u8::from(segment.executable));
        }
    }
}

impl In<'_> {
    pub(super) fn facts(&mut self) -> Result<ObjectFacts, Malformed> {
        let build_id = self.optional()?.map(<[u8]>::to_vec);
        let (name, crc) = (self.optional()?.map(<[u8]>::to_vec), self.u32()?);
        let (path, id) = (self.optional()?.map(<[u8]>::to_vec), self.optional()?.map(<[u8]>::to_vec));
        let mut facts = ObjectFacts {
            build_id,
            debug_link: name.map(|name| (name, crc)),
            alt_link: path.zip(id),
            is_go: self.flag()?,
            has_symbols: self.flag()?,
            has_debug_info: self.flag()?,
            has_go_table: self.flag()?,
            segments: Vec::new(),
        };
        for _ in 0..self.count(SEGMENTS_MAX)? {
            let (file_offset, file_size, virtual_address) = (self.u64()?, self.u64()?, self.u64()?);
            facts.segments.push(LoadSegment { file_offset, file_size, virtual_address, executable: self.flag()? });
        }
        Ok(facts)
    }
}
