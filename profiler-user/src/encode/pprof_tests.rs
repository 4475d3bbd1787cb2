//! The bytes read back: by a decoder that shares nothing with the encoder, and by Go's own tool.

use super::encode;
use crate::encode::sample_profile::sample_profile;
use crate::encode::text;
use crate::model::label::{Label, LabelValue};
use crate::model::loss::Loss;
use crate::model::profile::{Function, Line, Location, Profile, Sample, Unresolved};
use proptest::prelude::*;
use std::io::Read;
use std::process::Command;

/// A field of a message: its number, and either its number or its bytes.
type Field = (u64, u64, Vec<u8>);

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint of more than ten bytes");
}

fn fields(mut bytes: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = varint(&mut bytes);
        match key & 7 {
            0 => fields.push((key >> 3, value, Vec::new())),
            2 => {
                let (content, rest) = bytes.split_at(value as usize);
                fields.push((key >> 3, 0, content.to_vec()));
                bytes = rest;
            }
            wire => panic!("wire type {wire}"),
        }
    }
    fields
}

fn messages(fields: &[Field], number: u64) -> Vec<Vec<Field>> {
    fields.iter().filter(|field| field.0 == number).map(|field| self::fields(&field.2)).collect()
}

fn number(fields: &[Field], number: u64) -> u64 {
    fields.iter().find(|field| field.0 == number).map_or(0, |field| field.1)
}

fn packed(fields: &[Field], number: u64) -> Vec<u64> {
    let mut values = Vec::new();
    for (_, _, bytes) in fields.iter().filter(|field| field.0 == number) {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            values.push(varint(&mut rest));
        }
    }
    values
}

/// What a reader sees of a sample: its functions with lines, leaf first, its values, its labels.
type Seen = (Vec<(u64, Vec<(String, String, u64)>)>, Vec<i64>, Vec<(String, String)>);

struct Decoded {
    fields: Vec<Field>,
    strings: Vec<String>,
}

impl Decoded {
    fn new(gzip: &[u8]) -> Self {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(gzip).read_to_end(&mut plain).unwrap();
        let fields = fields(&plain);
        let strings: Vec<String> =
            fields.iter().filter(|field| field.0 == 6).map(|field| String::from_utf8(field.2.clone()).unwrap()).collect();
        assert_eq!(strings[0], "");
        Self { fields, strings }
    }

    fn text(&self, fields: &[Field], field: u64) -> String {
        self.strings[number(fields, field) as usize].clone()
    }

    /// All messages of a table, whose ids must be 1..n in order.
    fn table(&self, field: u64) -> Vec<Vec<Field>> {
        let table = messages(&self.fields, field);
        for (at, row) in table.iter().enumerate() {
            assert_eq!(number(row, 1), at as u64 + 1);
        }
        table
    }

    fn samples(&self) -> Vec<Seen> {
        let (locations, functions) = (self.table(4), self.table(5));
        let line = |line: &Vec<Field>| {
            let function = &functions[number(line, 1) as usize - 1];
            (self.text(function, 2), self.text(function, 3), number(line, 2))
        };
        let place = |id: &u64| {
            let location = &locations[*id as usize - 1];
            (number(location, 3), messages(location, 4).iter().map(line).collect())
        };
        let label = |label: &Vec<Field>| {
            let unit = self.text(label, 4);
            (self.text(label, 1), if unit.is_empty() { self.text(label, 2) } else { format!("{} {unit}", number(label, 3) as i64) })
        };
        messages(&self.fields, 2)
            .iter()
            .map(|sample| {
                let values = packed(sample, 2).into_iter().map(|value| value as i64).collect();
                (packed(sample, 1).iter().map(place).collect(), values, messages(sample, 3).iter().map(label).collect())
            })
            .collect()
    }
}

