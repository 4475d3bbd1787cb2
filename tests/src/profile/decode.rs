//! From a message to a [`Profile`], refusing what any reader refuses: the union of the rules of `pprof`, Parca and the builder of perf_data_converter.

use super::wire::{Field, fields};
use super::{Function, Label, Location, Mapping, Profile, Sample};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashSet;

/// Decodes and checks an uncompressed message.
pub(super) fn decode(message: &[u8]) -> Result<Profile> {
    let fields = fields(message)?;
    let strings = Strings::collect(&fields)?;
    let mut profile = Profile::default();
    for field in &fields {
        take(field, &strings, &mut profile)?;
    }
    check(&profile)?;
    Ok(profile)
}

/// One field of the root message.
fn take(field: &Field<'_>, strings: &Strings, profile: &mut Profile) -> Result<()> {
    match field.number {
        1 => profile.sample_types.push(value_type(field, strings)?),
        2 => profile.samples.push(sample(field, strings)?),
        3 => profile.mappings.push(mapping(field, strings, profile.mappings.len())?),
        4 => profile.locations.push(location(field, profile.locations.len())?),
        5 => profile.functions.push(function(field, strings, profile.functions.len())?),
        6 => {}
        9 => profile.time_ns = field.signed()?,
        10 => profile.duration_ns = field.signed()?,
        11 => profile.period_type = value_type(field, strings)?,
        12 => profile.period = field.signed()?,
        13 => {
            let mut comments = Vec::new();
            field.append_to(&mut comments)?;
            for comment in comments {
                profile.comments.push(strings.at(comment)?);
            }
        }
        7 | 8 | 14 | 15 => drop(strings.at(field.unsigned()?)?),
        other => bail!("profile.proto has no field {other}"),
    }
    Ok(())
}

/// The string table.
struct Strings(Vec<String>);

