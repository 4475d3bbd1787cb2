//! The stacks of a recording beside those that gdb walked at the same instants: equal, cut, or wrong.

use crate::gdb::{Place, Stack, Walk};
use crate::profile::{Profile, Sample};
use std::collections::BTreeMap;

/// The stack of a sample.
pub fn stack(profile: &Profile, sample: &Sample) -> Stack {
    let place = |at: &usize| {
        let location = &profile.locations[*at];
        match location.mapping.map(|mapping| &profile.mappings[mapping]) {
            Some(mapping) if !mapping.filename.starts_with("//") => {
                (location.address.wrapping_sub(mapping.start).wrapping_add(mapping.offset), mapping.filename.clone())
            }
            _ => (location.address, String::new()),
        }
    };
    sample.locations.iter().map(place).collect()
}

/// What came of a comparison, in stacks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Compared {
    /// Frame by frame what gdb walked, from the leaf to where gdb saw the end or no more code.
    pub equal: i64,
    /// gdb went no further by its own words, not because it led out of code; as far as it came the frames are the same.
    pub beyond_gdb: i64,
    /// The beginning of what gdb walked. The profile must say of as many that they were cut.
    pub cut: i64,
    /// None of it.
    pub wrong: i64,
    /// Some wrong ones in words, each beside what gdb walked that is nearest to it.
    pub shown: Vec<String>,
}

/// How many wrong ones are shown.
const SHOWN: usize = 5;

/// Stacks and how many of each.
type Counts<K> = BTreeMap<K, i64>;

/// Compares the stacks of a profile with those that gdb walked; each of gdb's answers for one of ours.
pub fn compare(profile: &Profile, walks: &[Walk]) -> Compared {
    let (mut ours, mut theirs): (Counts<Stack>, Counts<Walk>) = Default::default();
    for sample in &profile.samples {
        *ours.entry(stack(profile, sample)).or_default() += sample.values[0];
    }
    for walk in walks {
        *theirs.entry(walk.clone()).or_default() += 1;
    }
    let gave_up = |walk: &Walk| walk.stopped.as_deref().is_some_and(|reason| reason != "no code");
    let equal = pair(&mut ours, &mut theirs, |stack, walk| walk.stack == stack);
    let beyond_gdb = pair(&mut ours, &mut theirs, |stack, walk| gave_up(walk) && stack.starts_with(&walk.stack));
    let cut = pair(&mut ours, &mut theirs, |stack, walk| walk.stack.starts_with(stack));
    let shown = ours.iter().take(SHOWN).map(|(stack, count)| show(stack, *count, &theirs)).collect();
    Compared { equal, beyond_gdb, cut, wrong: ours.values().sum(), shown }
}

/// Takes out of both what goes together, and gives how many that were.
fn pair(ours: &mut Counts<Stack>, theirs: &mut Counts<Walk>, goes: impl Fn(&[Place], &Walk) -> bool) -> i64 {
    let mut paired = 0;
    for (stack, wanted) in ours.iter_mut() {
        for (_, there) in theirs.iter_mut().filter(|(walk, _)| goes(stack, walk)) {
            let taken = (*wanted).min(*there);
            (*wanted, *there, paired) = (*wanted - taken, *there - taken, paired + taken);
        }
    }
    ours.retain(|_, left| *left > 0);
    theirs.retain(|_, left| *left > 0);
    paired
}

/// A wrong stack in words.
fn show(stack: &[Place], count: i64, theirs: &Counts<Walk>) -> String {
    let nearest = theirs.keys().max_by_key(|walk| alike(stack, &walk.stack));
    let gdb = nearest.map_or_else(|| "none is left".to_owned(), |walk| format!("{} {:?}", words(&walk.stack), walk.stopped));
    format!("{count} times\n  ours: {}\n  gdb's nearest: {gdb}", words(stack))
}

/// How many frames two stacks share at their leaf, and at their root.
fn alike(one: &[Place], other: &[Place]) -> usize {
    let leaf = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    leaf + one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count()
}

/// A stack in words.
fn words(stack: &[Place]) -> String {
    let frame = |(offset, file): &Place| format!("{}+{offset:x}", file.rsplit('/').next().unwrap_or_default());
    stack.iter().map(frame).collect::<Vec<_>>().join(" ")
}
