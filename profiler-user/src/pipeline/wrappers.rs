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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::sample_profile::sample_profile;
    use crate::model::answer::GoPlace;

    /// A profile of one stack: of each location the functions by their numbers, those from 100 on as wrappers; names are those of the numbers.
    fn profile(stack: &[&[usize]]) -> Profile {
        let mut profile = sample_profile();
        let line = |number: &usize| {
            let go = Some(GoPlace { offset: 1, is_wrapper: *number >= 100, is_inlined: false });
            Line { function: number % 100, line: 1, column: 0, go }
        };
        profile.locations.truncate(1);
        profile.locations = vec![profile.locations[0].clone(); stack.len()];
        for (location, numbers) in profile.locations.iter_mut().zip(stack) {
            location.lines = Ok(numbers.iter().map(line).collect());
        }
        profile.functions[3].name = "runtime.panicwrap".into();
        profile.samples.truncate(1);
        profile.samples[0].locations = (0..stack.len()).collect();
        profile
    }

    fn left(stack: &[&[usize]]) -> Vec<Vec<usize>> {
        let mut profile = profile(stack);
        leave_out(&mut profile);
        let functions = |at: &usize| profile.locations[*at].lines.as_ref().unwrap().iter().map(|line| line.function).collect();
        profile.samples[0].locations.iter().map(functions).collect()
    }

    #[test]
    fn wrappers_are_left_out_but_for_those_that_panic_themselves() {
        assert_eq!(left(&[&[0], &[101], &[2]]), [vec![0], vec![2]]);
        // What it was made for is inlined into it.
        assert_eq!(left(&[&[0, 101], &[2]]), [vec![0], vec![2]]);
        // Wrappers of wrappers.
        assert_eq!(left(&[&[0], &[101], &[102], &[1]]), [vec![0], vec![1]]);
        assert_eq!(left(&[&[3], &[101], &[2]]), [vec![3], vec![1], vec![2]]);
        assert_eq!(left(&[&[3, 101], &[2]]), [vec![3, 1], vec![2]]);
    }
}
