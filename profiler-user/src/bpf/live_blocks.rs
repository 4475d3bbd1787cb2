//! The sampled blocks that live: what processes leave behind when they end is forgotten, so that it takes no room from others. It stays counted as it was.

use aya::maps::{HashMap, MapData};
use profiler_common::tally::{LiveBlock, LiveKey};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Words of a [`LiveKey`], and of a [`LiveBlock`].
const KEY_WORDS: usize = size_of::<LiveKey>() / 8;
/// As above.
const BLOCK_WORDS: usize = size_of::<LiveBlock>() / 8;
/// How long after one look through all blocks the next one comes at the earliest.
const REST: Duration = Duration::from_secs(1);

/// The map of blocks.
pub(super) type Live = HashMap<MapData, [u64; KEY_WORDS], [u64; BLOCK_WORDS]>;

/// The blocks, and whose are to be forgotten.
pub(super) struct LiveBlocks {
    live: Live,
    ended: HashSet<u32>,
    rested: Instant,
}

impl LiveBlocks {
    pub(super) fn new(live: Live) -> Self {
        Self { live, ended: HashSet::new(), rested: Instant::now() }
    }

    /// A process has ended.
    pub(super) fn note_end(&mut self, tgid: u32) {
        self.ended.insert(tgid);
    }

    /// Forgets the blocks of those that have ended, if it is time.
    pub(super) fn forget_ended(&mut self) {
        if self.ended.is_empty() || Instant::now() < self.rested {
            return;
        }
        let ended = std::mem::take(&mut self.ended);
        let is_ended = |key: &[u64; KEY_WORDS]| {
            let key: LiveKey = zerocopy::transmute!(*key);
            ended.contains(&key.tgid())
        };
        let keys: Vec<[u64; KEY_WORDS]> = self.live.keys().filter_map(Result::ok).filter(is_ended).collect();
        for key in keys {
            // Freed meanwhile by nobody: its process is gone.
            let _ = self.live.remove(&key);
        }
        self.rested = Instant::now() + REST;
    }
}
