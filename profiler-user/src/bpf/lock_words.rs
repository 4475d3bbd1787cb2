//! Words of memory at which threads wait: the kernel side keeps a place for each, and those of processes that have ended are given back here.

use super::error::BpfError;
use aya::maps::{Array, HashMap, MapData, MapError, Stack};
use profiler_common::limits::LOCKS_MAX;
use profiler_common::wait::{LOCKS_GIVEN_BACK, LOCKS_TAKEN, Lock, LockKey};
use std::collections::HashMap as Known;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often it is looked whether places are short.
const LOOK: Duration = Duration::from_secs(1);
/// From so many on they are.
const SHORT: u64 = LOCKS_MAX as u64 / 4 * 3;
/// All words are looked at again when there are so many more, or after [`REST`]: that takes some tenth of a second.
const MORE: u64 = LOCKS_MAX as u64 / 32;
const REST: Duration = Duration::from_secs(30);

const KEY_WORDS: usize = size_of::<LockKey>() / 8;
const LOCK_WORDS: usize = size_of::<Lock>() / 8;

/// The maps: places by word, what is kept there, the cells that count them, those that are free.
pub(super) struct LockMaps {
    pub(super) places_of: HashMap<MapData, [u64; KEY_WORDS], u32>,
    pub(super) places: Array<MapData, [u64; LOCK_WORDS]>,
    pub(super) used: Array<MapData, u64>,
    pub(super) free: Stack<MapData, u32>,
}

/// The words, and when they were looked at.
pub(super) struct LockWords {
    maps: LockMaps,
    given_back: u64,
    next_look: Instant,
    next_sweep: Instant,
    /// Places that were in use after the last look at all words.
    left: u64,
}

impl LockWords {
    pub(super) fn new(maps: LockMaps) -> Self {
        let now = Instant::now();
        Self { maps, given_back: 0, next_look: now, next_sweep: now, left: 0 }
    }

    /// Gives back what processes have left that have ended, where places are short.
    pub(super) fn tidy(&mut self) -> Result<(), BpfError> {
        let now = Instant::now();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + LOOK;
        let in_use = self.in_use()?;
        if in_use < SHORT || (in_use < self.left + MORE && now < self.next_sweep) {
            return Ok(());
        }
        let mut living: Known<u64, bool> = Known::new();
        // Who shares the word of no process in particular is not known.
        let mut lives = |tgid: u64| tgid == 0 || *living.entry(tgid).or_insert_with(|| Path::new(&format!("/proc/{tgid}")).exists());
        let entries: Vec<_> = self.maps.places_of.iter().filter_map(Result::ok).collect();
        for (words, place) in entries {
            let key: LockKey = zerocopy::transmute!(words);
            if !lives(key.tgid) {
                self.give_back(words, place)?;
            }
        }
        self.maps.used.set(LOCKS_GIVEN_BACK, self.given_back, 0).map_err(|error| failed("LOCKS_USED", &error))?;
        (self.left, self.next_sweep) = (self.in_use()?, now + REST);
        Ok(())
    }

    fn in_use(&self) -> Result<u64, BpfError> {
        let taken = self.maps.used.get(&LOCKS_TAKEN, 0).map_err(|error| failed("LOCKS_USED", &error))?;
        Ok(taken.saturating_sub(self.given_back))
    }

    fn give_back(&mut self, words: [u64; KEY_WORDS], place: u32) -> Result<(), BpfError> {
        if self.maps.places_of.remove(&words).is_ok() {
            self.maps.places.set(place, [0; LOCK_WORDS], 0).map_err(|error| failed("LOCK_PLACES", &error))?;
            self.maps.free.push(place, 0).map_err(|error| failed("LOCKS_FREE", &error))?;
            self.given_back += 1;
        }
        Ok(())
    }
}

fn failed(map: &'static str, error: &MapError) -> BpfError {
    BpfError::Map { map, reason: error.to_string() }
}
