//! From stacks that were taken one by one to a dump with names. Equal ones have one number while names are looked up, in the place of a thread's: of 50,000 threads
//! most stand where many do.

use super::wrappers;
use crate::model::dump::{Creator, Dump, Entry};
use crate::model::kind::Kind;
use crate::model::label::{Label, LabelValue};
use crate::model::loss::{Balance, Endings, Losses};
use crate::model::process::Tid;
use crate::model::profile::{Line, Profile, Sample as Counted};
use crate::model::text::lossy;
use crate::model::window::{Counts, Dictionary, SampleKey, ThreadInfo, Window};
use crate::process::Normalized;
use crate::snapshot::{Missing, state_name};
use crate::symbolize::{Sources, symbolize};
use foldhash::{HashMap, HashSet};
use profiler_common::ended::Ended;
use profiler_common::snapshot::ThreadRecord;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The label that holds the number.
const NUMBER: &str = "tid";

/// A thread that was found, with its stack, or why it has none.
pub(super) struct Found {
    pub(super) record: ThreadRecord,
    pub(super) stack: Normalized,
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

/// Stacks that are looked up once, and which of them each is.
struct Distinct {
    which: Vec<usize>,
    window: Window,
}

impl Distinct {
    fn of(kind: Kind, stacks: impl Iterator<Item = Normalized>, dictionary: &Arc<Dictionary>, took: Duration) -> Self {
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
        let mut known: HashMap<SampleKey, usize> = HashMap::default();
        let mut which = Vec::new();
        for stack in stacks {
            let next = known.len();
            let number = *known.entry(stack.key).or_insert(next);
            which.push(number);
            window.tallies.insert(SampleKey { thread: Some(number as u32), ..stack.key }, Counts { events: 1, weight: 1 });
            window.endings.add(stack.ended, 1);
            window.balance.samples += 1;
        }
        window.balance.ticks = window.balance.samples;
        Self { which, window }
    }
}

/// Looks up the names. `with`: what the stacks refer to, and how long they took.
pub(super) fn dump(kind: Kind, stacks: Vec<Stack>, with: (Arc<Dictionary>, Duration), sources: &mut Sources<'_>) -> Dump {
    let (mut dictionary, took) = with;
    Arc::make_mut(&mut dictionary).threads =
        (0..stacks.len() as u32).map(|number| ThreadInfo { tid: Tid(number), name: "".into() }).collect();
    let user = Distinct::of(kind, stacks.iter().map(|stack| stack.stack), &dictionary, took);
    let origins = Distinct::of(kind, stacks.iter().filter_map(|stack| stack.origins), &dictionary, took);
    let has_origins = !origins.which.is_empty();
    let windows = if has_origins { vec![user.window, origins.window] } else { vec![user.window] };
    let mut profiles = symbolize(&windows, sources).into_iter();
    drop(windows);
    let Some(mut profile) = profiles.next() else { unreachable!("a window gives a profile") };
    if kind == Kind::Goroutine {
        wrappers::leave_out(&mut profile);
    }
    let by_number = take_samples(&mut profile);
    let origins = profiles.next().map(|mut profile| (take_samples(&mut profile), profile, origins.which));
    let (mut entries, mut texts) = (Vec::with_capacity(stacks.len()), Texts::default());
    profile.samples.reserve_exact(stacks.len());
    for (at, stack) in stacks.into_iter().enumerate() {
        let Stack { mut entry, labels, .. } = stack;
        let Some(sample) = by_number.get(&user.which[at]) else { continue };
        if let Some((samples, origins, which)) = &origins
            && let Some(origin) = which.get(at).and_then(|number| samples.get(number))
        {
            if is_of_the_runtime(origins, origin, &entry) {
                continue;
            }
            entry.creator = creator(origins, origin, entry.creator.take());
        }
        entry.name = texts.shared(&entry.name);
        let mut sample = sample.clone();
        push_labels((kind, &entry), labels, &mut texts, &mut sample.labels);
        profile.samples.push(sample);
        entries.push(entry);
    }
    Dump { profile, entries, took }
}

/// Texts that many threads have.
#[derive(Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

fn push_labels((kind, entry): (Kind, &Entry), own: Vec<Label>, texts: &mut Texts, labels: &mut Vec<Label>) {
    labels.reserve_exact(3 + own.len());
    labels.push(Label::number(texts.shared(if kind == Kind::Goroutine { "goid" } else { "tid" }), entry.id as i64, "id"));
    if !entry.name.is_empty() {
        labels.push(Label::text(texts.shared("thread"), Arc::clone(&entry.name)));
    }
    labels.push(Label::text(texts.shared("state"), texts.shared(&entry.state)));
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

/// Where it was started, which the runtime tells by the function's own name; of the first goroutine it tells nothing.
fn creator(origins: &Profile, origin: &Counted, known: Option<Creator>) -> Option<Creator> {
    let (known, at) = (known?, *origin.locations.first()?);
    let lines = origins.locations[at].lines.as_deref().ok()?;
    let (innermost, itself) = (lines.first()?, lines.last()?);
    let of = |line: &Line| &origins.functions[line.function];
    Some(Creator {
        function: Arc::clone(&of(itself).name),
        file: Arc::clone(&of(innermost).filename),
        line: innermost.line,
        offset: innermost.go.map_or(0, |go| go.offset.saturating_add(1)),
        ..known
    })
}

/// Takes the samples out, by their numbers, which are taken off.
fn take_samples(profile: &mut Profile) -> HashMap<usize, Counted> {
    let number = |labels: &[Label]| {
        labels.iter().find_map(|label| match label.value {
            LabelValue::Number { value, .. } if &*label.key == NUMBER => usize::try_from(value).ok(),
            _ => None,
        })
    };
    let one = |mut sample: Counted| {
        let number = number(&sample.labels)?;
        sample.labels.retain(|label| &*label.key != NUMBER);
        Some((number, sample))
    };
    std::mem::take(&mut profile.samples).into_iter().filter_map(one).collect()
}

impl Found {
    /// What there is to say of the thread.
    pub(super) fn entry(&self) -> Entry {
        let record = &self.record;
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
        None => match found.stack.ended {
            Ended::Root | Ended::NoUserStack => return None,
            other => other.label(),
        },
    };
    Some(why.to_owned())
}
