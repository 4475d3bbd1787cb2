//! Puts a profile together from a window and the answers about its frames.

use super::block_labels;
use super::build_id;
use super::jobs::{Answers, Used};
use super::kernel::KernelSymbols;
use super::layout::Layout;
use super::native::LinesOrWhy;
use super::values;
use super::waits::{self, of_class, of_ongoing};
use crate::model::address::FileAddress;
use crate::model::entry_points::EntryPoints;
use crate::model::kind::Kind;
use crate::model::label::Label;
use crate::model::mapping::{MappingId, MappingKind, ObjectId};
use crate::model::partner::Partner;
use crate::model::process::ProcessId;
use crate::model::profile::{Function, Line, Location, Profile, ProfileProcess, Sample, Unresolved};
use crate::model::stack::Frame;
use crate::model::window::{CLASS_GOROUTINE, SampleKey, Window};
use crate::object::ObjectStore;
use foldhash::{HashMap, HashMapExt as _};
use profiler_common::wait::plain_class;
use std::sync::Arc;

/// What is needed to build, and what is built.
pub(super) struct Builder<'a> {
    pub(super) window: &'a Window,
    used: &'a Used,
    answers: &'a Answers,
    objects: &'a ObjectStore,
    /// The kernel's symbols, unless they are hidden.
    pub(super) kernel: Option<&'a KernelSymbols>,
    layout: Layout,
    locations: Vec<Location>,
    location_ids: HashMap<Frame, usize>,
    /// Frames of two mappings may be one place.
    places: HashMap<(Option<usize>, u64, Option<MappingId>), usize>,
    functions: Vec<Function>,
    function_ids: HashMap<Function, usize>,
    texts: HashMap<Box<str>, Arc<str>>,
    /// What labels say of the other sides of waits.
    pub(super) partners: HashMap<Partner, Arc<str>>,
    /// Waits that are not of the kind, and their nanoseconds.
    left_out: (i64, i64),
    /// Releases that may be of no lock, and their nanoseconds.
    either: (i64, i64),
    /// Nanoseconds of releases that runtimes have recorded as well.
    own_locks: i64,
}

impl<'a> Builder<'a> {
    pub(super) fn new(window: &'a Window, used: &'a Used, answers: &'a Answers, objects: &'a ObjectStore) -> Self {
        Self {
            window,
            used,
            answers,
            objects,
            kernel: None,
            layout: Layout::of(&window.dictionary.mappings, &used.mappings),
            locations: Vec::new(),
            location_ids: HashMap::new(),
            places: HashMap::new(),
            functions: Vec::new(),
            function_ids: HashMap::new(),
            texts: HashMap::new(),
            partners: HashMap::new(),
            left_out: (0, 0),
            either: (0, 0),
            own_locks: 0,
        }
    }

    pub(super) fn build(mut self) -> Profile {
        self.set_build_ids();
        let processes: HashMap<ProcessId, usize> = self.used.processes.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        let samples = self.samples(&processes);
        let window = self.window;
        Profile {
            kind: window.kind,
            sample_types: window.kind.sample_types().to_vec(),
            period_type: window.kind.period_type(),
            period: signed(window.period),
            start: window.start,
            duration: window.duration,
            samples,
            processes: self.used.processes.iter().map(|id| self.process(*id)).collect(),
            mappings: self.layout.mappings,
            locations: self.locations,
            entry_points: EntryPoints { given: given(&window.dictionary.entry_points, &self.functions) },
            functions: self.functions,
            comments: window
                .notes
                .iter()
                .cloned()
                .chain(self.answers.troubles.iter().map(|trouble| format!("symbolization: {trouble}")))
                .chain(waits::left_out(window.kind, self.left_out))
                .chain(waits::either(self.either))
                .chain(own_locks(self.own_locks))
                .collect(),
            losses: window.losses,
            endings: window.endings,
            balance: window.balance,
            is_part: false,
        }
    }

