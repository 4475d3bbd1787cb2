//! The sampled blocks that live: what processes leave behind when they end, or become other programs, is forgotten, so that it takes no room from others. It stays counted as it was.

use super::clock::monotonic_now;
use super::error::BpfError;
use crate::model::event::MonotonicNs;
use crate::model::life::Age;
use aya::maps::{Array, HashMap, MapData, MapError};
use profiler_common::source::Source;
use profiler_common::tally::{Blocks, LiveBlock, LiveKey, TallyKey, Thinning};
use std::collections::HashMap as Table;
use std::time::{Duration, Instant};

/// Words of a [`LiveKey`], of a [`LiveBlock`], and of [`Thinning`].
const KEY_WORDS: usize = size_of::<LiveKey>() / 8;
/// As above.
const BLOCK_WORDS: usize = size_of::<LiveBlock>() / 8;
/// As above.
const THINNING_WORDS: usize = size_of::<Thinning>() / 8;
/// How long after one look through all blocks the next one comes at the earliest; and a look takes this part of the time at most.
const REST: Duration = Duration::from_secs(1);
/// As above.
const PART: u32 = 20;

/// The map of blocks.
pub(super) type Live = HashMap<MapData, [u64; KEY_WORDS], [u64; BLOCK_WORDS]>;
/// Blocks by key and age.
pub type Ages = Table<(TallyKey, Age), Blocks>;

/// That a process has ended, or become another program.
#[derive(Clone, Copy)]
struct End {
    at: MonotonicNs,
    /// All of its blocks are gone; or else those that were there by then.
    is_of_all: bool,
}

impl End {
    fn is_of(self, block: &LiveBlock) -> bool {
        self.is_of_all || block.lived_ns(self.at.0) > 0
    }
}

/// The blocks, and whose are to be forgotten.
pub(super) struct LiveBlocks {
    live: Live,
    thinning: Array<MapData, [u64; THINNING_WORDS]>,
    ended: Table<u32, End>,
    rested: Instant,
    /// How old what ended processes left was when they ended; None where nobody asks.
    left: Option<Ages>,
}

impl LiveBlocks {
    pub(super) fn new(live: Live, thinning: Array<MapData, [u64; THINNING_WORDS]>, has_ages: bool) -> Self {
        Self { live, thinning, ended: Table::new(), rested: Instant::now(), left: has_ages.then(Ages::new) }
    }

    /// A process has ended.
    pub(super) fn note_exit(&mut self, tgid: u32) {
        self.ended.insert(tgid, End { at: monotonic_now(), is_of_all: true });
    }

    /// A process has become another program, which has a memory of its own.
    pub(super) fn note_exec(&mut self, tgid: u32, at: MonotonicNs) {
        let end = self.ended.entry(tgid).or_insert(End { at, is_of_all: false });
        end.at = end.at.max(at);
    }

    /// Forgets the blocks of those that have ended, if it is time.
    pub(super) fn forget_ended(&mut self) {
        if self.ended.is_empty() || Instant::now() < self.rested {
            return;
        }
        let (looked, ended) = (Instant::now(), std::mem::take(&mut self.ended));
        // Each once: a walk through a map that changes may meet some again.
        let end_of = |(key, block): (LiveKey, LiveBlock)| Some((key, (block, *ended.get(&key.tgid()).filter(|end| end.is_of(&block))?)));
        let blocks: Table<LiveKey, (LiveBlock, End)> = blocks(&self.live).filter_map(Result::ok).filter_map(end_of).collect();
        for (key, (block, end)) in blocks {
            let words: [u64; KEY_WORDS] = zerocopy::transmute!(key);
            // Freed meanwhile by nobody: its process is gone.
            let _ = self.live.remove(&words);
            if let Some(left) = &mut self.left {
                add(left, &block, end.at.0);
            }
        }
        self.rested = Instant::now() + REST.max(looked.elapsed() * PART);
    }

    /// One sampled block in 2 to the power of this is followed, where more live than there is room for.
    pub(super) fn level(&self) -> Result<u32, BpfError> {
        let words = self.thinning.get(&0, 0).map_err(|error| failed("THINNING", &error))?;
        let thinning: Thinning = zerocopy::transmute!(words);
        Ok(thinning.level as u32)
    }

    /// How old the blocks are that live, or were when their process ended; None where nobody asks. Nothing writes any more.
    pub(super) fn ages(&self) -> Result<Option<Ages>, BpfError> {
        let Some(mut ages) = self.left.clone() else { return Ok(None) };
        let now_ns = monotonic_now().0;
        for entry in blocks(&self.live) {
            let (key, block) = entry.map_err(|error| failed("LIVE", &error))?;
            if block.tally.source() == Source::CALLS.number() {
                add(&mut ages, &block, self.ended.get(&key.tgid()).filter(|end| end.is_of(&block)).map_or(now_ns, |end| end.at.0));
            }
        }
        Ok(Some(ages))
    }
}

fn blocks(live: &Live) -> impl Iterator<Item = Result<(LiveKey, LiveBlock), MapError>> + '_ {
    live.iter().map(|entry| entry.map(|(key, block)| (zerocopy::transmute!(key), zerocopy::transmute!(block))))
}

/// With those that it stands for.
fn add(ages: &mut Ages, block: &LiveBlock, now_ns: u64) {
    let age = Age::of(Duration::from_nanos(block.lived_ns(now_ns)));
    let mine = ages.entry((block.tally, age)).or_default();
    *mine = mine.plus(&block.with_others());
}

fn failed(map: &'static str, error: &MapError) -> BpfError {
    BpfError::Map { map, reason: error.to_string() }
}
