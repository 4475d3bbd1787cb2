//! A recording of calls of allocators while it runs: its stretches, its budget, and the moments that are shown beside its end.

use super::arming::{Arming, Known};
use super::budget::Budget;
use super::governor::{Order, Step};
use super::moments::Moments;
use super::phases::{Phase, Phases};
use crate::bpf::{BpfError, Capture};
use crate::config::{Config, Event};

/// What is wanted of the session beside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    Nothing,
    /// The views of memory that need no trap are to be recorded from now on.
    Views,
}

/// The calls that are recorded.
pub(super) struct Calls {
    phases: Phases,
    /// None once what lives is recorded no more.
    moments: Option<Moments>,
    budget: Option<Budget>,
    /// What the user is to be told.
    news: Vec<String>,
}

impl Calls {
    /// Counting begins in a moment.
    pub(super) fn begin(config: &Config) -> Self {
        let step = if config.calls() == Some(Event::Heap) { Step::Heap } else { Step::Allocs };
        let moments = (step == Step::Heap).then(|| Moments::of(config));
        Self { phases: Phases::begin(step), moments, budget: config.max_overhead.map(|share| Budget::new(step, share)), news: Vec::new() }
    }

    /// Looks at what is to be looked at while calls are counted, and does what the budget asks for.
    pub(super) fn look(&mut self, arming: &mut Arming, known: Known<'_>, capture: &mut Capture) -> Result<Wanted, BpfError> {
        if let Some(moments) = &mut self.moments {
            moments.look(capture)?;
        }
        let (Some(budget), Some(spent)) = (&mut self.budget, capture.spent()?) else { return Ok(Wanted::Nothing) };
        match budget.order(&arming.armed(), arming.ended(), spent) {
            Order::GoOn => {}
            Order::Arm => budget.pay(|| arming.arm_again(known, capture)),
            // What takes long in it is waiting, for programs that may still run: the target goes on without traps.
            Order::Disarm => budget.pay(|| {
                arming.pause();
                capture.disarm_all()
            })?,
            Order::StepDown(step) => return self.step_down(step, arming, known, capture),
        }
        Ok(Wanted::Nothing)
    }

    fn step_down(&mut self, step: Step, arming: &mut Arming, known: Known<'_>, capture: &mut Capture) -> Result<Wanted, BpfError> {
        self.pay(|| {
            arming.pause();
            capture.disarm_all()
        })?;
        let told: Vec<String> = self.budget.iter().map(|budget| budget.told(step)).collect();
        let notes = self.budget_notes().into_iter().chain(told.iter().map(|told| format!("ended {told}"))).collect();
        self.phases.step(step, capture, notes)?;
        self.show_moments();
        self.news.extend(told);
        capture.count_allocs();
        if step == Step::Allocs {
            self.pay(|| arming.arm_again(known, capture));
        }
        Ok(if step == Step::Faults { Wanted::Views } else { Wanted::Nothing })
    }

    /// Arms or disarms, on the budget if there is one.
    pub(super) fn pay<T>(&mut self, arms: impl FnOnce() -> T) -> T {
        match &mut self.budget {
            Some(budget) => budget.pay(arms),
            None => arms(),
        }
    }

    /// The same of what may turn out to arm nothing, and then costs nobody anything.
    pub(super) fn pay_if<T>(&mut self, arms: impl FnOnce() -> (T, bool)) -> T {
        match &mut self.budget {
            Some(budget) => budget.pay_if(arms),
            None => arms().0,
        }
    }

    /// Ends the last stretch. Nothing may be counting.
    pub(super) fn end(&mut self, capture: &Capture) -> Result<(), BpfError> {
        let notes = self.budget_notes();
        self.phases.end(capture, notes)?;
        self.show_moments();
        Ok(())
    }

    fn budget_notes(&mut self) -> Vec<String> {
        self.budget.as_mut().map(Budget::notes).unwrap_or_default()
    }

    fn show_moments(&mut self) {
        if let (Some(mut moments), Some(phase)) = (self.moments.take(), self.phases.last()) {
            phase.show(&mut moments);
        }
    }

    /// The stretches that have ended.
    pub(super) fn phases(&self) -> &[Phase] {
        self.phases.ended()
    }

    /// What the user is to be told since the last time.
    pub(super) fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }
}