    fn set_build_ids(&mut self) {
        let mut kernel_build_id: Option<Arc<str>> = None;
        for id in &self.used.mappings {
            let (Some(placed), kind) = (self.layout.placed.get(id), &self.window.dictionary.mappings.get(*id).kind) else { continue };
            let build_id = match kind {
                MappingKind::Kernel => {
                    let id = kernel_build_id.get_or_insert_with(|| build_id::of_kernel().unwrap_or_default().into());
                    Some(Arc::clone(id))
                }
                kind => self.answers.build_id(kind).map(|id| build_id::hex(id).into()),
            };
            if let Some(build_id) = build_id {
                self.layout.mappings[placed.index].build_id = build_id;
            }
        }
    }

    fn process(&self, id: ProcessId) -> ProfileProcess {
        let info = &self.window.dictionary.processes[id.0 as usize];
        let main = info.main.and_then(|main| self.layout.placed.get(&main)).map(|placed| placed.index);
        ProfileProcess { pid: info.pid, comm: Arc::clone(&info.comm), main }
    }

    /// The samples. Stacks whose frames turn out to be the same places are one.
    fn samples(&mut self, processes: &HashMap<ProcessId, usize>) -> Vec<Sample> {
        let mut samples: Vec<Sample> = Vec::with_capacity(self.used.samples.len());
        let mut known: HashMap<(ProcessId, Option<u32>, Vec<usize>, u64), usize> = HashMap::new();
        let used = self.used;
        for (key, counts) in &used.samples {
            let mut frames = self.window.dictionary.stacks.frames(key.stack);
            frames.retain(|frame| !self.is_left_out(*frame));
            let mut locations: Vec<usize> = frames.into_iter().map(|frame| self.location(frame)).collect();
            let mut hidden = 0;
            if self.window.dictionary.logical.contains(&key.stack) {
                locations = self.without_repeated(locations);
                hidden = if self.window.kind.is_of_blocks() { self.runtime_frames(&locations) } else { 0 };
            }
            let (values, raw) = values::of((self.window.kind, key.class), self.window.period, counts);
            if self.is_of_own_locks(key, &locations) {
                self.own_locks += values.get(1).copied().unwrap_or_default();
                continue;
            }
            if !self.is_kept(key, &locations) {
                add(&mut self.left_out, &values);
                continue;
            }
            if waits::may_be_either(self.window.kind, self.names(&locations)) {
                add(&mut self.either, &values);
            }
            // Locks that are told by different means are locks.
            let is_of_thread = self.window.kind.is_of_contentions() && key.class != CLASS_GOROUTINE;
            let class = match self.window.kind {
                // The columns tell them apart.
                Kind::Mmap => 0,
                Kind::Mutex if is_of_thread && !self.window.dictionary.shows_partners => 0,
                _ if is_of_thread => key.class - plain_class(key.class),
                _ => key.class,
            };
            match known.entry((key.process, key.thread, locations, class)) {
                std::collections::hash_map::Entry::Occupied(at) => {
                    let sample = &mut samples[*at.get()];
                    sample.values.iter_mut().zip(values).for_each(|(sum, value)| *sum = sum.saturating_add(value));
                    if let (Some(sum), Some(raw)) = (&mut sample.raw, raw) {
                        sum.add(&raw);
                    }
                }
                std::collections::hash_map::Entry::Vacant(entry) => {
                    let locations = entry.key().2.clone();
                    entry.insert(samples.len());
                    let process = processes.get(&key.process).copied();
                    let mut labels = self.labels(*key);
                    labels.extend(self.partner_label(key));
                    samples.push(Sample { locations, hidden, values, raw, process, labels });
                }
            }
        }
        samples
    }

    /// The names of the functions at some locations.
    pub(super) fn names<'b>(&'b self, locations: &'b [usize]) -> impl Iterator<Item = &'b str> {
        let lines = locations.iter().filter_map(|at| self.locations[*at].lines.as_ref().ok()).flatten();
        lines.map(|line| &*self.functions[line.function].name)
    }

