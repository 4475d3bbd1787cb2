//! What was lost, as samples: a reader of any format sees it where it sees everything else. The only file that makes such frames, and the
//! comments that say how the sums stand.

use crate::model::kind::Kind;
use crate::model::loss::Loss;
use crate::model::profile::Profile;

/// The frame of a sample that came without any.
pub(super) const NO_STACK: &str = "[no stack]";

/// Stands before the sums of a whole recording in a part of it.
const OF_ALL: &str = "of the whole recording, all processes together: ";

/// The events of one kind of loss, as one sample.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lost {
    /// Which loss.
    pub(super) loss: Loss,
    /// The name of its only frame.
    pub(super) name: String,
    /// As many as the profile has columns: how many events, and what they weigh.
    pub(super) values: Vec<i64>,
}

impl Lost {
    /// An address that stands for the loss where a format needs one: in the page at 0, where nothing is ever mapped.
    pub(super) fn address(&self) -> u64 {
        1 + self.loss as u64
    }
}

/// The lost samples of the profile, one entry a kind that occurred. Where only some of the machine was asked for, what was lost before the filter is left
/// to the comments: it would be the whole machine's loss in the profile of one process. So is everything in a part of a recording: each part would show
/// the same loss again.
pub(super) fn samples(profile: &Profile) -> Vec<Lost> {
    // What a call would have made that was not counted, or how long a wait was, nobody knows.
    let is_of_waits = profile.kind.is_of_waits() && profile.kind != Kind::Wall;
    if profile.kind.is_of_blocks() || is_of_waits || profile.is_part {
        return Vec::new();
    }
    let is_shown = |loss: Loss| loss.is_sample() && !(profile.balance.is_narrowed && loss.is_before_filter());
    profile.losses.iter().filter(|(loss, _)| is_shown(*loss)).map(|(loss, events)| lost(profile, loss, events)).collect()
}

/// The first column counts events; any other says what they weigh, which is a period each.
fn lost(profile: &Profile, loss: Loss, events: u64) -> Lost {
    let events = i64::try_from(events).unwrap_or(i64::MAX);
    let weight = events.saturating_mul(profile.period);
    let values = (0..profile.sample_types.len()).map(|column| if column == 0 { events } else { weight }).collect();
    Lost { loss, name: format!("[lost: {}]", loss.label()), values }
}

/// Sum of a column over all samples and all that was lost.
pub(super) fn total(profile: &Profile, column: usize) -> i64 {
    let kept = profile.samples.iter().map(|sample| sample.values[column]);
    let lost = samples(profile);
    kept.chain(lost.iter().map(|lost| lost.values[column])).fold(0, i64::saturating_add)
}

/// The profile's comments, then the sums. Those of a part of a recording say whose they are.
pub(super) fn comments(profile: &Profile) -> Vec<String> {
    let whose = if profile.is_part { OF_ALL } else { "" };
    profile.comments.iter().cloned().chain(sums(profile).into_iter().map(|sum| format!("{whose}{sum}"))).collect()
}

/// Where each tick went, what was lost, how the stacks ended.
fn sums(profile: &Profile) -> Vec<String> {
    if profile.kind.is_snapshot() {
        return Vec::new();
    }
    let balance = &profile.balance;
    let mut sums = vec![format!(
        "balance: {} {} = idle {} + filtered {} + samples {} + lost {} (difference {})",
        profile.kind.event(),
        balance.ticks,
        balance.idle,
        balance.filtered,
        balance.samples,
        profile.losses.samples(),
        balance.difference(&profile.losses)
    )];
    sums.extend(profile.losses.iter().map(|(loss, events)| format!("lost: {} {events}", loss.label())));
    if balance.is_narrowed && !profile.is_part && profile.losses.iter().any(|(loss, _)| loss.is_before_filter()) {
        sums.push(format!("not among the samples: {}, which is the whole machine's", Loss::NotRun.label()));
    }
    sums.extend(profile.endings.iter().map(|(ended, samples)| format!("stacks ended: {} {samples}", ended.label())));
    sums
}

#[cfg(test)]
mod tests {
    use super::{Loss, comments, samples, total};
    use crate::encode::sample_profile::sample_profile;

    #[test]
    fn what_was_lost_weighs_a_period_each_and_what_is_no_sample_is_none() {
        let lost = samples(&sample_profile());
        assert_eq!(lost.len(), 1);
        assert_eq!((lost[0].name.as_str(), lost[0].values.as_slice()), ("[lost: ring full]", [3, 30_000_000].as_slice()));
    }

    #[test]
    fn a_part_of_the_machine_does_not_show_the_losses_of_all_of_it() {
        let mut profile = sample_profile();
        profile.losses.add(Loss::NotRun, 5);
        assert_eq!(samples(&profile).len(), 2);
        profile.balance.is_narrowed = true;
        assert_eq!(samples(&profile).len(), 1);
        assert!(comments(&profile).iter().any(|comment| comment == "lost: program not run 5"));
    }

    #[test]
    fn a_part_of_a_recording_states_its_losses_and_shows_none_as_its_own() {
        let mut profile = sample_profile();
        profile.is_part = true;
        assert_eq!(samples(&profile).len(), 0);
        assert_eq!(total(&profile, 0), profile.total(0));
        let comments = comments(&profile);
        assert_eq!(comments[0], "profiler test");
        assert!(comments.contains(&"of the whole recording, all processes together: lost: ring full 3".to_owned()), "{comments:?}");
        assert!(comments[1..].iter().all(|comment| comment.starts_with("of the whole recording")), "{comments:?}");
    }

    #[test]
    fn the_total_counts_what_was_lost() {
        let profile = sample_profile();
        assert_eq!(total(&profile, 0), profile.total(0) + 3);
        assert_eq!(total(&profile, 1), profile.total(1) + 30_000_000);
    }

    #[test]
    fn the_comments_hold_every_sum() {
        let comments = comments(&sample_profile());
        assert_eq!(comments[0], "profiler test");
        assert_eq!(comments[1], "balance: ticks 40 = idle 5 + filtered 4 + samples 28 + lost 3 (difference 0)");
        assert_eq!(
            comments[2..],
            ["lost: ring full 3", "lost: process events dropped 7", "stacks ended: root reached 20", "stacks ended: depth limit 8"]
        );
    }
}
