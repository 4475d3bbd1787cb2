//! What a profile of a heap covers of each process's memory, in words.

use crate::model::process::{Pid, ProcessInfo};
use crate::model::window::SampleKey;
use crate::process::memory_of;
use foldhash::HashMap;
use profiler_common::sampling::ONE_BYTE;
use profiler_common::tally::TallyCounts;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Processes whose memory is told.
const TOLD_MAX: usize = 32;
/// How long the kernel may take to tell it.
const PATIENCE: Duration = Duration::from_millis(500);

/// For the processes with most of it: what is in use by the profile, beside what the kernel says is there.
pub(super) fn notes(armed: &BTreeSet<Pid>, blocks: &HashMap<SampleKey, TallyCounts>, processes: &[ProcessInfo]) -> Vec<String> {
    let covered = covered(armed, blocks, processes);
    let told: Vec<Pid> = covered.iter().take(TOLD_MAX).map(|(pid, _)| *pid).collect();
    let sizes = covered.iter().zip(memory_of(&told, PATIENCE)).filter_map(|((pid, in_use), memory)| {
        let memory = memory?;
        let proportional = match memory.proportional {
            Some(bytes) => format!("{} kB", bytes >> 10),
            None => "not told by the kernel in time".to_owned(),
        };
        Some(format!(
            "process {}: {} kB in use as recorded; in the end RSS {} kB, PSS {proportional}",
            pid.0,
            in_use.div_ceil(1 << 10),
            memory.resident >> 10
        ))
    });
    let more = covered.len().saturating_sub(TOLD_MAX);
    sizes.chain((more > 0).then(|| format!("{more} more processes were probed, with less in use"))).collect()
}

/// Bytes in use of those that live, most first.
fn covered(armed: &BTreeSet<Pid>, blocks: &HashMap<SampleKey, TallyCounts>, processes: &[ProcessInfo]) -> Vec<(Pid, u64)> {
    let mut covered: BTreeMap<Pid, u64> = armed.iter().map(|pid| (*pid, 0)).collect();
    for (key, counts) in blocks {
        let image = processes.get(key.process.0 as usize).filter(|image| image.ended.is_none());
        if let Some(bytes) = image.and_then(|image| covered.get_mut(&image.pid)) {
            *bytes += counts.in_use().stand_for_bytes / ONE_BYTE;
        }
    }
    let mut covered: Vec<(Pid, u64)> = covered.into_iter().collect();
    covered.sort_by_key(|(pid, bytes)| (std::cmp::Reverse(*bytes), *pid));
    covered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::{ImageEnd, ProcessId};
    use crate::model::stack::StackId;
    use profiler_common::tally::Blocks;

    #[test]
    fn what_an_image_left_that_has_ended_is_not_of_the_memory_that_is_there() {
        let image = |pid, ended| ProcessInfo { pid: Pid(pid), comm: "".into(), labels: [].into(), main: None, ended };
        let images = [image(7, Some(ImageEnd::Exec)), image(7, None), image(8, None)];
        let key = |image, stack| SampleKey { process: ProcessId(image), thread: None, stack: StackId(stack), class: 16 };
        let counts = |bytes: u64| TallyCounts {
            allocated: Blocks { count: 1, bytes, stand_for: 1, stand_for_bytes: bytes * ONE_BYTE },
            ..TallyCounts::default()
        };
        let blocks = [(key(0, 1), counts(1000)), (key(1, 2), counts(20)), (key(1, 3), counts(30)), (key(2, 4), counts(60))];
        let armed = [7, 8, 9].map(Pid).into_iter().collect();
        assert_eq!(covered(&armed, &blocks.into_iter().collect(), &images), [(Pid(8), 60), (Pid(7), 50), (Pid(9), 0)]);
    }
}