/// What should be seen, told from the model alone.
fn expected(profile: &Profile) -> Vec<Seen> {
    let place = |at: &usize| {
        let location = &profile.locations[*at];
        let lines = location.lines.as_deref().unwrap_or(&[]).iter().map(|line| {
            let function = &profile.functions[line.function];
            let system_name = if function.name == function.system_name && function.name.contains('<') { "" } else { &function.system_name };
            (function.name.to_string(), system_name.to_string(), u64::from(line.line))
        });
        (location.address, lines.collect())
    };
    let label = |label: &Label| match &label.value {
        LabelValue::Text(text) => (label.key.to_string(), text.to_string()),
        LabelValue::Number { value, unit } => (label.key.to_string(), format!("{value} {unit}")),
    };
    let named = |name: &str, address| vec![(address, vec![(name.to_owned(), name.to_owned(), 0)])];
    let mut seen: Vec<Seen> = Vec::new();
    for sample in &profile.samples {
        let stack: Vec<_> = sample.locations.iter().map(place).collect();
        let stack = if stack.is_empty() { named("[no stack]", 0) } else { stack };
        seen.push((stack, sample.values.clone(), sample.labels.iter().map(label).collect()));
    }
    for (loss, events) in profile.losses.iter().filter(|(loss, _)| loss.is_sample()) {
        let name = format!("[lost: {}]", loss.label());
        seen.push((named(&name, loss as u64 + 1), vec![events as i64, events as i64 * profile.period], Vec::new()));
    }
    seen
}

prop_compose! {
    fn any_profile()(
        names in prop::collection::vec((".{0,12}", ".{0,12}"), 1..6),
        locations in prop::collection::vec((prop::option::of(0..3_usize), any::<u64>(), prop::option::of(prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..4))), 1..12),
        samples in prop::collection::vec((prop::collection::vec(any::<prop::sample::Index>(), 0..9), any::<i64>(), any::<i64>(), ".{1,9}", any::<i64>()), 0..20),
        lost in 0..1000_u64,
    ) -> Profile {
        let mut profile = sample_profile();
        profile.functions = names.iter().map(|(name, system_name)| Function { name: name.as_str().into(), system_name: system_name.as_str().into(), filename: "".into(), start_line: 0 }).collect();
        profile.locations = locations.into_iter().map(|(mapping, address, lines)| {
            let line = |(function, line): (prop::sample::Index, u32)| Line { function: function.index(names.len()), line, column: line, go: None };
            Location { mapping, address, lines: lines.map(|lines| lines.into_iter().map(line).collect()).ok_or(Unresolved::NoSymbol) }
        }).collect();
        let count = profile.locations.len();
        profile.samples = samples.into_iter().map(|(stack, first, second, text, value)| Sample {
            raw: None,
            hidden: 0,
            locations: stack.iter().map(|at| at.index(count)).collect(),
            values: vec![first, second],
            process: None,
            labels: vec![Label::text("text", text), Label::number("number", value, "unit")],
        }).collect();
        profile.losses.add(Loss::NotRun, lost);
        profile
    }
}

proptest! {
    #[test]
    fn what_is_written_is_what_another_decoder_reads(profile in any_profile()) {
        let bytes = encode(&profile);
        prop_assert_eq!(Decoded::new(&bytes).samples(), expected(&profile));
        prop_assert_eq!(bytes, encode(&profile));
    }
}

#[test]
fn mappings_say_what_they_carry_and_the_half_named_one_stands_twice() {
    let decoded = Decoded::new(&encode(&sample_profile()));
    let shown: Vec<_> =
        decoded.table(3).iter().map(|row| (decoded.text(row, 5), [7, 8, 9, 10].map(|flag| number(row, flag) == 1))).collect();
    let named = |name: &str, flags| (name.to_owned(), flags);
    let expected = [
        named("[system]", [false; 4]),
        named("[kernel.kallsyms]_stext", [true, false, false, false]),
        named("/opt/my app/app", [true; 4]),
        named("/opt/my app/app", [false; 4]),
        named("/usr/lib/libc.so.6", [false; 4]),
    ];
    assert_eq!(shown, expected);
    let mappings: Vec<u64> = decoded.table(4).iter().map(|location| number(location, 2)).collect();
    assert_eq!(mappings, [3, 3, 4, 2, 0, 0]);
}

