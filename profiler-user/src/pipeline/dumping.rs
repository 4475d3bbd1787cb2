//! From stacks that were taken one by one to a dump with names. Each has a number of its own while names are looked up, in the place of a thread's.

use super::finishing::Sample;
use crate::bpf::SeenThread;
use crate::model::dump::{Dump, Entry};
use crate::model::kind::Kind;
use crate::model::label::{Label, LabelValue};
use crate::model::process::Tid;
use crate::model::profile::Profile;
use crate::model::text::lossy;
use crate::model::window::{Counts, Dictionary, ThreadInfo, Window};
use crate::object::ObjectStore;
use crate::process::Normalized;
use crate::snapshot::{Missing, state_name};
use crate::symbolize::{Sources, symbolize};
use profiler_common::ended::Ended;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The label that holds the number.
const NUMBER: &str = "tid";

/// A thread that was found, with its stack, or why it has none.
pub(super) struct Found {
    pub(super) seen: SeenThread,
    pub(super) sample: Sample,
    pub(super) trouble: Option<Missing>,
}

/// A window in which each stack is a sample of its own.
pub(super) fn window(kind: Kind, stacks: Vec<Normalized>, mut dictionary: Dictionary, took: Duration) -> Window {
    let mut window = Window {
        kind,
        start: SystemTime::now(),
        duration: took,
        period: 1,
        tallies: Default::default(),
        blocks: Default::default(),
        notes: Vec::new(),
        dictionary: Arc::default(),
        losses: Default::default(),
        endings: Default::default(),
        balance: Default::default(),
    };
    for stack in stacks {
        let number = dictionary.threads.len() as u32;
        dictionary.threads.push(ThreadInfo { tid: Tid(number), name: "".into() });
        let mut key = stack.key;
        key.thread = Some(number);
        window.tallies.insert(key, Counts { events: 1, weight: 1 });
        window.endings.add(stack.ended, 1);
        window.balance.samples += 1;
    }
    window.balance.ticks = window.balance.samples;
    window.dictionary = Arc::new(dictionary);
    window
}

/// Looks up the names. `with`: folders of debug files, and memory for it.
pub(super) fn dump(window: &Window, objects: &ObjectStore, with: (&[PathBuf], u64), found: Vec<Found>) -> Dump {
    let mut sources = Sources::new(objects, with.0, with.1);
    let mut profile = symbolize(std::slice::from_ref(window), &mut sources).swap_remove(0);
    let numbers = in_order(&mut profile);
    let entries: Vec<Entry> = numbers.iter().filter_map(|number| found.get(*number)).map(entry).collect();
    for (sample, entry) in profile.samples.iter_mut().zip(&entries) {
        sample.labels.push(Label::number("tid", entry.id as i64, "tid"));
        if !entry.name.is_empty() {
            sample.labels.push(Label::text("thread", Arc::clone(&entry.name)));
        }
        sample.labels.push(Label::text("state", entry.state.as_str()));
    }
    Dump { profile, entries, took: window.duration }
}

/// Puts the samples into the order of their numbers, which are taken off, and gives these.
fn in_order(profile: &mut Profile) -> Vec<usize> {
    let number = |labels: &[Label]| {
        labels.iter().find_map(|label| match label.value {
            LabelValue::Number { value, .. } if &*label.key == NUMBER => usize::try_from(value).ok(),
            _ => None,
        })
    };
    profile.samples.sort_by_key(|sample| number(&sample.labels));
    let numbers = profile.samples.iter().filter_map(|sample| number(&sample.labels)).collect();
    profile.samples.iter_mut().for_each(|sample| sample.labels.retain(|label| &*label.key != NUMBER));
    numbers
}

fn entry(found: &Found) -> Entry {
    let record = &found.seen.record;
    let comm = record.comm.split(|byte| *byte == 0).next().unwrap_or_default();
    let is_waiting = record.is_on_cpu == 0 && record.state != 0 && record.last_ran_ns != 0;
    Entry {
        id: u64::from(record.tid),
        name: lossy(comm).as_ref().into(),
        state: state_name(record),
        since: is_waiting.then(|| Duration::from_nanos(record.now_ns.saturating_sub(record.last_ran_ns))),
        is_locked: false,
        trouble: trouble(found),
        creator: None,
    }
}

fn trouble(found: &Found) -> Option<String> {
    let why = match found.trouble {
        Some(Missing::Moved) => "it ran all the time, and no tick has met it; its stack could not be had",
        Some(Missing::NoUserSide) => return None,
        Some(Missing::Unreadable) => "its stack cannot be read",
        Some(Missing::Hangs) => "a page of its stack does not come: it may belong to a file system that does not answer",
        None => match super::snapshot::ended(&found.sample.1) {
            Ended::Root | Ended::NoUserStack => return None,
            other => other.label(),
        },
    };
    Some(why.to_owned())
}
