//! One line a stack: the process, the frames from the root to the leaf, and how many events or bytes; the input of flame graph tools.

use super::frame::{self, Origin};
use super::lost;
use crate::model::profile::Profile;
use crate::model::text::printable;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The profile's column of events, or of bytes, equal stacks summed, in the order of the text.
pub(super) fn encode(profile: &Profile) -> String {
    let mut stacks: BTreeMap<String, i64> = BTreeMap::new();
    for sample in &profile.samples {
        let mut stack = String::new();
        for name in frame::above(profile, sample) {
            push(&mut stack, &name);
        }
        for frame in frame::of_sample(profile, sample).iter().rev() {
            push(&mut stack, &frame.name);
            if frame.origin == Origin::Kernel {
                stack.push_str("_[k]");
            }
        }
        add(&mut stacks, stack, sample.values[profile.kind.shown_column()]);
    }
    for lost in lost::samples(profile) {
        let mut stack = String::new();
        push(&mut stack, &lost.name);
        add(&mut stacks, stack, lost.values[profile.kind.shown_column()]);
    }
    let mut out = String::new();
    for (stack, events) in &stacks {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{stack} {events}");
    }
    out
}

fn add(stacks: &mut BTreeMap<String, i64>, stack: String, events: i64) {
    let sum = stacks.entry(stack).or_default();
    *sum = sum.saturating_add(events);
}

/// Adds a name, such that it cannot be taken for two frames, two lines or a comment.
fn push(stack: &mut String, name: &str) {
    let first = stack.is_empty();
    if !first {
        stack.push(';');
    }
    let name = if name.is_empty() { "[unknown]" } else { name };
    for (at, c) in printable(name).chars().enumerate() {
        match c {
            ';' => stack.extend(c.escape_unicode()),
            '#' if first && at == 0 => stack.extend(c.escape_unicode()),
            _ => stack.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::encode;
    use crate::encode::sample_profile::sample_profile;

    #[test]
    fn stacks_run_from_the_process_to_the_leaf() {
        let expected = "[lost: ring full] 3\n\
            app;main;main;main 1\n\
            app;main;outer;inner<T> 12\n\
            app;main;schedule_[k] 8\n\
            other\\u{3b}\\u{a};[no stack] 2\n\
            other\\u{3b}\\u{a};main;[app] 5\n";
        assert_eq!(encode(&sample_profile()), expected);
    }

    #[test]
    fn a_hostile_name_stays_one_frame_of_one_line() {
        let mut profile = sample_profile();
        profile.functions[2].name = "a;b\nc 99\r\u{202e}".into();
        profile.processes[0].comm = "#".into();
        let text = encode(&profile);
        assert_eq!(text.lines().count(), 6);
        assert!(text.contains("\\u{23};a\\u{3b}b\\u{a}c 99\\u{d}\\u{202e};outer;inner<T> 12\n"), "{text}");
    }

    #[test]
    fn equal_stacks_are_summed() {
        let mut profile = sample_profile();
        profile.samples.push(profile.samples[0].clone());
        assert!(encode(&profile).contains("inner<T> 24\n"));
    }
}
