//! `profile.proto`, gzip-compressed. Obeys the union of what strict readers want: ids 1..n in table order, `string_table[0]` empty, a unit on
//! every numeric label, no `default_sample_type` where the last type is the default anyway (one of them reads it as a number).

use super::proto;
use super::{go_stack, lost};
use crate::model::kind::{Kind, ValueType};
use crate::model::label::{Label, LabelValue};
use crate::model::profile::{Function, Line, Location, Profile, ProfileMapping, Sample};
use flate2::{Compression, GzBuilder};
use foldhash::HashMap;
use prost::Message;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The profile as a gzip file without a name or a time in its header: equal profiles give equal bytes.
pub(super) fn encode(profile: &Profile) -> Vec<u8> {
    let plain = message(profile).encode_to_vec();
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::with_capacity(plain.len() / 4), Compression::default());
    gzip.write_all(&plain).and_then(|()| gzip.finish()).expect("writing to memory does not fail")
}

/// The texts that were seen, each once.
struct Strings {
    indexes: HashMap<Arc<str>, i64>,
    table: Vec<String>,
}

impl Strings {
    fn new() -> Self {
        Self { indexes: HashMap::from_iter([(Arc::from(""), 0)]), table: vec![String::new()] }
    }

    fn index(&mut self, text: &str) -> i64 {
        if let Some(index) = self.indexes.get(text) {
            return *index;
        }
        let index = self.table.len() as i64;
        self.indexes.insert(Arc::from(text), index);
        self.table.push(text.to_owned());
        index
    }

    fn value_type(&mut self, value_type: ValueType) -> proto::ValueType {
        proto::ValueType { name: self.index(value_type.name), unit: self.index(value_type.unit) }
    }

    /// The label, or none where a reader would drop it anyway: no key, or an empty text.
    fn label(&mut self, label: &Label) -> Option<proto::Label> {
        if label.key.is_empty() {
            return None;
        }
        let key = self.index(&label.key);
        match &label.value {
            LabelValue::Text(text) if text.is_empty() => None,
            LabelValue::Text(text) => Some(proto::Label { key, str: self.index(text), num: 0, num_unit: 0 }),
            LabelValue::Number { value, unit } => Some(proto::Label { key, str: 0, num: *value, num_unit: self.index(unit) }),
        }
    }
}

