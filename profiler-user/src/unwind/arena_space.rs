//! Where in the arena there is room. Freed room is used again only when no program can still look at what was there.

use crate::bpf::Arena;
use profiler_common::limits::ARENA_CHUNK_WORDS;
use std::collections::BTreeMap;

/// Places are multiples of this many words: a list's entries are read as words of 8 bytes.
const ALIGN_WORDS: u32 = 4;

/// A piece of the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub(super) at: u32,
    pub(super) words: u32,
}

/// Free pieces, and those that will be.
#[derive(Debug, Default)]
pub(super) struct ArenaSpace {
    /// Length by place; neighbours are joined, but not across the border of two chunks.
    free: BTreeMap<u32, u32>,
    /// Given back, but a program may still look at them.
    resting: Vec<Piece>,
    chunks: u32,
    used_words: u64,
}

impl ArenaSpace {
    /// Bytes in use.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used_words * 4
    }

    /// Finds room within one chunk that is free now.
    pub(super) fn take(&mut self, arena: &Arena, words: usize) -> Option<Piece> {
        let words = u32::try_from(words).ok().filter(|words| (1..=ARENA_CHUNK_WORDS).contains(words))?;
        while (self.chunks as usize) < arena.chunks() {
            self.free.insert(self.chunks * ARENA_CHUNK_WORDS, ARENA_CHUNK_WORDS);
            self.chunks += 1;
        }
        self.take_free(words.next_multiple_of(ALIGN_WORDS))
    }

    /// Whether room was given back that is not free yet.
    pub(super) fn has_resting(&self) -> bool {
        !self.resting.is_empty()
    }

    /// Gives a piece back.
    pub(super) fn give(&mut self, piece: Piece) {
        self.used_words -= u64::from(piece.words);
        self.resting.push(piece);
    }

    /// The smallest piece that is large enough.
    fn take_free(&mut self, words: u32) -> Option<Piece> {
        let (at, length) = self.free.iter().filter(|(_, length)| **length >= words).min_by_key(|(_, length)| **length)?;
        let (at, length) = (*at, *length);
        self.free.remove(&at);
        if length > words {
            self.free.insert(at + words, length - words);
        }
        self.used_words += u64::from(words);
        Some(Piece { at, words })
    }

    /// What was given back is free: nothing that a program can look up leads there, and [`crate::bpf::wait_for_programs`] has returned since.
    pub(super) fn settle(&mut self) {
        for piece in std::mem::take(&mut self.resting) {
            let (mut at, mut words) = (piece.at, piece.words);
            if let Some((before, length)) = self.free.range(..at).next_back().map(|(before, length)| (*before, *length))
                && before + length == at
                && before / ARENA_CHUNK_WORDS == at / ARENA_CHUNK_WORDS
            {
                self.free.remove(&before);
                (at, words) = (before, words + length);
            }
            let next = at + words;
            if next % ARENA_CHUNK_WORDS != 0
                && let Some(length) = self.free.remove(&next)
            {
                words += length;
            }
            self.free.insert(at, words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_chunks(chunks: u32) -> ArenaSpace {
        let free = (0..chunks).map(|chunk| (chunk * ARENA_CHUNK_WORDS, ARENA_CHUNK_WORDS)).collect();
        ArenaSpace { free, chunks, ..ArenaSpace::default() }
    }

    proptest! {
        #[test]
        fn pieces_never_overlap_nor_cross_a_chunk(steps in proptest::collection::vec((1u32..100_000, any::<bool>()), 1..200)) {
            let (mut space, mut held): (_, Vec<Piece>) = (with_chunks(3), Vec::new());
            for (words, gives) in steps {
                if gives && !held.is_empty() {
                    let piece = held.swap_remove(words as usize % held.len());
                    space.give(piece);
                    space.settle();
                } else if let Some(piece) = space.take_free(words.next_multiple_of(ALIGN_WORDS)) {
                    prop_assert!(piece.at % ARENA_CHUNK_WORDS + piece.words <= ARENA_CHUNK_WORDS);
                    prop_assert!(held.iter().all(|other| other.at + other.words <= piece.at || piece.at + piece.words <= other.at));
                    held.push(piece);
                }
            }
            held.drain(..).for_each(|piece| space.give(piece));
            space.settle();
            prop_assert_eq!(space.free.len(), 3);
            prop_assert_eq!(space.used_bytes(), 0);
        }
    }
}
