//! The profiles that Go's runtime keeps itself, taken over when a recording ends: what they count, and whose it is.

use crate::go::heap::{GoBucket, GoHeapProfile, Request, read};
use crate::memory::MemoryReader;
use crate::model::event::MonotonicNs;
use crate::model::go_heap::{GoHeapPlaces, NoGoHeap};
use crate::model::process::{Pid, ProcessKey, Tid};
use crate::model::stack::{RawAddresses, RawStack, Tally, UserStack};
use profiler_common::ended::Ended;
use profiler_common::sampling::{ONE_BLOCK, ONE_BYTE};
use profiler_common::source::Source;
use profiler_common::tally::{Blocks, TallyCounts, TallyKey};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long reading one process may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Bytes that the buckets of one process may take here.
const BYTES_MAX: usize = 32 << 20;

/// What was read of the processes.
#[derive(Default)]
pub(super) struct GoHeaps {
    /// A stack of each bucket, without events, under a key of its own ...
    pub(super) stacks: Vec<Tally<RawStack>>,
    /// ... and what is counted under that key.
    pub(super) counts: Vec<(TallyKey, TallyCounts)>,
    /// The distance between samples, by process.
    pub(super) rates: Vec<u64>,
    /// What there is to say of each process.
    pub(super) notes: Vec<String>,
}

impl GoHeaps {
    /// Reads the profile of a process, or notes why there is none.
    pub(super) fn add(&mut self, memory: &mut MemoryReader, pid: Pid, found: Result<(u64, GoHeapPlaces), NoGoHeap>) {
        let read = match found {
            Ok((bias, places)) => {
                let request = Request { pid, bias, places, deadline: Instant::now() + DEADLINE, bytes_max: BYTES_MAX };
                read(memory, &request).map_err(|error| error.to_string())
            }
            Err(why) => Err(why.to_string()),
        };
        match read {
            Ok(profile) => {
                self.notes
                    .push(format!("process {}: Go's own profile, of all since it began, sampled every {} bytes", pid.0, profile.rate));
                self.take(pid, &profile);
            }
            Err(why) => self.notes.push(format!("process {}: no profile of Go's runtime: {why}", pid.0)),
        }
    }

    fn take(&mut self, pid: Pid, profile: &GoHeapProfile) {
        let rate = profile.rate.max(1) as u64;
        self.rates.push(rate);
        for bucket in profile.buckets.iter().filter(|bucket| bucket.alloc_objects > 0) {
            let key = TallyKey::new(Source::CALLS, self.counts.len() as u64, bucket.size);
            self.stacks.push(Tally { counted_under: Some(key), ..stack(pid, &bucket.stack, Source::CALLS) });
            self.counts.push((key, counts(bucket, rate)));
        }
    }
}

/// A bucket's stack. All of its addresses are where calls return to; of the leaf it is taken for where the program was.
pub(super) fn stack(pid: Pid, returns: &[u64], source: Source) -> Tally<RawStack> {
    let mut addresses = returns.to_vec();
    if let Some(leaf) = addresses.first_mut() {
        *leaf = leaf.saturating_sub(1);
    }
    let addresses = RawAddresses { hash: 0, kernel: Vec::new(), list: 0, user: UserStack::Walked { addresses, ended: Ended::Root } };
    let of = RawStack {
        process: ProcessKey { start_boot_ns: 0, tgid: pid.0, exec_generation: 0 },
        tid: Tid(pid.0),
        time: MonotonicNs(0),
        addresses: Arc::new(addresses),
    };
    Tally { of, events: 0, weight: 0, source, class: 0, counted_under: None }
}

/// What a bucket counts, and what that stands for (`scaleHeapSample` of runtime/pprof, Go 1.26).
fn counts(bucket: &GoBucket, rate: u64) -> TallyCounts {
    let scale = if rate <= 1 { 1.0 } else { 1.0 / -(-(bucket.size as f64) / rate as f64).exp_m1() };
    let scaled = |number: u64, one: u64| (number as f64 * scale).trunc() as u64 * one;
    let blocks =
        |count: u64, bytes: u64| Blocks { count, bytes, stand_for: scaled(count, ONE_BLOCK), stand_for_bytes: scaled(bytes, ONE_BYTE) };
    let allocated = blocks(bucket.alloc_objects, bucket.alloc_bytes);
    // In use is scaled by itself.
    let in_use = blocks(bucket.alloc_objects.saturating_sub(bucket.free_objects), bucket.alloc_bytes.saturating_sub(bucket.free_bytes));
    TallyCounts { allocated, freed: allocated.less(&in_use), ..TallyCounts::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_scaled_as_go_scales_it() {
        let bucket =
            GoBucket { size: 1 << 20, stack: vec![5, 9], alloc_objects: 10, alloc_bytes: 10 << 20, free_objects: 4, free_bytes: 4 << 20 };
        let counts = counts(&bucket, 512 << 10);
        // 1 / (1 - e^-2) = 1.1565.
        assert_eq!((counts.allocated.stand_for / ONE_BLOCK, counts.in_use().stand_for / ONE_BLOCK), (11, 6));
        assert_eq!(counts.allocated.stand_for_bytes / ONE_BYTE, 12_126_966);
        let tally = stack(Pid(7), &bucket.stack, Source::CALLS);
        assert!(matches!(&tally.of.addresses.user, UserStack::Walked { addresses, .. } if *addresses == [4, 9]));
    }
}
