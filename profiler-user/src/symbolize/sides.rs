//! The two sides of a wait, in a profile of one of them: what they tell of each other.

use super::build::Builder;
use super::waits;
use crate::model::kind::Kind;
use crate::model::label::Label;
use crate::model::mapping::MappingKind;
use crate::model::partner::Partner;
use crate::model::stack::Frame;
use crate::model::window::{CLASS_GOROUTINE, SampleKey};
use profiler_common::wait::{CLASS_BITS, plain_class};
use std::sync::Arc;

impl Builder<'_> {
    /// The frames of the other side of a wait, if it is known.
    fn partner(&mut self, key: &SampleKey) -> Option<(Partner, Vec<usize>)> {
        let partner = self.window.dictionary.partners.get(key.partner())?;
        let frames = self.window.dictionary.stacks.frames(partner.stack);
        Some((partner, frames.into_iter().map(|frame| self.location(frame)).collect()))
    }

    /// Who ended a wait, or who waited, where that was asked for.
    pub(super) fn partner_label(&mut self, key: &SampleKey) -> Option<Label> {
        if !self.window.kind.is_of_waits() || !self.window.dictionary.shows_partners {
            return None;
        }
        let word = if self.window.kind == Kind::Mutex { "waiter" } else { "waker" };
        let (partner, locations) = self.partner(key)?;
        if let Some(known) = self.partners.get(&partner) {
            return Some(Label::text(word, Arc::clone(known)));
        }
        let names: Vec<&str> = self.names(&locations).collect();
        let text: Arc<str> = waits::partner(&self.window.dictionary.processes[partner.process.0 as usize].comm, &names).into();
        self.partners.insert(partner, Arc::clone(&text));
        Some(Label::text(word, text))
    }

    /// Whether a sample is what the kind is about: of waits only the functions' names may tell, of a lock those of both sides.
    pub(super) fn is_kept(&mut self, key: &SampleKey, locations: &[usize]) -> bool {
        if !self.window.kind.is_of_contentions() || key.class == CLASS_GOROUTINE {
            return true;
        }
        let others =
            if self.window.kind == Kind::Mutex { self.partner(key).map_or(Vec::new(), |(_, locations)| locations) } else { Vec::new() };
        let class = plain_class(key.class & ((1 << CLASS_BITS) - 1));
        waits::are_told(self.window.kind, class, self.names(locations), self.names(&others))
    }

    /// Whether a release was seen at a futex that its runtime has recorded as well: it would count twice.
    pub(super) fn is_of_own_locks(&self, key: &SampleKey, locations: &[usize]) -> bool {
        self.window.kind == Kind::Mutex
            && key.class != CLASS_GOROUTINE
            && self.window.dictionary.records_own_locks.contains(&key.process)
            && self.names(locations).any(|name| name.starts_with("runtime.unlock"))
    }

    /// Who ends waits is taken with its part in the kernel where the user asks for the other sides of all waits; releases are shown without.
    pub(super) fn is_left_out(&self, frame: Frame) -> bool {
        let kind = &self.window.dictionary.mappings.get(frame.mapping).kind;
        self.window.kind == Kind::Mutex && matches!(kind, MappingKind::Kernel | MappingKind::KernelModule)
    }
}