#[test]
fn the_main_binary_of_the_only_process_comes_first() {
    let mut profile = sample_profile();
    profile.processes.truncate(1);
    profile.samples.retain(|sample| sample.process == Some(0));
    let decoded = Decoded::new(&encode(&profile));
    let names: Vec<String> = decoded.table(3).iter().map(|row| decoded.text(row, 5)).collect();
    assert_eq!(names, ["/opt/my app/app", "/opt/my app/app", "[kernel.kallsyms]_stext", "/usr/lib/libc.so.6"]);
}

#[test]
fn there_is_no_default_type_and_no_time_in_the_header() {
    let bytes = encode(&sample_profile());
    assert_eq!(bytes[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    assert!(Decoded::new(&bytes).fields.iter().all(|field| field.0 != 14));
}

#[test]
fn labels_that_a_reader_would_drop_are_not_written() {
    let mut profile = sample_profile();
    profile.samples[0].labels = vec![Label::text("empty", ""), Label::text("", "x"), Label::number("cpu", 0, "cpu")];
    assert_eq!(Decoded::new(&encode(&profile)).samples()[0].2, [("cpu".to_owned(), "0 cpu".to_owned())]);
}

/// What `go tool pprof` prints about the file; nothing, and a loud line, where there is no Go.
fn go_tool(file: &str, bytes: &[u8], mode: &str) -> Option<String> {
    if !Command::new("go").arg("version").output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has to give it");
        eprintln!("SKIP: go is not installed, `go tool pprof {mode}` was not tried");
        return None;
    }
    let path = std::env::temp_dir().join(format!("profiler-encode-{}-{}-{file}", std::process::id(), mode.trim_start_matches('-')));
    std::fs::write(&path, bytes).unwrap();
    let output = Command::new("go").args(["tool", "pprof", mode]).arg(&path).output().unwrap();
    let _ = std::fs::remove_file(&path);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{mode}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    Some(printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n"))
}

fn assert_prints(printed: Option<String>, expected: &[&str]) {
    if let Some(printed) = printed {
        for expected in expected {
            assert!(printed.contains(expected), "no {expected:?} in:\n{printed}");
        }
    }
}

#[test]
fn go_tool_pprof_reads_it() {
    let bytes = encode(&sample_profile());
    let tops =
        ["File: [system]", "Type: cpu", "balance: ticks 40", "Showing nodes accounting for 310ms", "120ms 38.71%", "[lost: ring full]"];
    assert_prints(go_tool("a.pb.gz", &bytes, "-top"), &tops);
    let raw = ["samples/count cpu/nanoseconds", "12 120000000: 1 2", "[FN][FL][LN][IN]", "inner<T> src/a.rs:7:0 s=5", "3 30000000: 5"];
    assert_prints(go_tool("a.pb.gz", &bytes, "-raw"), &raw);
    assert_prints(go_tool("a.pb.gz", &bytes, "-traces"), &["120ms inner<T> (inline)", "30ms [lost: ring full]", "20ms [no stack]"]);
    assert_prints(
        go_tool("a.pb.gz", &bytes, "-tags"),
        &["comm: Total 280ms of 310ms", "210ms (67.74%): app", "pid: Total 280ms", "210ms (67.74%): 0"],
    );
}

#[test]
fn go_tool_pprof_leaves_names_in_angle_brackets_whole() {
    let mut profile = sample_profile();
    let names = ["<T as core::fmt::Display>::fmt", "std::vector<int>::push_back", "main.F[go.shape.int]"];
    for (function, name) in profile.functions.iter_mut().zip(names) {
        (function.name, function.system_name) = (name.into(), name.into());
    }
    assert_prints(go_tool("angle.pb.gz", &encode(&profile), "-top"), &names);
}

#[test]
fn go_tool_pprof_reads_the_text_too() {
    let printed = go_tool("a.txt", text::encode(&sample_profile()).as_bytes(), "-raw");
    assert_prints(printed.clone(), &["cpu/count", "12: 1 2", "/usr/lib/libc.so.6", "00ff11", "0x401000 M=", "[kernel.kallsyms]_stext"]);
    if let Some(printed) = printed {
        let samples = printed.split("Locations").next().unwrap_or_default();
        let values = samples.lines().filter_map(|line| line.split_once(": ")?.0.parse::<i64>().ok());
        assert_eq!(values.sum::<i64>(), 31, "{printed}");
    }
}
