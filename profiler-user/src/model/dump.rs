//! What stood where at one moment: every thread or goroutine of a process with its state and its stack, one by one.

use super::profile::{Profile, Sample};
use std::sync::Arc;
use std::time::Duration;

/// All of them. What is grouped, as a profile has it, is [`Dump::grouped`].
#[derive(Clone, Debug)]
pub struct Dump {
    /// Names and places; a sample for each entry, in the order of the entries.
    pub profile: Profile,
    /// As many as the profile has samples.
    pub entries: Vec<Entry>,
    /// How long it took to take, names not included.
    pub took: Duration,
}

/// A thread or goroutine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Thread id, or the number of the goroutine.
    pub id: u64,
    /// Its name, if it has one.
    pub name: Arc<str>,
    /// What it does: `running`, `futex wait`, `chan receive` ...
    pub state: String,
    /// How long it has not run, if that is known.
    pub since: Option<Duration>,
    /// It runs on no other thread.
    pub is_locked: bool,
    /// Why there is no stack, or not all of it.
    pub trouble: Option<String>,
    /// Who started it.
    pub creator: Option<Creator>,
}

/// Where a goroutine was started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Creator {
    /// The function.
    pub function: Arc<str>,
    /// Its file.
    pub file: Arc<str>,
    /// The line of the call.
    pub line: u32,
    /// How far behind the function's first byte the call returns to; 0: not known.
    pub offset: u32,
    /// By which goroutine; 0: not known.
    pub goroutine: u64,
}

impl Dump {
    /// The profile with equal stacks of equal labels counted together, those with most first. What tells single threads apart is left out.
    pub fn grouped(self) -> Profile {
        let mut profile = self.profile;
        let mut samples: Vec<Sample> = std::mem::take(&mut profile.samples);
        samples.iter_mut().for_each(|sample| sample.labels.retain(|label| !matches!(&*label.key, "tid" | "goid")));
        samples.sort_by(|a, b| (&a.locations, &a.labels).cmp(&(&b.locations, &b.labels)));
        for sample in samples {
            match profile.samples.last_mut() {
                Some(last) if last.locations == sample.locations && last.labels == sample.labels => last.values[0] += sample.values[0],
                _ => profile.samples.push(sample),
            }
        }
        profile.samples.sort_by_key(|sample| -sample.values[0]);
        profile
    }
}
