//! The end of a recording: what the kernel has counted is taken over, what was lost is added up, and each source's window is closed.

use super::arming::Arming;
use super::beside::Beside;
use super::covered;
use super::custom_arming::CustomArming;
use super::descriptors::Execs;
use super::estimate;
use super::go_heap::GoHeaps;
use super::go_waits::GoWaitRows;
use super::governor::Step;
use super::moments::Base;
use super::own_processes::OwnProcesses;
use super::phases::Phase;
use crate::aggregate::{Aggregated, Aggregator};
use crate::bpf::{BpfError, Capture, Counted, Ticks};
use crate::config::{Config, Event};
use crate::model::custom::CustomProfile;
use crate::model::kind::Kind;
use crate::model::loss::{Balance, Loss, Losses};
use crate::model::partner::Partners;
use crate::model::process::ProcessInfo;
use crate::model::window::Window;
use profiler_common::descriptor::DescriptorType;
use profiler_common::source::Source;
use profiler_common::tally::TallyKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What closing needs to know.
pub(super) struct Closing<'a> {
    pub(super) config: &'a Config,
    pub(super) capture: &'a Capture,
    pub(super) own: &'a OwnProcesses,
    pub(super) execs: &'a Execs,
    pub(super) arming: Option<&'a Arming>,
    pub(super) custom: Option<&'a CustomArming>,
    /// The process images that were met, by their ids.
    pub(super) processes: &'a [ProcessInfo],
    /// The other sides of waits.
    pub(super) partners: &'a Partners,
    /// What is counted of waits and threads beside what the kernel has.
    pub(super) beside: &'a Beside,
    /// What Go's runtime has counted itself.
    pub(super) go: GoHeaps,
    /// What it has recorded itself of waits.
    pub(super) go_waits: GoWaitRows,
    /// The stretches of calls.
    pub(super) phases: &'a [Phase],
    /// When the recording began, and how long it was.
    pub(super) span: (SystemTime, Duration),
    /// The same of what a budget has begun.
    pub(super) spans: BTreeMap<Source, (SystemTime, Duration)>,
}

/// What was counted of a source in a stretch of time.
struct Counting<'a> {
    counted: &'a Counted,
    ticks: Ticks,
    aggregated: &'a Aggregated,
    /// Events that were captured here, and not read from a runtime.
    sampled: u64,
    span: (SystemTime, Duration),
}