impl Strings {
    fn collect(fields: &[Field<'_>]) -> Result<Self> {
        let mut strings = Vec::new();
        for field in fields.iter().filter(|field| field.number == 6) {
            strings.push(String::from_utf8(field.bytes()?.to_vec()).context("a string is not UTF-8")?);
        }
        ensure!(strings.first().is_some_and(String::is_empty), "the string table does not begin with the empty string");
        Ok(Self(strings))
    }

    fn at(&self, index: u64) -> Result<String> {
        let string = usize::try_from(index).ok().and_then(|index| self.0.get(index));
        string.cloned().with_context(|| format!("string {index} is not in the table"))
    }
}

fn value_type(field: &Field<'_>, strings: &Strings) -> Result<(String, String)> {
    let mut value = (String::new(), String::new());
    for field in fields(field.bytes()?)? {
        match field.number {
            1 => value.0 = strings.at(field.unsigned()?)?,
            2 => value.1 = strings.at(field.unsigned()?)?,
            other => bail!("ValueType has no field {other}"),
        }
    }
    Ok(value)
}

fn sample(field: &Field<'_>, strings: &Strings) -> Result<Sample> {
    let (mut ids, mut values) = (Vec::new(), Vec::new());
    let mut labels = Vec::new();
    for field in fields(field.bytes()?)? {
        match field.number {
            1 => field.append_to(&mut ids)?,
            2 => field.append_to(&mut values)?,
            3 => labels.push(label(&field, strings)?),
            other => bail!("Sample has no field {other}"),
        }
    }
    let locations = ids.into_iter().map(|id| index_of(id, "location")).collect::<Result<_>>()?;
    Ok(Sample { locations, values: values.into_iter().map(u64::cast_signed).collect(), labels })
}

fn label(field: &Field<'_>, strings: &Strings) -> Result<Label> {
    let mut label = Label::default();
    for field in fields(field.bytes()?)? {
        match field.number {
            1 => label.key = strings.at(field.unsigned()?)?,
            2 => label.text = strings.at(field.unsigned()?)?,
            3 => label.number = field.signed()?,
            4 => label.unit = strings.at(field.unsigned()?)?,
            other => bail!("Label has no field {other}"),
        }
    }
    ensure!(!label.key.is_empty(), "a label without a key");
    ensure!(label.text.is_empty() || (label.number == 0 && label.unit.is_empty()), "label {} is text and number at once", label.key);
    ensure!(!label.text.is_empty() || !label.unit.is_empty(), "label {} vanishes in pprof: neither text nor unit", label.key);
    Ok(label)
}

fn mapping(field: &Field<'_>, strings: &Strings, index: usize) -> Result<Mapping> {
    let mut mapping = Mapping::default();
    let mut id = 0;
    for field in fields(field.bytes()?)? {
        let value = field.unsigned()?;
        match field.number {
            1 => id = value,
            2 => mapping.start = value,
            3 => mapping.limit = value,
            4 => mapping.offset = value,
            5 => mapping.filename = strings.at(value)?,
            6 => mapping.build_id = strings.at(value)?,
            7 => mapping.has_functions = value != 0,
            8 => mapping.has_filenames = value != 0,
            9 => mapping.has_line_numbers = value != 0,
            10 => mapping.has_inline_frames = value != 0,
            other => bail!("Mapping has no field {other}"),
        }
    }
    in_order(id, index, "mapping")?;
    Ok(mapping)
}

fn location(field: &Field<'_>, index: usize) -> Result<Location> {
    let mut location = Location::default();
    let mut id = 0;
    for field in fields(field.bytes()?)? {
        match field.number {
            1 => id = field.unsigned()?,
            2 => location.mapping = (field.unsigned()? != 0).then(|| index_of(field.unsigned()?, "mapping")).transpose()?,
            3 => location.address = field.unsigned()?,
            4 => location.lines.push(line(&field)?),
            5 => {}
            other => bail!("Location has no field {other}"),
        }
    }
    in_order(id, index, "location")?;
    Ok(location)
}

fn line(field: &Field<'_>) -> Result<(usize, i64)> {
    let (mut function, mut line) = (0, 0);
    for field in fields(field.bytes()?)? {
        match field.number {
            1 => function = field.unsigned()?,
            2 => line = field.signed()?,
            3 => {}
            other => bail!("Line has no field {other}"),
        }
    }
    Ok((index_of(function, "function")?, line))
}

fn function(field: &Field<'_>, strings: &Strings, index: usize) -> Result<Function> {
    let mut function = Function::default();
    let mut id = 0;
    for field in fields(field.bytes()?)? {
        match field.number {
            1 => id = field.unsigned()?,
            2 => function.name = strings.at(field.unsigned()?)?,
            3 => function.system_name = strings.at(field.unsigned()?)?,
            4 => function.filename = strings.at(field.unsigned()?)?,
            5 => function.start_line = field.signed()?,
            other => bail!("Function has no field {other}"),
        }
    }
    in_order(id, index, "function")?;
    Ok(function)
}

/// An id as an index. Ids are 1..n in the order of their table: Parca refuses anything else.
fn index_of(id: u64, what: &str) -> Result<usize> {
    ensure!(id != 0, "id 0 names a {what}");
    Ok(usize::try_from(id - 1)?)
}

fn in_order(id: u64, index: usize, what: &str) -> Result<()> {
    ensure!(id == index as u64 + 1, "{what} number {} has the id {id}; strict readers want 1..n in order", index + 1);
    Ok(())
}

/// What holds between the tables.
fn check(profile: &Profile) -> Result<()> {
    ensure!(!profile.sample_types.is_empty(), "no sample type");
    ensure!(profile.time_ns > 0, "no time: two concatenated profiles could not be told from one");
    let mut seen = HashSet::new();
    for (at, sample) in profile.samples.iter().enumerate() {
        ensure!(sample.values.len() == profile.sample_types.len(), "sample {at} has {} values", sample.values.len());
        ensure!(sample.locations.iter().all(|location| *location < profile.locations.len()), "sample {at}: unknown location");
        seen.clear();
        ensure!(sample.labels.iter().all(|label| seen.insert(label.key.clone())), "sample {at}: a label occurs twice");
    }
    for (at, location) in profile.locations.iter().enumerate() {
        ensure!(location.mapping.is_none_or(|mapping| mapping < profile.mappings.len()), "location {at}: unknown mapping");
        ensure!(location.lines.iter().all(|(function, _)| *function < profile.functions.len()), "location {at}: unknown function");
        if let Some(mapping) = location.mapping.map(|mapping| &profile.mappings[mapping]) {
            let inside = mapping.limit == 0 || (mapping.start..mapping.limit).contains(&location.address);
            ensure!(inside, "location {at}: {:#x} is outside of {}", location.address, mapping.filename);
        }
    }
    ensure!(profile.functions.iter().all(|function| !function.name.is_empty()), "a function without a name");
    Ok(())
}
