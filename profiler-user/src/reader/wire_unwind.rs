//! Unwind tables on the wire: a part is its first place, the number of its words, and its words.

use super::wire::{ANSWER_MAX_BYTES, In, Malformed, Out};
use crate::model::unwind::{Elsewhere, UnwindPart, UnwindTable};
use profiler_common::limits::ARENA_CHUNK_WORDS;

impl Out {
    pub(super) fn unwind(&mut self, table: &UnwindTable) {
        self.u8(match table.elsewhere {
            Elsewhere::FramePointers => 0,
            Elsewhere::Go => 1,
        });
        self.u64(table.rows);
        self.u32(table.parts.len());
        for part in &table.parts {
            self.u64(part.first);
            self.u32(part.words.len());
            self.0.extend(part.words.iter().flat_map(|word| word.to_le_bytes()));
        }
    }
}

impl In<'_> {
    pub(super) fn unwind(&mut self) -> Result<UnwindTable, Malformed> {
        let elsewhere = match self.u8()? {
            0 => Elsewhere::FramePointers,
            1 => Elsewhere::Go,
            _ => return Err(Malformed("an unknown kind of code")),
        };
        let (rows, count) = (self.u64()?, self.count(ANSWER_MAX_BYTES)?);
        let mut parts: Vec<UnwindPart> = Vec::new();
        for _ in 0..count {
            let (first, words) = (self.u64()?, self.count(ARENA_CHUNK_WORDS as usize)?);
            let words =
                self.take(words * 4)?.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
            let part = UnwindPart { first, words };
            if first > u64::MAX / 2 || parts.last().is_some_and(|last| last.first + u64::from(last.length()) > first) {
                return Err(Malformed("parts that overlap"));
            }
            parts.push(part);
        }
        Ok(UnwindTable { parts, elsewhere, rows })
    }
}
