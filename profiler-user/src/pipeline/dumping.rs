//! From stacks that were taken one by one to a dump with names. Each has a number of its own while names are looked up, in the place of a thread's.

use super::finishing::Sample;
use crate::bpf::SeenThread;
use crate::model::dump::{Creator, Dump, Entry};
use crate::model::kind::Kind;
use crate::model::label::{Label, LabelValue};
use crate::model::loss::{Balance, Endings, Losses};
use crate::model::process::Tid;
use crate::model::profile::{Line, Profile, Sample as Counted};
use crate::model::stack::{RawStack, Tally, UserStack};
use crate::model::text::lossy;
use crate::model::window::{Counts, Dictionary, ThreadInfo, Window};
use crate::process::Normalized;
use crate::snapshot::{Missing, state_name};
use crate::symbolize::{Sources, symbolize};
use foldhash::HashMap;
use profiler_common::ended::Ended;
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

/// A stack that is to have names, and what it is of.
pub(super) struct Stack {
    pub(super) entry: Entry,
    pub(super) labels: Vec<Label>,
    pub(super) stack: Normalized,
    /// Of a goroutine: where it was started, and its first function.
    pub(super) origins: Option<Normalized>,
}

/// A window in which each stack is a sample of its own.
fn window(kind: Kind, stacks: impl Iterator<Item = Normalized>, dictionary: &Arc<Dictionary>, took: Duration) -> Window {
    let mut window = Window {
        kind,
        start: SystemTime::now(),
        duration: took,
        period: 1,
        tallies: HashMap::default(),
        blocks: HashMap::default(),
        notes: Vec::new(),
        dictionary: Arc::clone(dictionary),
        losses: Losses::default(),
        endings: Endings::default(),
        balance: Balance::default(),
    };
    for (number, stack) in stacks.enumerate() {
        let mut key = stack.key;
        key.thread = Some(number as u32);
        window.tallies.insert(key, Counts { events: 1, weight: 1 });
        window.endings.add(stack.ended, 1);
        window.balance.samples += 1;
    }
    window.balance.ticks = window.balance.samples;
    window
}

/// Looks up the names. `with`: what the stacks refer to, and how long they took.
pub(super) fn dump(kind: Kind, stacks: Vec<Stack>, with: (Arc<Dictionary>, Duration), sources: &mut Sources<'_>) -> Dump {
    let (mut dictionary, took) = with;
    Arc::make_mut(&mut dictionary).threads =
        (0..stacks.len() as u32).map(|number| ThreadInfo { tid: Tid(number), name: "".into() }).collect();
    let mut windows = vec![window(kind, stacks.iter().map(|stack| stack.stack), &dictionary, took)];
    let origins: Vec<Normalized> = stacks.iter().filter_map(|stack| stack.origins).collect();
    if !origins.is_empty() {
        windows.push(window(kind, origins.into_iter(), &dictionary, took));
    }
    let mut profiles = symbolize(&windows, sources).into_iter();
    let Some(mut profile) = profiles.next() else { unreachable!("a window gives a profile") };
    let numbers = in_order(&mut profile);
    let origins = profiles.next().map(|mut profile| (in_order(&mut profile), profile).1);
    let (mut entries, mut kept) = (Vec::new(), Vec::new());
    for (mut sample, number) in std::mem::take(&mut profile.samples).into_iter().zip(numbers) {
        let Some(Stack { entry, labels, .. }) = stacks.get(number) else { continue };
        let mut entry = entry.clone();
        if let Some(origins) = &origins
            && let Some(origin) = origins.samples.get(number)
        {
            if is_of_the_runtime(origins, origin, &entry) {
                continue;
            }
            entry.creator = creator(origins, origin, entry.creator.take());
        }
        push_labels(kind, &entry, labels, &mut sample.labels);
        kept.push(sample);
        entries.push(entry);
    }
    profile.samples = kept;
    Dump { profile, entries, took }
}

fn push_labels(kind: Kind, entry: &Entry, own: &[Label], labels: &mut Vec<Label>) {
    labels.push(Label::number(if kind == Kind::Goroutine { "goid" } else { "tid" }, entry.id as i64, "id"));
    if !entry.name.is_empty() {
        labels.push(Label::text("thread", Arc::clone(&entry.name)));
    }
    labels.push(Label::text("state", entry.state.as_str()));
    for label in own {
        if labels.iter().all(|known| known.key != label.key) {
            labels.push(label.clone());
        }
    }
}

/// Goroutines that belong to the runtime, which no profile of Go's shows (`isSystemGoroutine`, Go 1.26): by their first function.
fn is_of_the_runtime(origins: &Profile, origin: &Counted, entry: &Entry) -> bool {
    let name = origin.locations.get(1).map_or("", |at| name_at(origins, *at, <[Line]>::last));
    match name {
        "runtime.main" | "runtime.corostart" | "runtime.handleAsyncEvent" => false,
        "runtime.runfinq" | "runtime.runFinalizers" => entry.state == "finalizer wait",
        "runtime.runCleanups" => entry.state == "cleanup wait",
        name => name.starts_with("runtime."),
    }
}

fn name_at(profile: &Profile, at: usize, which: impl Fn(&[Line]) -> Option<&Line>) -> &str {
    let lines = profile.locations[at].lines.as_deref().unwrap_or_default();
    which(lines).map_or("", |line| &*profile.functions[line.function].name)
}

/// Where it was started; of the first goroutine the runtime tells nothing.
fn creator(origins: &Profile, origin: &Counted, known: Option<Creator>) -> Option<Creator> {
    let (known, at) = (known?, *origin.locations.first()?);
    let line = *origins.locations[at].lines.as_deref().ok()?.first()?;
    let function = &origins.functions[line.function];
    Some(Creator { function: Arc::clone(&function.name), file: Arc::clone(&function.filename), line: line.line, ..known })
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

impl Found {
    /// What there is to say of the thread.
    pub(super) fn entry(&self) -> Entry {
        let record = &self.seen.record;
        let comm = record.comm.split(|byte| *byte == 0).next().unwrap_or_default();
        let is_waiting = record.is_on_cpu == 0 && record.state != 0 && record.last_ran_ns != 0;
        Entry {
            id: u64::from(record.tid),
            name: lossy(comm).as_ref().into(),
            state: state_name(record),
            since: is_waiting.then(|| Duration::from_nanos(record.now_ns.saturating_sub(record.last_ran_ns))),
            is_locked: false,
            trouble: trouble(self),
            creator: None,
        }
    }
}

fn trouble(found: &Found) -> Option<String> {
    let why = match found.trouble {
        Some(Missing::Moved) => "it ran all the time, and no tick has met it; its stack could not be had",
        Some(Missing::NoUserSide) => return None,
        Some(Missing::Unreadable) => "its stack cannot be read",
        Some(Missing::Hangs) => "a page of its stack does not come: it may belong to a file system that does not answer",
        None => match ended(&found.sample.1) {
            Ended::Root | Ended::NoUserStack => return None,
            other => other.label(),
        },
    };
    Some(why.to_owned())
}

/// How the walk of a stack ended.
pub(super) fn ended(tally: &Tally<RawStack>) -> Ended {
    match &tally.of.addresses.user {
        UserStack::Walked { ended, .. } => *ended,
        UserStack::Unfinished { .. } => Ended::NoTable,
    }
}
