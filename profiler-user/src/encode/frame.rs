//! How a frame is called in the formats that show names: a function's name, or, for want of one, the file it lies in.

use super::lost;
use crate::model::label::LabelValue;
use crate::model::profile::{Location, Profile, Sample};
use std::borrow::Cow;

/// Where the code of a frame lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Origin {
    /// In a process, with a name.
    User,
    /// In a process, without a name.
    Unresolved,
    /// In the kernel.
    Kernel,
}

/// A frame as people see it. Not escaped.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Frame<'a> {
    /// Its name; never empty.
    pub(super) name: Cow<'a, str>,
    /// Where it lives.
    pub(super) origin: Origin,
}

/// What stands above the frames of a sample: its process, and its thread where threads are told apart.
pub(super) fn above<'a>(profile: &'a Profile, sample: &'a Sample) -> Vec<Cow<'a, str>> {
    let process = sample.process.map(|process| Cow::Borrowed(&*profile.processes[process].comm));
    let of = |key: &str| sample.labels.iter().find(|label| &*label.key == key).map(|label| &label.value);
    let name = match of("thread") {
        Some(LabelValue::Text(name)) => name,
        _ => "",
    };
    let thread = match of("tid") {
        Some(LabelValue::Number { value, .. }) => Some(Cow::Owned(format!("{name} (thread {value})").trim_start().to_owned())),
        _ => None,
    };
    process.into_iter().chain(thread).collect()
}

/// The frames of a sample, leaf first, inlined functions among them, without those that the kind drops; never none.
pub(super) fn of_sample<'a>(profile: &'a Profile, sample: &Sample) -> Vec<Frame<'a>> {
    let mut frames = Vec::with_capacity(sample.locations.len());
    for location in sample.shown() {
        push_location(profile, &profile.locations[*location], &mut frames);
    }
    if let Some(dropped) = frames.iter().rposition(|frame| profile.drops(&frame.name)) {
        frames.drain(..=dropped);
    }
    if frames.is_empty() {
        frames.push(Frame { name: Cow::Borrowed(lost::NO_STACK), origin: Origin::Unresolved });
    }
    frames
}

/// Adds the frames of one location, innermost first.
fn push_location<'a>(profile: &'a Profile, location: &Location, frames: &mut Vec<Frame<'a>>) {
    let kernel = is_kernel(profile, location);
    let named = |origin| if kernel { Origin::Kernel } else { origin };
    match &location.lines {
        Ok(lines) => frames.extend(lines.iter().map(|line| {
            let name = &*profile.functions[line.function].name;
            if name.is_empty() {
                Frame { name: unresolved(profile, location), origin: named(Origin::Unresolved) }
            } else {
                Frame { name: Cow::Borrowed(name), origin: named(Origin::User) }
            }
        })),
        Err(_) => frames.push(Frame { name: unresolved(profile, location), origin: named(Origin::Unresolved) }),
    }
}

/// The name of a place without one: the file that it lies in, in brackets.
pub(super) fn unresolved<'a>(profile: &'a Profile, location: &Location) -> Cow<'a, str> {
    let Some(mapping) = location.mapping else { return Cow::Borrowed("[unknown]") };
    let filename = &*profile.mappings[mapping].filename;
    if filename.starts_with('[') {
        return Cow::Borrowed(filename);
    }
    match filename.trim_end_matches('/').rsplit('/').next() {
        None | Some("") => Cow::Borrowed("[unknown]"),
        Some(base) => Cow::Owned(format!("[{base}]")),
    }
}

/// Whether the location is kernel code: by the names of the kernel's mappings, or by the upper half of the address space.
pub(super) fn is_kernel(profile: &Profile, location: &Location) -> bool {
    let named = location.mapping.is_some_and(|mapping| {
        let name = &*profile.mappings[mapping].filename;
        name.starts_with("[kernel") || name.ends_with(".ko")
    });
    named || location.address >= 1 << 63
}

#[cfg(test)]
mod tests {
    use super::{Origin, of_sample};
    use crate::encode::sample_profile::sample_profile;

    #[test]
    fn a_stack_unfolds_inlined_functions_and_names_files_for_want_of_functions() {
        let profile = sample_profile();
        let names = |at: usize| -> Vec<(String, Origin)> {
            of_sample(&profile, &profile.samples[at]).into_iter().map(|frame| (frame.name.into_owned(), frame.origin)).collect()
        };
        assert_eq!(
            names(0),
            [("inner<T>".to_owned(), Origin::User), ("outer".to_owned(), Origin::User), ("main".to_owned(), Origin::User)]
        );
        assert_eq!(names(1)[0], ("schedule".to_owned(), Origin::Kernel));
        assert_eq!(names(2)[0], ("[app]".to_owned(), Origin::Unresolved));
        assert_eq!(names(3), [("[no stack]".to_owned(), Origin::Unresolved)]);
    }
}
