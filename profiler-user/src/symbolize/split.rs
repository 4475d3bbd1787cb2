//! One profile for each process: its samples, and of the tables only what they refer to, its main binary first.

use crate::model::profile::{Location, Profile, ProfileMapping, Sample};
use std::collections::BTreeMap;
use std::collections::HashMap;

/// A profile for each (pid, name). What was lost is not told apart by process: each part carries the sums of the whole.
pub fn split(profile: &Profile) -> Vec<Profile> {
    let mut parts: BTreeMap<(u32, &str), Vec<&Sample>> = BTreeMap::new();
    for sample in &profile.samples {
        if let Some(process) = sample.process.and_then(|index| profile.processes.get(index)) {
            parts.entry((process.pid.0, &process.comm)).or_default().push(sample);
        }
    }
    parts.into_values().map(|samples| part(profile, &samples)).collect()
}

fn part(whole: &Profile, samples: &[&Sample]) -> Profile {
    let process = image(samples).and_then(|index| whole.processes.get(index)).cloned();
    let mut tables =
        Tables { whole, mappings: Vec::new(), mapping_ids: HashMap::new(), locations: Vec::new(), location_ids: HashMap::new() };
    let main = process.as_ref().and_then(|process| process.main).map(|main| tables.mapping(main));
    let samples = samples.iter().map(|sample| Sample {
        locations: sample.locations.iter().map(|location| tables.location(*location)).collect(),
        hidden: sample.hidden,
        values: sample.values.clone(),
        raw: sample.raw,
        process: Some(0),
        labels: sample.labels.clone(),
    });
    let samples = samples.collect();
    let (mappings, mut locations) = (tables.mappings, tables.locations);
    let functions = keep_functions(whole, &mut locations);
    Profile {
        samples,
        mappings,
        locations,
        functions,
        processes: process
            .into_iter()
            .map(|mut process| {
                process.main = main;
                process
            })
            .collect(),
        is_part: true,
        sample_types: whole.sample_types.clone(),
        entry_points: whole.entry_points.clone(),
        comments: whole.comments.clone(),
        ..*whole
    }
}

/// Of the programs that the process has been under this name, the one with most samples: a script and what it becomes may have one name.
fn image(samples: &[&Sample]) -> Option<usize> {
    let mut events: BTreeMap<usize, i64> = BTreeMap::new();
    for sample in samples {
        let count = events.entry(sample.process?).or_default();
        *count = count.saturating_add(sample.values.first().copied().unwrap_or_default());
    }
    events.into_iter().max_by_key(|(_, count)| *count).map(|(process, _)| process)
}

struct Tables<'a> {
    whole: &'a Profile,
    mappings: Vec<ProfileMapping>,
    mapping_ids: HashMap<usize, usize>,
    locations: Vec<Location>,
    location_ids: HashMap<usize, usize>,
}

impl Tables<'_> {
    fn mapping(&mut self, old: usize) -> usize {
        let (mappings, whole) = (&mut self.mappings, self.whole);
        *self.mapping_ids.entry(old).or_insert_with(|| {
            mappings.push(whole.mappings[old].clone());
            mappings.len() - 1
        })
    }

    fn location(&mut self, old: usize) -> usize {
        if let Some(new) = self.location_ids.get(&old) {
            return *new;
        }
        let mut location = self.whole.locations[old].clone();
        location.mapping = location.mapping.map(|mapping| self.mapping(mapping));
        self.locations.push(location);
        self.location_ids.insert(old, self.locations.len() - 1);
        self.locations.len() - 1
    }
}

/// The functions that the locations refer to, which then refer to their new places.
fn keep_functions(whole: &Profile, locations: &mut [Location]) -> Vec<crate::model::profile::Function> {
    let (mut functions, mut ids) = (Vec::new(), HashMap::new());
    for line in locations.iter_mut().filter_map(|location| location.lines.as_mut().ok()).flatten() {
        line.function = *ids.entry(line.function).or_insert_with(|| {
            functions.push(whole.functions[line.function].clone());
            functions.len() - 1
        });
    }
    functions
}
