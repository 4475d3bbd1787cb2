//! The hottest functions, for the lines that a person reads after a recording.

use super::frame;
use super::lost;
use crate::model::profile::Profile;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// A function, and what it weighs in one column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hot {
    /// Its name, or `[file]` where there is none. Not escaped.
    pub name: String,
    /// Where it was the leaf, in the column's unit.
    pub flat: i64,
    /// Where it was anywhere on the stack; a stack counts once.
    pub cumulative: i64,
}

/// The `n` functions with the largest flat value in a column, what was lost among them; ties by the cumulative value, then the name.
/// Nothing, if there is no such column.
pub fn hottest(profile: &Profile, column: usize, n: usize) -> Vec<Hot> {
    if column >= profile.sample_types.len() {
        return Vec::new();
    }
    let mut sums: HashMap<Cow<'_, str>, (i64, i64)> = HashMap::new();
    let mut seen = HashSet::new();
    for sample in &profile.samples {
        seen.clear();
        for (depth, frame) in frame::of_sample(profile, sample).into_iter().enumerate() {
            if seen.contains(&frame.name) {
                continue;
            }
            seen.insert(frame.name.clone());
            add(&mut sums, frame.name, if depth == 0 { sample.values[column] } else { 0 }, sample.values[column]);
        }
    }
    for lost in lost::samples(profile) {
        add(&mut sums, Cow::Owned(lost.name), lost.values[column], lost.values[column]);
    }
    let mut hot: Vec<Hot> = sums.into_iter().map(|(name, (flat, cumulative))| Hot { name: name.into_owned(), flat, cumulative }).collect();
    hot.sort_by(|a, b| b.flat.cmp(&a.flat).then(b.cumulative.cmp(&a.cumulative)).then_with(|| a.name.cmp(&b.name)));
    hot.truncate(n);
    hot
}

/// What all of a column weighs, what was lost with it: the whole that shares are shares of. 0, if there is no such column.
pub fn whole(profile: &Profile, column: usize) -> i64 {
    if column < profile.sample_types.len() { lost::total(profile, column) } else { 0 }
}

fn add<'a>(sums: &mut HashMap<Cow<'a, str>, (i64, i64)>, name: Cow<'a, str>, flat: i64, cumulative: i64) {
    let sum = sums.entry(name).or_default();
    sum.0 = sum.0.saturating_add(flat);
    sum.1 = sum.1.saturating_add(cumulative);
}

#[cfg(test)]
mod tests {
    use super::{Hot, hottest, whole};
    use crate::encode::sample_profile::sample_profile;

    fn hot(name: &str, flat: i64, cumulative: i64) -> Hot {
        Hot { name: name.to_owned(), flat, cumulative }
    }

    #[test]
    fn shares_are_of_what_was_taken_and_what_was_lost() {
        let profile = sample_profile();
        let flat: i64 = hottest(&profile, 1, usize::MAX).iter().map(|hot| hot.flat).sum();
        assert_eq!(flat, whole(&profile, 1));
        assert_eq!(whole(&profile, 9), 0);
    }

    #[test]
    fn recursion_counts_once_and_files_and_losses_are_named() {
        let expected = [
            hot("inner<T>", 12, 12),
            hot("schedule", 8, 8),
            hot("[app]", 5, 5),
            hot("[lost: ring full]", 3, 3),
            hot("[no stack]", 2, 2),
            hot("main", 1, 26),
            hot("outer", 0, 12),
        ];
        assert_eq!(hottest(&sample_profile(), 0, 99), expected);
        assert_eq!(hottest(&sample_profile(), 1, 1), [hot("inner<T>", 120_000_000, 120_000_000)]);
    }

    #[test]
    fn a_column_that_is_not_there_has_no_functions() {
        assert_eq!(hottest(&sample_profile(), 2, 5), []);
    }
}