impl Closing<'_> {
    /// Closes the windows of a source: one for each kind that is made of its events. Their dictionary is not there yet.
    pub(super) fn close(&self, source: Source, mut aggregator: Aggregator, ticks: Ticks) -> Result<Vec<Window>, BpfError> {
        if source == Source::CALLS {
            let mut windows = Vec::new();
            for (at, phase) in self.phases.iter().enumerate() {
                windows.extend(self.close_phase(at, phase, &mut aggregator)?);
            }
            return Ok(windows);
        }
        if source == Source::DESCRIPTORS {
            return self.close_descriptors(&mut aggregator, ticks);
        }
        if let Some(Event::Custom(at)) =
            self.config.events.iter().copied().find(|event| matches!(event, Event::Custom(_)) && event.source() == Some(source))
        {
            return Ok(vec![self.close_custom(at, source, aggregator, ticks)?]);
        }
        let mut counted = self.capture.counted(source)?;
        let (own, others): (Vec<_>, Vec<_>) = self.capture.delays(source)?.into_iter().partition(|(key, _)| self.own.counts(key));
        counted.filtered += own.iter().map(|(_, counts)| counts.events).sum::<u64>();
        aggregator.settle_waits(&others, self.partners);
        let beside: Vec<_> = self.beside.of(source).collect();
        aggregator.settle_waits(&beside, self.partners);
        // Who is charged with a wait was seen when it ended.
        let unseen = if source == Source::MUTEX { 0 } else { beside.len() as u64 };
        let ticks = Ticks { all: ticks.all + unseen, ..ticks };
        counted.runs += unseen;
        let sampled = aggregator.events();
        self.go_waits.settle(source, &mut aggregator);
        let aggregated = aggregator.finish();
        let span = self.spans.get(&source).copied().unwrap_or(self.span);
        let counting = Counting { counted: &counted, ticks, aggregated: &aggregated, sampled, span };
        let mut losses = self.losses(&counting)?;
        // What the kernel's clock says beyond what our program was run for.
        losses.add(Loss::NotRun, ticks.all.saturating_sub(counted.runs + ticks.unseen_away));
        let events: Vec<Event> = self.config.events.iter().copied().filter(|event| event.source() == Some(source)).collect();
        let events = match source {
            _ if !events.is_empty() => events,
            // Where nobody asked for them, wall time is made of them, or a budget has begun them.
            Source::CLOCK => vec![Event::CpuClock],
            Source::OFF_CPU => vec![Event::OffCpu],
            Source::MAPPINGS => vec![Event::Mappings],
            _ => vec![Event::PageFaults],
        };
        let mut notes: Vec<_> = self.still_waiting(source).into_iter().chain(self.left_out(source, &counted)).collect();
        notes.extend(not_seen(source).map(str::to_owned));
        notes.extend(self.go_waits.notes(source));
        let window = |event: Event| Window {
            kind: self.config.kind_of(event),
            period: self.capture.period(source).max(1),
            ..self.window(source, &counting, losses, notes.clone())
        };
        Ok(events.into_iter().map(window).collect())
    }

    /// Says which waits are not over.
    fn still_waiting(&self, source: Source) -> Option<String> {
        let asleep = self.beside.asleep(source);
        let seconds = Duration::from_nanos(asleep.ns).as_secs_f64();
        let (waits, is_counted) = match source {
            Source::OFF_CPU => ("asleep", "is counted, with a label `ongoing`"),
            Source::BLOCK => ("waiting for others", "is counted, with a label `ongoing`, but for those of them that are left out"),
            _ => ("waiting for others", "nobody is charged with"),
        };
        let threads = asleep.threads;
        (threads > 0)
            .then(|| format!("still waiting: {threads} threads were {waits} at the end, for {seconds:.3} s in all, which {is_counted}"))
    }

    /// Says what a filter has left out of time off the CPU, and which waits nobody is charged with.
    fn left_out(&self, source: Source, counted: &Counted) -> Option<String> {
        if source == Source::MUTEX {
            return not_charged((counted.left_out, counted.left_out_ns), (counted.left_out_unsure, counted.left_out_unsure_ns));
        }
        let ongoing = self.beside.left_out;
        let (times, ns) = (counted.left_out + ongoing.threads, counted.left_out_ns + ongoing.ns);
        let seconds = Duration::from_nanos(ns).as_secs_f64();
        (times > 0 && source == Source::OFF_CPU).then(|| {
            format!(
                "left out: {times} times off the CPU or parts of them, {seconds:.3} s in all, which --state, --min-block-time and --max-block-time exclude"
            )
        })
    }

    /// Closes the windows of descriptors: of those that are open. What was closed again was looked at for nothing.
    fn close_descriptors(&self, aggregator: &mut Aggregator, ticks: Ticks) -> Result<Vec<Window>, BpfError> {
        let (mut windows, all) = (Vec::new(), self.capture.descriptors()?);
        let open: Vec<TallyKey> = self.execs.open(&all).collect();
        for event in self.config.events.iter().filter(|event| event.source() == Some(Source::DESCRIPTORS)) {
            let is_shown = |key: &&TallyKey| *event == Event::Descriptors || key.class() == DescriptorType::Socket as u64;
            aggregator.settle_standing(open.iter().filter(is_shown).copied());
            let aggregated = aggregator.close_phase();
            let mut counted = self.capture.counted(Source::DESCRIPTORS)?;
            counted.filtered += counted.samples.saturating_sub(aggregated.events + aggregated.losses.samples());
            let counting = Counting { counted: &counted, ticks, aggregated: &aggregated, sampled: aggregated.events, span: self.span };
            let losses = self.losses(&counting)?;
            let notes = vec![
                "open: got since the recording began, and not closed before it or its process ended".to_owned(),
                "not seen: what is got by recvmsg, recvmmsg, ioctl, io_uring, seccomp, open_tree_attr and clone, and what a child has of its parent".to_owned(),
            ];
            windows.push(Window { kind: self.config.kind_of(*event), ..self.window(Source::DESCRIPTORS, &counting, losses, notes) });
        }
        Ok(windows)
    }

    /// Closes the window of a custom profile: of what was added, and not removed. What was removed was looked at for nothing.
    fn close_custom(&self, at: u16, source: Source, mut aggregator: Aggregator, ticks: Ticks) -> Result<Window, BpfError> {
        let (own, others): (Vec<_>, Vec<_>) = self.capture.tallies(source)?.into_iter().partition(|(key, _)| self.own.counts(key));
        aggregator.settle_left(&others);
        let aggregated = aggregator.finish();
        let mut counted = self.capture.counted(source)?;
        let of_ours: u64 = own.iter().map(|(_, counts)| counts.allocated.count).sum();
        counted.filtered += counted.samples.saturating_sub(aggregated.events + aggregated.losses.of(Loss::StackMissing)).max(of_ours);
        let counting = Counting { counted: &counted, ticks, aggregated: &aggregated, sampled: aggregated.events, span: self.span };
        let mut losses = self.losses(&counting)?;
        // Calls that began and have not returned.
        losses.add(Loss::NoReturn, ticks.all.saturating_sub(counted.filtered + aggregated.events + losses.samples()));
        let mut notes = self.custom.map_or(Vec::new(), |custom| custom.notes(usize::from(at)));
        if self.config.custom.get(usize::from(at)).is_some_and(CustomProfile::has_removes) {
            notes.push("there: added since the recording began, and not removed before it or its process ended".to_owned());
            notes.push(format!("adds of a key that was there, whose place they took: {}", counted.replaced));
            notes.push(format!("removals of keys that nobody has, such as older ones: {}", counted.other_frees));
            notes.extend(estimate::thinned(self.capture.live_level()?));
        }
        Ok(Window { kind: self.config.kind_of(Event::Custom(at)), ..self.window(source, &counting, losses, notes) })
    }

    /// Closes the windows of a stretch of calls. What Go's runtimes have counted is of the whole time, and stands in the first one.
    fn close_phase(&self, at: usize, phase: &Phase, aggregator: &mut Aggregator) -> Result<Vec<Window>, BpfError> {
        aggregator.settle(&phase.tallies);
        phase.ages.iter().for_each(|ages| aggregator.settle_ages(ages));
        let sampled = aggregator.events();
        if at == 0 {
            aggregator.settle(&self.go.counts);
        }
        let aggregated = aggregator.close_phase();
        let ticks = Ticks { all: phase.counted.runs, unseen_away: 0 };
        let span = (phase.start, phase.duration);
        let counting = Counting { counted: &phase.counted, ticks, aggregated: &aggregated, sampled, span };
        let mut losses = self.losses(&counting)?;
        // What was sampled at its entry and is in no count.
        losses.add(Loss::NoReturn, ticks.all.saturating_sub(phase.counted.filtered + phase.counted.samples + losses.samples()));
        let mut notes = phase.notes.clone();
        notes.extend(if at == 0 { self.go.notes.clone() } else { Vec::new() });
        notes.extend(self.arming.iter().flat_map(|arming| arming.notes()));
        if phase.step == Step::Heap && sampled > 0 {
            notes.push("in use: allocated since the recording began, and not freed before it ended".to_owned());
            let distance = self.arming.map_or(Some(self.config.sample_bytes), |arming| arming.distance_of_frees(self.config.sample_bytes));
            notes.extend(distance.and_then(|distance| estimate::of_unseen(distance, &phase.freed, &phase.counted)));
            notes.extend(self.arming.iter().flat_map(|arming| covered::notes(&arming.armed(), &aggregated.blocks, self.processes)));
            notes.extend(estimate::of_in_use(&phase.tallies, self.capture.live_level()?));
            notes.extend(life_notes(self.config));
        }
        notes.extend(estimate::of_allocated(self.config.sample_bytes, &phase.tallies));
        let period = match self.go.rates.first() {
            Some(rate) if sampled == 0 => *rate,
            _ => self.config.sample_bytes,
        };
        let window = |kind| Window { kind, period, ..self.window(Source::CALLS, &counting, losses, notes.clone()) };
        let mut windows: Vec<Window> = self.kinds(phase.step).into_iter().map(window).collect();
        if let Some(base) = &phase.base {
            windows.push(self.close_base(base, period, aggregator));
        }
        Ok(windows)
    }

    /// Closes the window of an earlier moment. How many calls there were by then was not read.
    fn close_base(&self, base: &Base, period: u64, aggregator: &mut Aggregator) -> Window {
        aggregator.settle(&base.tallies);
        let aggregated = aggregator.close_phase();
        let (sampled, span) = (aggregated.events, (base.start, base.duration));
        let ticks = Ticks { all: sampled + aggregated.losses.samples(), unseen_away: 0 };
        let counting = Counting { counted: &Counted::default(), ticks, aggregated: &aggregated, sampled, span };
        let notes = vec!["in use: at an earlier moment of the same recording; for go tool pprof -diff_base".to_owned()];
        Window { kind: Kind::HeapBase, period, ..self.window(Source::CALLS, &counting, aggregated.losses, notes) }
    }

    /// The kinds that a stretch of calls makes.
    fn kinds(&self, step: Step) -> Vec<Kind> {
        let is_asked = |event: &&Event| event.source() == Some(Source::CALLS);
        match step {
            Step::Heap => self.config.events.iter().filter(is_asked).map(|event| self.config.kind_of(*event)).collect(),
            Step::Allocs => vec![Kind::Allocs],
            Step::Shares => vec![Kind::AllocShares],
            Step::Faults => Vec::new(),
        }
    }

    fn losses(&self, counting: &Counting<'_>) -> Result<Losses, BpfError> {
        let mut losses = counting.counted.losses;
        losses.merge(&counting.aggregated.losses);
        losses.merge(&self.capture.lost_besides()?);
        Ok(losses)
    }

    /// Everything but the kind and the period.
    fn window(&self, source: Source, counting: &Counting<'_>, losses: Losses, notes: Vec<String>) -> Window {
        let Counting { counted, ticks, aggregated, sampled, span: (start, duration) } = counting;
        let balance = Balance {
            ticks: ticks.all,
            idle: counted.idle + ticks.unseen_away,
            filtered: counted.filtered + self.own.samples(source),
            samples: *sampled,
            is_narrowed: self.config.is_narrowed(),
        };
        Window {
            kind: Kind::Cpu,
            start: *start,
            duration: *duration,
            period: 1,
            tallies: aggregated.tallies.clone(),
            blocks: aggregated.blocks.clone(),
            notes,
            dictionary: Arc::default(),
            losses,
            endings: aggregated.endings,
            balance,
        }
    }
}