/// Builds the message.
fn message(profile: &Profile) -> proto::Profile {
    let mut strings = Strings::new();
    let mut out = proto::Profile {
        sample_type: profile.sample_types.iter().map(|value_type| strings.value_type(*value_type)).collect(),
        time_nanos: nanoseconds(profile.start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
        duration_nanos: nanoseconds(profile.duration),
        period_type: Some(strings.value_type(profile.period_type)),
        period: profile.period,
        ..proto::Profile::default()
    };
    let ids = push_mappings(profile, &mut strings, &mut out.mapping);
    push_functions(profile, &mut strings, &mut out.function);
    out.location = profile.locations.iter().enumerate().map(|(at, location)| to_location(at, location, &ids)).collect();
    out.sample = profile.samples.iter().map(|sample| to_sample(profile, sample, &mut strings)).collect();
    push_lost(profile, &mut strings, &mut out);
    if profile.kind.default_column() + 1 != profile.sample_types.len() {
        out.default_sample_type = strings.index(profile.sample_types[profile.kind.default_column()].name);
    }
    out.drop_frames = strings.index(&profile.drop_frames());
    out.comment = lost::comments(profile).iter().map(|comment| strings.index(comment)).collect();
    out.string_table = strings.table;
    out
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// What the locations of one mapping carry.
#[derive(Clone, Copy, Default)]
struct Carries {
    functions: bool,
    filenames: bool,
    line_numbers: bool,
    inline_frames: bool,
    unresolved: bool,
}

/// The ids of a mapping: one for its locations with names, one for those without.
struct MappingIds {
    resolved: u64,
    unresolved: u64,
}

fn carried(profile: &Profile) -> Vec<Carries> {
    let mut all = vec![Carries::default(); profile.mappings.len()];
    for location in &profile.locations {
        let Some(mapping) = location.mapping else { continue };
        let carries = &mut all[mapping];
        let Ok(lines) = &location.lines else {
            carries.unresolved = true;
            continue;
        };
        carries.functions = true;
        carries.inline_frames |= lines.len() > 1;
        carries.line_numbers |= lines.iter().any(|line| line.line > 0);
        carries.filenames |= lines.iter().any(|line| !profile.functions[line.function].filename.is_empty());
    }
    all
}

/// The main binary first, because readers take the profile's title from there; with several processes there is none, and `[system]` stands
/// in its place. The flags hold for a whole mapping, and one that has them is not symbolized any more: a mapping of which only a part has
/// names becomes two, so that a reader with better symbols can still name the rest.
fn push_mappings(profile: &Profile, strings: &mut Strings, out: &mut Vec<proto::Mapping>) -> Vec<MappingIds> {
    let main = match profile.processes.as_slice() {
        [process] => process.main.filter(|main| *main < profile.mappings.len()),
        _ => None,
    };
    if main.is_none() {
        out.push(proto::Mapping { id: 1, filename: strings.index("[system]"), ..proto::Mapping::default() });
    }
    let carried = carried(profile);
    let mut ids: Vec<MappingIds> = profile.mappings.iter().map(|_| MappingIds { resolved: 0, unresolved: 0 }).collect();
    let rest = (0..profile.mappings.len()).filter(|at| Some(*at) != main);
    for at in main.into_iter().chain(rest) {
        let (mapping, carries) = (&profile.mappings[at], carried[at]);
        let id = push_mapping(mapping, carries, strings, out);
        let unresolved = match carries {
            Carries { functions: true, unresolved: true, .. } => push_mapping(mapping, Carries::default(), strings, out),
            _ => id,
        };
        ids[at] = MappingIds { resolved: id, unresolved };
    }
    ids
}

fn push_mapping(mapping: &ProfileMapping, carries: Carries, strings: &mut Strings, out: &mut Vec<proto::Mapping>) -> u64 {
    let id = out.len() as u64 + 1;
    out.push(proto::Mapping {
        id,
        memory_start: mapping.start,
        memory_limit: mapping.limit,
        file_offset: mapping.file_offset,
        filename: strings.index(&mapping.filename),
        build_id: strings.index(&mapping.build_id),
        has_functions: carries.functions,
        has_filenames: carries.filenames,
        has_line_numbers: carries.line_numbers,
        has_inline_frames: carries.inline_frames,
    });
    id
}

/// The linkage name. pprof takes a name that equals it for one still to be demangled and cuts every `<...>` out of it, so that
/// `<T as Display>::fmt` becomes `::fmt`; an empty linkage name keeps it from that.
fn system_name(function: &Function) -> &str {
    if function.name == function.system_name && function.name.contains('<') { "" } else { &function.system_name }
}

fn push_functions(profile: &Profile, strings: &mut Strings, out: &mut Vec<proto::Function>) {
    for (at, function) in profile.functions.iter().enumerate() {
        out.push(proto::Function {
            id: at as u64 + 1,
            name: strings.index(&function.name),
            system_name: strings.index(system_name(function)),
            filename: strings.index(&function.filename),
            start_line: i64::from(function.start_line),
        });
    }
}

fn to_location(at: usize, location: &Location, ids: &[MappingIds]) -> proto::Location {
    let mapping_id = location.mapping.map_or(0, |mapping| match location.lines {
        Ok(_) => ids[mapping].resolved,
        Err(_) => ids[mapping].unresolved,
    });
    let to_line =
        |line: &Line| proto::Line { function_id: line.function as u64 + 1, line: i64::from(line.line), column: i64::from(line.column) };
    let line = location.lines.as_ref().map(|lines| lines.iter().map(to_line).collect()).unwrap_or_default();
    proto::Location { id: at as u64 + 1, mapping_id, address: location.address, line }
}

fn to_sample(profile: &Profile, sample: &Sample, strings: &mut Strings) -> proto::Sample {
    let mut shown = sample.shown();
    if profile.kind == Kind::Goroutine
        && let [rest @ .., last] = shown
        && go_stack::is_end(profile, &profile.locations[*last])
    {
        shown = rest;
    }
    proto::Sample {
        location_id: shown.iter().map(|location| *location as u64 + 1).collect(),
        value: sample.values.clone(),
        label: sample.labels.iter().filter_map(|label| strings.label(label)).collect(),
    }
}

/// Adds what was lost as samples of one frame each, and gives samples without any frame one that says so.
fn push_lost(profile: &Profile, strings: &mut Strings, out: &mut proto::Profile) {
    for lost in lost::samples(profile) {
        let location = push_named(&lost.name, lost.address(), strings, out);
        out.sample.push(proto::Sample { location_id: vec![location], value: lost.values, label: Vec::new() });
    }
    if out.sample.iter().any(|sample| sample.location_id.is_empty()) {
        let location = push_named(lost::NO_STACK, 0, strings, out);
        for sample in out.sample.iter_mut().filter(|sample| sample.location_id.is_empty()) {
            sample.location_id.push(location);
        }
    }
}

/// Adds a function that is no code, and its only location; gives the id of the location.
fn push_named(name: &str, address: u64, strings: &mut Strings, out: &mut proto::Profile) -> u64 {
    let (function, name) = (out.function.len() as u64 + 1, strings.index(name));
    out.function.push(proto::Function { id: function, name, system_name: name, ..proto::Function::default() });
    let location = out.location.len() as u64 + 1;
    let line = vec![proto::Line { function_id: function, line: 0, column: 0 }];
    out.location.push(proto::Location { id: location, mapping_id: 0, address, line });
    location
}

#[cfg(test)]
#[path = "pprof_tests.rs"]
mod tests;