    /// Leaves out the frames of functions that were inlined into the next ones: the address of the innermost one unfolds to all of them.
    fn without_repeated(&self, locations: Vec<usize>) -> Vec<usize> {
        let plain = |line: &Line| (line.function, line.line);
        let mut kept: Vec<usize> = Vec::with_capacity(locations.len());
        // What the last address that was kept unfolds to, beyond the function that is reached by now.
        let mut rest: &[Line] = &[];
        for location in locations {
            let lines = self.locations[location].lines.as_deref().unwrap_or_default();
            if !rest.is_empty() && lines.iter().map(plain).eq(rest.iter().map(plain)) {
                rest = &rest[1..];
                continue;
            }
            rest = lines.get(1..).unwrap_or_default();
            kept.push(location);
        }
        // What every goroutine's first function returns to, which runtime/pprof shows nowhere.
        if kept.last().is_some_and(|last| self.names(&[*last]).eq(["runtime.goexit"])) {
            kept.pop();
        }
        kept
    }

    /// How many frames at the leaf's end are Go's runtime's, as runtime/pprof leaves them out of a heap profile (`writeHeapProto`, Go 1.26); none if all are.
    fn runtime_frames(&self, locations: &[usize]) -> usize {
        let is_runtime = |location: &usize| {
            let lines = self.locations[*location].lines.as_deref().unwrap_or_default();
            let name = lines.last().map_or("", |line| &*self.functions[line.function].name);
            name.starts_with("runtime.") || name.starts_with("internal/runtime/")
        };
        locations.iter().position(|location| !is_runtime(location)).unwrap_or(0)
    }

    /// A number has a unit, a text is not empty, and no key is there twice: everything else confuses readers of pprof's format.
    fn labels(&self, key: SampleKey) -> Vec<Label> {
        let process = &self.window.dictionary.processes[key.process.0 as usize];
        let mut labels = vec![Label::number("pid", i64::from(process.pid.0), "pid")];
        let text = |key: &'static str, value: &Arc<str>| (!value.is_empty()).then(|| Label::text(key, Arc::clone(value)));
        labels.extend(text("comm", &process.comm));
        if let Some(thread) = key.thread.and_then(|at| self.window.dictionary.threads.get(at as usize)) {
            labels.push(Label::number("tid", i64::from(thread.tid.0), "tid"));
            labels.extend(text("thread", &thread.name));
        }
        match self.window.kind.is_of_blocks() {
            true => {
                labels.extend(block_labels::of(key.class));
                // What it left is in use for ever, and no leak of one that runs.
                let ended = process.ended.filter(|_| self.window.kind.tells_what_lives());
                labels.extend(ended.map(|how| Label::text("ended", how.name())));
            }
            false => labels.extend(of_class(self.window.kind, key.class)),
        }
        labels.extend((self.window.kind.is_of_waits() && key.class == CLASS_GOROUTINE).then(|| Label::text("waiter", "goroutine")));
        labels.extend(of_ongoing(self.window.kind, key.class).filter(|_| key.class != CLASS_GOROUTINE));
        for label in process.labels.iter() {
            let is_empty = matches!(&label.value, crate::model::label::LabelValue::Text(text) if text.is_empty());
            if !is_empty && labels.iter().all(|known| known.key != label.key) {
                labels.push(label.clone());
            }
        }
        labels
    }

    /// The address that a frame is shown with. What would tell where this boot has put the kernel is not shown: modules lie where they lie whatever the
    /// slide is, and where the symbols are hidden the slide could not be taken off. Those frames are numbered instead, or have one place for all.
    fn shown_address(&self, frame: Frame) -> FileAddress {
        let mapping = self.window.dictionary.mappings.get(frame.mapping);
        match mapping.kind {
            MappingKind::Kernel if self.kernel.is_none() => FileAddress(mapping.start),
            MappingKind::KernelModule if self.kernel.is_none() => FileAddress(mapping.start),
            MappingKind::KernelModule => FileAddress(mapping.start.saturating_add(self.location_ids.len() as u64)),
            _ => frame.address,
        }
    }