/// Says which waits nobody is charged with: of locks by the value at their word, and of what may be none; waits and nanoseconds.
fn not_charged((waits, ns): (u64, u64), (unsure, unsure_ns): (u64, u64)) -> Option<String> {
    let of = |waits: u64, ns: u64, what: &str| {
        let seconds = Duration::from_nanos(ns).as_secs_f64();
        (waits > 0).then(|| format!("{waits} waits of {seconds:.3} s {what}"))
    };
    let parts: Vec<String> = [of(waits, ns, "at locks"), of(unsure, unsure_ns, "at what may be no lock")].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| {
        let why = "nobody ended by letting go: their time was over, a signal or the end of their process came, or a condition variable handed them on";
        format!("not charged: {}, which {why}", parts.join(" and "))
    })
}

/// What the labels say of how long blocks live.
fn life_notes(config: &Config) -> impl Iterator<Item = String> {
    let age = config.heap.age.then(|| {
        "age: of what is in use, at the end or when its process ended, by tens of milliseconds: so long at least, and not ten times as long".to_owned()
    });
    let temporary = config
        .heap
        .temporary
        .map(|most| format!("lifetime=temporary: what was freed within {most:?}; what has no such label lived longer"));
    age.into_iter().chain(temporary)
}

/// What a source cannot show.
fn not_seen(source: Source) -> Option<&'static str> {
    let waits = matches!(source, Source::BLOCK | Source::MUTEX);
    waits.then_some("not seen: waits that did not sleep (a thread that spins at a lock is on its CPU: look at -e cpu)")
}
