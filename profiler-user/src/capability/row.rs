//! A row of what this kernel and these rights allow.

/// How a feature is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It works.
    Ok,
    /// It works in part.
    Limited,
    /// It does not work.
    Missing,
}

/// Who needs a feature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Every recording.
    Record,
    /// A part of what can be recorded; the rest goes on without.
    Feature,
}

/// What was found out about a feature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its name.
    pub feature: &'static str,
    /// How it is here.
    pub state: State,
    /// Who needs it.
    pub need: Need,
    /// What it is for.
    pub purpose: &'static str,
    /// What was seen; may be empty. May hold text of the kernel's, not escaped.
    pub seen: String,
    /// What to do about it; empty if it works.
    pub advice: String,
}

impl Row {
    pub(super) fn new(feature: &'static str, need: Need, purpose: &'static str) -> Self {
        Self { feature, state: State::Ok, need, purpose, seen: String::new(), advice: String::new() }
    }

    pub(super) fn seen(mut self, seen: impl Into<String>) -> Self {
        self.seen = seen.into();
        self
    }

    /// The row with a state that is not [`State::Ok`], and what to do about it.
    pub(super) fn but(mut self, state: State, advice: impl Into<String>) -> Self {
        self.state = state;
        self.advice = advice.into();
        self
    }

    /// Whether a recording fails because of it.
    pub fn forbids_recording(&self) -> bool {
        self.need == Need::Record && self.state == State::Missing
    }
}
