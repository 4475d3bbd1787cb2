//! Moments of a recording of a heap other than its end: when most was in use, and the one that growth is measured from.

use crate::bpf::{BpfError, Capture};
use crate::config::{Config, Moment};
use profiler_common::sampling::ONE_BYTE;
use profiler_common::source::Source;
use profiler_common::tally::{TallyCounts, TallyKey};
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

/// How often it is looked how much is in use, at most.
const APART: Duration = Duration::from_millis(200);
/// Looking takes this part of the time at most: the kernel's counts are read one by one.
const PART: u32 = 20;

/// What was counted by a moment, while counting went on.
struct Seen {
    at: Duration,
    tallies: HashMap<TallyKey, TallyCounts>,
}

/// The moments that are asked for, and those that were seen.
pub(super) struct Moments {
    begun: Instant,
    start: SystemTime,
    peak: Option<Seen>,
    peak_bytes: u64,
    looks_for_peak: bool,
    next_look: Instant,
    base: Option<Seen>,
    /// When the base is due.
    base_at: Option<Duration>,
}

/// What an earlier moment shows.
pub(super) struct Base {
    pub(super) start: SystemTime,
    pub(super) duration: Duration,
    pub(super) tallies: Vec<(TallyKey, TallyCounts)>,
}

impl Moments {
    pub(super) fn of(config: &Config) -> Self {
        let base_at = config.diff.map(|apart| config.ends_after().unwrap_or(apart).saturating_sub(apart));
        let begun = Instant::now();
        let looks_for_peak = config.moment == Moment::Peak;
        Self { begun, start: SystemTime::now(), peak: None, peak_bytes: 0, looks_for_peak, next_look: begun, base: None, base_at }
    }

    /// Looks whether this moment is one of them.
    pub(super) fn look(&mut self, capture: &Capture) -> Result<(), BpfError> {
        let now = self.begun.elapsed();
        if self.base.is_none() && self.base_at.is_some_and(|at| now >= at) {
            self.base = Some(Seen { at: now, tallies: read(capture)? });
        }
        if self.looks_for_peak && Instant::now() >= self.next_look {
            let looked = Instant::now();
            self.see(Seen { at: now, tallies: read(capture)? });
            self.next_look = Instant::now() + (looked.elapsed() * PART).max(APART);
        }
        Ok(())
    }

    /// Keeps what was seen if more was in use than ever before.
    fn see(&mut self, seen: Seen) {
        let in_use_bytes = seen.tallies.values().map(in_use_bytes).sum();
        if self.peak.is_none() || in_use_bytes > self.peak_bytes {
            (self.peak, self.peak_bytes) = (Some(seen), in_use_bytes);
        }
    }

    /// Makes what lives at the end what lived at the peak, and says so. The end may be the peak itself.
    pub(super) fn show_peak(&mut self, ended: &mut [(TallyKey, TallyCounts)]) -> Option<String> {
        if !self.looks_for_peak {
            return None;
        }
        self.see(Seen { at: self.begun.elapsed(), tallies: ended.iter().copied().collect() });
        let peak = self.peak.as_ref()?;
        for (key, counts) in ended {
            *counts = with_in_use(counts, &peak.tallies.get(key).copied().unwrap_or_default());
        }
        Some(format!(
            "in use: at its peak, {:.1} s after the beginning, looked at every {} ms or less often",
            peak.at.as_secs_f64(),
            APART.as_millis()
        ))
    }

    /// The moment that growth is measured from, if there was one.
    pub(super) fn base(&self) -> Option<Base> {
        let base = self.base.as_ref()?;
        Some(Base { start: self.start, duration: base.at, tallies: base.tallies.iter().map(|(key, counts)| (*key, *counts)).collect() })
    }
}

fn read(capture: &Capture) -> Result<HashMap<TallyKey, TallyCounts>, BpfError> {
    Ok(capture.tallies(Source::CALLS)?.into_iter().collect())
}

fn in_use_bytes(counts: &TallyCounts) -> u64 {
    counts.in_use().stand_for_bytes / ONE_BYTE
}

/// What was allocated by now, of which what was in use then still is.
fn with_in_use(now: &TallyCounts, then: &TallyCounts) -> TallyCounts {
    TallyCounts { freed: now.allocated.less(&then.in_use()), ..*now }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::tally::Blocks;

    fn counts(allocated: u64, freed: u64) -> TallyCounts {
        let blocks = |count| Blocks { count, bytes: count * 100, stand_for: count, stand_for_bytes: count * 100 * ONE_BYTE };
        TallyCounts { allocated: blocks(allocated), freed: blocks(freed), ..TallyCounts::default() }
    }

    #[test]
    fn the_peak_is_shown_beside_all_that_was_allocated() {
        let mut moments = Moments::of(&Config { moment: Moment::Peak, ..Config::default() });
        let key = |hash| TallyKey::new(Source::CALLS, hash, 112);
        for (one, other) in [((5, 0), (0, 0)), ((9, 1), (4, 0)), ((9, 9), (5, 0))] {
            let tallies = HashMap::from([(key(1), counts(one.0, one.1)), (key(2), counts(other.0, other.1))]);
            moments.see(Seen { at: Duration::from_secs(one.0), tallies });
        }
        let mut ended = [(key(1), counts(10, 10)), (key(2), counts(6, 1)), (key(3), counts(2, 2))];
        let note = moments.show_peak(&mut ended).expect("it was looked for");
        assert!(note.contains("9.0 s after"), "{note}");
        let in_use: Vec<u64> = ended.iter().map(|(_, counts)| counts.in_use().count).collect();
        assert_eq!(in_use, [8, 4, 0]);
        assert_eq!(ended.iter().map(|(_, counts)| counts.allocated.count).collect::<Vec<_>>(), [10, 6, 2]);
    }
}
