//! What the compiler puts around a call (of a method through an interface, of a `go` with arguments) stands in no stack that Go's runtime shows.

use crate::model::profile::{Line, Profile};

/// Called by a wrapper in place of what it is made for: it stays then (`elideWrapperCalling`, Go 1.26).
const PANICS: [&str; 3] = ["runtime.gopanic", "runtime.sigpanic", "runtime.panicwrap"];

/// Takes the wrappers out of all stacks.
pub(super) fn leave_out(profile: &mut Profile) {
    for at in 0..profile.samples.len() {
        let mut locations = std::mem::take(&mut profile.samples[at].locations);
        let mut callee = None;
        locations.retain(|location| {
            let lines = profile.locations[*location].lines.as_deref().unwrap_or_default();
            let is_kept = !matches!(lines, [line] if is_left_out(profile, line, callee));
            callee = lines.last().map(|line| line.function);
            is_kept
        });
        profile.samples[at].locations = locations;
    }
    for at in 0..profile.locations.len() {
        let Ok(lines) = &profile.locations[at].lines else { continue };
        let mut callee = None;
        // What the innermost one calls is of another location.
        let kept = |line: &&Line| {
            let is_kept = callee.is_none() || !is_left_out(profile, line, callee);
            callee = Some(line.function);
            is_kept
        };
        let lines: Vec<Line> = lines.iter().filter(kept).copied().collect();
        profile.locations[at].lines = Ok(lines);
    }
}

fn is_left_out(profile: &Profile, line: &Line, callee: Option<usize>) -> bool {
    line.go.is_some_and(|go| go.is_wrapper) && !callee.is_some_and(|callee| PANICS.contains(&&*profile.functions[callee].name))
}
