//! The profile that a named window is: tables without duplicates, mappings that do not overlap, samples in an order that does not change.

use super::sources::{Found, Names};
use crate::model::answer::SymbolLine;
use crate::model::kind::Kind;
use crate::model::label::Label;
use crate::model::mapping::{Mapping, MappingId, MappingKind};
use crate::model::process::{ProcessId, ProcessInfo};
use crate::model::profile::{Function, Line, Location, Profile, ProfileMapping, ProfileProcess, Sample, Unresolved};
use crate::model::window::{Counts, SampleKey, ThreadInfo, Window};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Where ranges go whose own place is taken: user space that no process of ours maps, on the far side of any real address.
const SYNTHETIC_START: u64 = 0x1000_0000_0000_0000;
const PAGE: u64 = 4096;

/// Builds the profile.
pub(super) fn profile(window: &Window, found: Found) -> Profile {
    let mut tables = Tables::default();
    let places = tables.place(window, &found);
    let locations = locations(window, found, &places, &mut tables);
    let processes = window.processes.iter().map(|info| process(info, &places)).collect();
    Profile {
        kind: window.kind,
        sample_types: window.kind.sample_types().to_vec(),
        period_type: window.kind.period_type(),
        period: window.period as i64,
        start: window.start,
        duration: window.duration,
        samples: samples(window),
        mappings: tables.mappings,
        locations,
        functions: tables.functions,
        processes,
        comments: Vec::new(),
        losses: window.losses,
        endings: window.endings,
        balance: window.balance,
    }
}

/// Where a mapping of the window is in the profile.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    start: u64,
    file_offset: u64,
}

#[derive(Default)]
struct Tables {
    mappings: Vec<ProfileMapping>,
    functions: Vec<Function>,
    function_ids: HashMap<Function, usize>,
    strings: HashSet<Arc<str>>,
}

impl Tables {
    /// Gives each mapping a range of its own.
    fn place(&mut self, window: &Window, found: &Found) -> HashMap<MappingId, Place> {
        let (mut taken, mut next) = (BTreeMap::<u64, u64>::new(), SYNTHETIC_START);
        let mut places = HashMap::new();
        for (id, mapping) in window.mappings.iter() {
            let length = mapping.end.saturating_sub(mapping.start).max(1);
            let is_free = |start: u64, end: u64| taken.range(..end).next_back().is_none_or(|(_, taken_end)| *taken_end <= start);
            let start = if is_free(mapping.start, mapping.end) {
                mapping.start
            } else {
                // The same place in two address spaces: the second gets one of its own, at the same distance from a page.
                let start = next + mapping.start % PAGE;
                next += (length + PAGE).next_multiple_of(PAGE);
                start
            };
            taken.insert(start, start.saturating_add(length));
            places.insert(id, Place { index: self.mappings.len(), start, file_offset: mapping.file_offset });
            self.mappings.push(ProfileMapping {
                start,
                limit: start.saturating_add(length),
                file_offset: mapping.file_offset,
                filename: filename(mapping),
                build_id: found.build_ids.get(&id).cloned().unwrap_or_default(),
            });
        }
        places
    }

    fn string(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.strings.insert(Arc::clone(&text));
        text
    }

    fn line(&mut self, line: &SymbolLine) -> Line {
        let function = Function {
            name: self.string(&line.name),
            system_name: self.string(&line.system_name),
            filename: self.string(&line.filename),
            start_line: line.start_line,
        };
        let next = self.functions.len();
        let index = *self.function_ids.entry(function).or_insert_with_key(|function| {
            self.functions.push(function.clone());
            next
        });
        Line { function: index, line: line.line, column: line.column }
    }
}

/// The kernel marks the path of a file that was removed; the mapping is still of the file that had the name.
fn filename(mapping: &Mapping) -> Arc<str> {
    match (&mapping.kind, mapping.name.strip_suffix(" (deleted)")) {
        (MappingKind::Object(_) | MappingKind::Unopened(_), Some(name)) => name.into(),
        _ => Arc::clone(&mapping.name),
    }
}

/// A location for each distinct frame, under the same index.
fn locations(window: &Window, found: Found, places: &HashMap<MappingId, Place>, tables: &mut Tables) -> Vec<Location> {
    let location = |(frame, names): (&crate::model::stack::Frame, Option<Names>)| {
        let mapping = window.mappings.get(frame.mapping);
        let place = places.get(&frame.mapping);
        let address = match (&mapping.kind, place) {
            (MappingKind::Object(_) | MappingKind::Unopened(_), Some(place)) => {
                place.start.wrapping_add(frame.address.0.wrapping_sub(place.file_offset))
            }
            (MappingKind::Vdso, Some(place)) => place.start.wrapping_add(frame.address.0),
            (_, Some(place)) => place.start.wrapping_add(frame.address.0.wrapping_sub(mapping.start)),
            (_, None) => frame.address.0,
        };
        let names = names
            .unwrap_or(Err(Unresolved::NoSymbol))
            .and_then(|lines| if lines.is_empty() { Err(Unresolved::NoSymbol) } else { Ok(lines) });
        let lines = names.map(|lines| lines.iter().map(|line| tables.line(line)).collect());
        Location { mapping: place.map(|place| place.index), address, lines }
    };
    window.stacks.distinct_frames().iter().zip(found.names).map(location).collect()
}

fn process(info: &ProcessInfo, places: &HashMap<MappingId, Place>) -> ProfileProcess {
    let main = info.main.and_then(|main| places.get(&main)).map(|place| place.index);
    ProfileProcess { pid: info.pid, comm: Arc::clone(&info.comm), main }
}

fn samples(window: &Window) -> Vec<Sample> {
    let mut tallies: Vec<(&SampleKey, &Counts)> = window.tallies.iter().collect();
    tallies.sort();
    let sample = |(key, counts): (&SampleKey, &Counts)| Sample {
        locations: window.stacks.frame_indexes(key.stack).iter().map(|index| *index as usize).collect(),
        values: vec![counts.events as i64, weight(window, counts)],
        process: Some(key.process.0 as usize),
        labels: labels(window, key.process, key.thread.and_then(|thread| window.threads.get(thread as usize))),
    };
    tallies.into_iter().map(sample).collect()
}

/// The second column: ticks are as long as the period, cycles were summed as they came.
fn weight(window: &Window, counts: &Counts) -> i64 {
    match window.kind {
        Kind::Cpu => counts.weight.saturating_mul(window.period) as i64,
        Kind::CpuCycles => counts.weight as i64,
    }
}

fn labels(window: &Window, process: ProcessId, thread: Option<&ThreadInfo>) -> Vec<Label> {
    let Some(info) = window.processes.get(process.0 as usize) else { return Vec::new() };
    let mut labels = vec![Label::number("pid", i64::from(info.pid.0), "pid")];
    if !info.comm.is_empty() {
        labels.push(Label::text("comm", Arc::clone(&info.comm)));
    }
    labels.extend(info.labels.iter().cloned());
    if let Some(thread) = thread {
        labels.push(Label::number("tid", i64::from(thread.tid.0), "tid"));
        if !thread.name.is_empty() {
            labels.push(Label::text("thread", Arc::clone(&thread.name)));
        }
    }
    labels
}
