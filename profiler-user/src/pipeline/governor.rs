//! Holds the traps of allocators to a budget: when they have taken too much of the processes' time, less is recorded. Pure: it is told what was spent, and says what to do.
//!
//! A trap cannot be sampled away: a call that is not counted costs it all the same. And probes that are armed for a part of the time give no totals, since the trap slows what
//! it counts. So they are armed once, and given up step by step; the last one that is armed by turns tells shares only.

use crate::bpf::Spent;
use std::time::Duration;

/// How much of an allowance there is beforehand: that of so much CPU time. A program that allocates much for a moment does not end its own profile.
const BURST: Duration = Duration::from_secs(2);
/// The part of the share that is spent as it comes. The rest pays for what was taken beforehand, and for what a look came too late for.
const SPENT: f64 = 0.8;
/// The same when less is recorded: a moment in which the lesser is dearer than it is on average does not end that, too.
const BURST_AGAIN: Duration = Duration::from_secs(1);
/// How long probes are armed at a time where they are armed by turns.
const TURN: Duration = Duration::from_millis(200);
/// Turns that are further apart than this show nothing.
const APART_MAX: Duration = Duration::from_secs(60);

/// What is recorded, from the dearest down.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Step {
    /// What is allocated, and what of it lives.
    Heap,
    /// What is allocated.
    Allocs,
    /// Who allocates how much of it, by turns.
    Shares,
    /// Page faults.
    Faults,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// To go on.
    GoOn,
    /// To record less from now on.
    StepDown(Step),
    /// To arm the probes for a turn.
    Arm,
    /// To disarm them.
    Disarm,
}

/// A turn: when it began, and what was spent by then.
type Turn = (Duration, Duration);

/// What has been spent, and what may be.
#[derive(Debug)]
pub(super) struct Governor {
    /// Of the processes' CPU time.
    share: f64,
    step: Step,
    turn: Option<Turn>,
    /// What was spent before the turn that is over, until it is known what that one has cost with its disarming.
    over: Option<Duration>,
    /// What may be spent beyond the share: seconds.
    beforehand: f64,
    /// What a turn costs.
    turn_cost: f64,
}

impl Governor {
    pub(super) fn new(step: Step, share: f64) -> Self {
        Self { share, step, turn: None, over: None, beforehand: share * BURST.as_secs_f64(), turn_cost: 0.0 }
    }

    /// What is recorded now.
    #[cfg(test)]
    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// What to do, `now` after the beginning, when the processes have had `cpu` and the traps have taken `spent` of it.
    pub(super) fn order(&mut self, now: Duration, cpu: Duration, spent: &Spent) -> Order {
        let (cpu, all) = (cpu.as_secs_f64(), spent.all.as_secs_f64());
        let left = SPENT * self.share * cpu + self.beforehand - all;
        match self.step {
            Step::Faults => Order::GoOn,
            Step::Shares => self.next_turn(now, spent.all, left, SPENT * self.share * cpu / now.as_secs_f64().max(0.001)),
            Step::Heap | Step::Allocs if left >= 0.0 => Order::GoOn,
            Step::Heap if spent.entries.as_secs_f64() <= SPENT * self.share * cpu => {
                self.beforehand += self.share * BURST_AGAIN.as_secs_f64() - left;
                self.down(Step::Allocs)
            }
            Step::Heap | Step::Allocs => {
                self.turn_cost = all / now.as_secs_f64().max(0.001) * TURN.as_secs_f64();
                self.down(Step::Shares)
            }
        }
    }

    fn down(&mut self, step: Step) -> Order {
        self.step = step;
        Order::StepDown(step)
    }

    /// `allowed`: seconds of traps that a second of the recording allows.
    fn next_turn(&mut self, now: Duration, spent: Duration, left: f64, allowed: f64) -> Order {
        if let Some(before) = self.over.take() {
            self.turn_cost = spent.saturating_sub(before).as_secs_f64();
        }
        match self.turn {
            Some((begun, before)) if now >= begun + TURN => {
                (self.turn, self.over) = (None, Some(before));
                Order::Disarm
            }
            Some(_) => Order::GoOn,
            None if self.turn_cost > allowed * APART_MAX.as_secs_f64() => self.down(Step::Faults),
            None if self.turn_cost <= left => {
                self.turn = Some((now, spent));
                Order::Arm
            }
            None => Order::GoOn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recording of a process that has one CPU, looked at twenty times a second; gives what it ended with, the share that the traps took, and the turns.
    fn run(governor: &mut Governor, seconds: u64, all: f64, entries: f64) -> (Step, f64, u32) {
        let (mut spent, mut turns) = (Spent::default(), 0);
        let mut is_armed = true;
        for look in 1..=seconds * 20 {
            let now = Duration::from_millis(look * 50);
            if is_armed {
                let rate = if governor.step() == Step::Heap { all } else { entries };
                spent.all += Duration::from_secs_f64(rate * 0.05);
                spent.entries += Duration::from_secs_f64(entries * 0.05);
            }
            match governor.order(now, now, &spent) {
                Order::GoOn => {}
                Order::StepDown(step) => is_armed = step == Step::Allocs,
                Order::Arm => (is_armed, turns) = (true, turns + 1),
                Order::Disarm => is_armed = false,
            }
        }
        (governor.step(), spent.all.as_secs_f64() / seconds as f64, turns)
    }

    #[test]
    fn what_is_within_the_budget_is_left_alone() {
        let (step, share, _) = run(&mut Governor::new(Step::Heap, 0.02), 600, 0.0155, 0.01);
        assert_eq!(step, Step::Heap);
        assert!(share > 0.015);
    }

    #[test]
    fn a_heap_that_is_too_dear_becomes_allocs_if_those_are_not() {
        let (step, share, _) = run(&mut Governor::new(Step::Heap, 0.02), 600, 0.05, 0.015);
        assert_eq!(step, Step::Allocs);
        assert!(share < 0.02, "{share}");
    }

    #[test]
    fn what_is_far_too_dear_is_looked_at_by_turns_and_stays_within_the_budget() {
        for (seconds, most) in [(20, 0.02), (600, 0.0165)] {
            let (step, share, turns) = run(&mut Governor::new(Step::Heap, 0.02), seconds, 0.5, 0.3);
            assert_eq!(step, Step::Shares);
            assert!(share <= most, "{share} in {seconds} s");
            assert!(u64::from(turns) > (seconds / 12).saturating_sub(1), "{turns} turns in {seconds} s");
        }
    }

    #[test]
    fn turns_too_far_apart_are_given_up_for_page_faults() {
        assert_eq!(run(&mut Governor::new(Step::Allocs, 0.0005), 300, 0.9, 0.9).0, Step::Faults);
    }
}
