//! What is imperfect, counted: events that did not arrive, and stacks that were cut.

use profiler_common::ended::Ended;
pub use profiler_common::loss::Loss;

/// A counter for each [`Loss`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Losses([u64; Loss::COUNT]);

impl Losses {
    /// Counts `events` more.
    pub fn add(&mut self, loss: Loss, events: u64) {
        self.0[loss as usize] += events;
    }

    /// How many of one kind.
    pub fn of(&self, loss: Loss) -> u64 {
        self.0[loss as usize]
    }

    /// Adds all counters of another.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// What was lost since an earlier moment.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }

    /// The kinds that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, u64)> {
        Loss::ALL.iter().map(|loss| (*loss, self.of(*loss))).filter(|(_, events)| *events > 0)
    }

    /// Samples of the clock that were lost, all kinds together.
    pub fn samples(&self) -> u64 {
        self.iter().filter(|(loss, _)| loss.is_sample()).map(|(_, events)| events).sum()
    }
}

/// A counter for each [`Ended`], by samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Endings([u64; Ended::COUNT]);

impl Endings {
    /// Counts `events` more.
    pub fn add(&mut self, ended: Ended, events: u64) {
        self.0[ended as usize] += events;
    }

    /// The ways that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Ended, u64)> {
        Ended::ALL.iter().map(|ended| (*ended, self.0[*ended as usize])).filter(|(_, events)| *events > 0)
    }
}

/// The conservation sum of one window: what the kernel's clock says, and where each tick went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Balance {
    /// Ticks by the kernel's own clock: the time that each perf descriptor read, divided by the period.
    pub ticks: u64,
    /// Ticks in which the CPU ran nothing of this machine's: they met the idle task, or none came because the CPU slept or the host had taken it away.
    pub idle: u64,
    /// Ticks in processes and modes that were not asked for.
    pub filtered: u64,
    /// Samples in the profile.
    pub samples: u64,
    /// Only some processes, or only one mode, were asked for: a tick that was lost before anyone looked whose it was may have been another's.
    pub is_narrowed: bool,
}

impl Balance {
    /// `ticks - (idle + filtered + samples + lost samples)`: 0 when everything is accounted for.
    pub fn difference(&self, losses: &Losses) -> i64 {
        self.ticks as i64 - (self.idle + self.filtered + self.samples + losses.samples()) as i64
    }
}