    pub(super) fn location(&mut self, frame: Frame) -> usize {
        if let Some(at) = self.location_ids.get(&frame) {
            return *at;
        }
        let (mapping, address) = self.layout.locate(frame.mapping, self.shown_address(frame));
        // Without a place in the profile, the window's mapping tells them apart.
        let place = (mapping, address, mapping.is_none().then_some(frame.mapping));
        let at = match self.places.get(&place) {
            Some(at) => *at,
            None => {
                let lines = self.lines(frame);
                self.locations.push(Location { mapping, address, lines });
                self.places.insert(place, self.locations.len() - 1);
                self.locations.len() - 1
            }
        };
        self.location_ids.insert(frame, at);
        at
    }

    fn lines(&mut self, frame: Frame) -> Result<Vec<Line>, Unresolved> {
        let (answers, window) = (self.answers, self.window);
        let mapping = window.dictionary.mappings.get(frame.mapping);
        match &mapping.kind {
            MappingKind::Object(id) => self.object_lines(*id, frame.address),
            MappingKind::Vdso => self.native_lines(answers.of_vdso(frame.address)?),
            MappingKind::Anonymous(process) => self.native_lines(answers.of_jit(*process, frame.address)?),
            MappingKind::Unopened(file) if self.objects.was_refused(*file) => Err(Unresolved::FileRefused),
            MappingKind::Unopened(_) => Err(Unresolved::FileGone),
            MappingKind::Kernel | MappingKind::KernelModule => {
                let (name, _) = self.kernel.ok_or(Unresolved::KernelHidden)?.lookup(frame.address.0).ok_or(Unresolved::NoSymbol)?;
                Ok(vec![self.named(&name)])
            }
            MappingKind::Lost => Ok(vec![self.named(&mapping.name)]),
        }
    }

    fn object_lines(&mut self, id: ObjectId, address: FileAddress) -> Result<Vec<Line>, Unresolved> {
        let answers = self.answers;
        self.native_lines(answers.of_object(id, address)?)
    }

    fn native_lines(&mut self, found: &LinesOrWhy) -> Result<Vec<Line>, Unresolved> {
        let found = found.as_ref().map_err(|why| *why)?;
        let mut lines = Vec::with_capacity(found.len());
        for line in found.iter().filter(|line| !line.name.is_empty()) {
            let function = Function {
                name: self.text(&line.name),
                system_name: self.text(if line.system_name.is_empty() { &line.name } else { &line.system_name }),
                filename: self.text(&line.filename),
                start_line: line.start_line,
            };
            lines.push(Line { function: self.function(function), line: line.line, column: line.column, go: line.go });
        }
        if lines.is_empty() { Err(Unresolved::NoSymbol) } else { Ok(lines) }
    }

    fn named(&mut self, name: &str) -> Line {
        let name = self.text(name);
        let function = Function { system_name: Arc::clone(&name), name, filename: self.text(""), start_line: 0 };
        Line { function: self.function(function), line: 0, column: 0, go: None }
    }

    fn function(&mut self, function: Function) -> usize {
        if let Some(at) = self.function_ids.get(&function) {
            return *at;
        }
        self.functions.push(function.clone());
        self.function_ids.insert(function, self.functions.len() - 1);
        self.functions.len() - 1
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = text.into();
        self.texts.insert(text.into(), Arc::clone(&shared));
        shared
    }
}

/// Says what would have counted twice.
fn own_locks(ns: i64) -> Option<String> {
    (ns > 0).then(|| format!("left out: {:.3} s at Go's runtime's own locks, which its own profile has", ns as f64 / 1e9))
}

/// Adds the two columns of waits.
fn add((events, ns): &mut (i64, i64), values: &[i64]) {
    *events += values.first().copied().unwrap_or_default();
    *ns += values.get(1).copied().unwrap_or_default();
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What the profile calls functions that are known by their symbols.
fn given(symbols: &[String], functions: &[Function]) -> Vec<String> {
    let name =
        |symbol: &String| functions.iter().find(|function| *function.system_name == **symbol).map(|function| function.name.to_string());
    symbols.iter().map(|symbol| name(symbol).unwrap_or_else(|| symbol.clone())).collect()
}
