//! A dump as text, one thread or goroutine after the other. Two shapes: one for people, and that of Go's `debug=2`, whose parsers key on its first line and on the
//! two lines of a frame (`runtime/traceback.go`, `goroutineheader`). What starts no frame and no header is skipped by them.

use super::frame::unresolved;
use crate::model::dump::{Creator, Dump, Entry};
use crate::model::kind::Kind;
use crate::model::profile::{Line, Location, Profile, Sample};
use crate::model::text::printable;
use std::fmt::Write as _;
use std::time::Duration;

/// Go elides the middle of longer stacks.
const FRAMES_MAX: usize = 100;
/// Entries of a piece.
const PART: usize = 1000;

/// The shape of a dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// For people.
    Plain,
    /// That of Go's `debug=2`.
    Go,
}

/// The dump as text.
pub fn dump(dump: &Dump, shape: Shape) -> String {
    dump_parts(dump, shape).collect()
}

/// The same in pieces, for who has no room for all of it: that of 50,000 threads has 45 MB.
pub fn dump_parts(dump: &Dump, shape: Shape) -> impl Iterator<Item = String> + '_ {
    let all = || dump.entries.iter().zip(&dump.profile.samples).enumerate();
    (0..dump.entries.len()).step_by(PART).map(move |first| {
        let mut out = String::new();
        for (at, (entry, sample)) in all().skip(first).take(PART) {
            if at > 0 {
                out.push('\n');
            }
            push_entry(&dump.profile, (entry, sample), shape, &mut out);
        }
        out
    })
}

fn push_entry(profile: &Profile, (entry, sample): (&Entry, &Sample), shape: Shape, out: &mut String) {
    push_header(profile.kind, entry, shape, out);
    let frames: Vec<Vec<String>> = frames(profile, &sample.locations);
    let elided = frames.len().saturating_sub(FRAMES_MAX);
    for (at, frame) in frames.iter().enumerate() {
        if elided > 0 && at == FRAMES_MAX / 2 {
            let _ = writeln!(out, "...{elided} frames elided...");
        }
        if elided == 0 || at < FRAMES_MAX / 2 || at >= FRAMES_MAX / 2 + elided {
            frame.iter().for_each(|line| push_line(out, line));
        }
    }
    if let Some(trouble) = &entry.trouble {
        push_line(out, &format!("\t({trouble})"));
    }
    if let Some(creator) = entry.creator.as_ref().filter(|creator| is_shown(&creator.function)) {
        push_creator(creator, out);
    }
}

/// What counts equal stacks together: how many there are of each.
pub fn grouped(profile: &Profile) -> String {
    let mut out = String::new();
    for sample in &profile.samples {
        if !out.is_empty() {
            out.push('\n');
        }
        let mut labels: Vec<String> = Vec::new();
        for label in &sample.labels {
            if let (crate::model::label::LabelValue::Text(text), "state" | "thread") = (&label.value, &*label.key) {
                labels.push(printable(text).into_owned());
            }
        }
        let noun = profile.kind.event();
        let noun = if sample.values[0] == 1 { &noun[..noun.len() - 1] } else { noun };
        let _ = writeln!(out, "{} {noun} [{}]:", sample.values[0], labels.join(", "));
        frames(profile, &sample.locations).iter().flatten().for_each(|line| push_line(&mut out, line));
    }
    out
}

fn push_header(kind: Kind, entry: &Entry, shape: Shape, out: &mut String) {
    let name = printable(&entry.name).replace('"', "'");
    let since = entry.since.and_then(|since| duration(since, shape)).unwrap_or_default();
    let locked = if entry.is_locked { ", locked to thread" } else { "" };
    let state = printable(&entry.state);
    let _ = match (kind, shape) {
        (Kind::Threads, Shape::Plain) => writeln!(out, "thread {} \"{name}\" [{state}{since}]:", entry.id),
        _ => writeln!(out, "goroutine {} [{state}{since}{locked}]:", entry.id),
    };
}

/// Go tells minutes, and those only.
fn duration(since: Duration, shape: Shape) -> Option<String> {
    match (shape, since.as_secs()) {
        (_, 0) | (Shape::Go, ..60) => None,
        (Shape::Plain, seconds @ ..120) => Some(format!(", {seconds} s")),
        (_, seconds) => Some(format!(", {} minutes", seconds / 60)),
    }
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

/// The two lines of each frame, innermost first; Go leaves its runtime's own out.
fn frames(profile: &Profile, locations: &[usize]) -> Vec<Vec<String>> {
    let mut frames = Vec::new();
    for at in locations {
        let location = &profile.locations[*at];
        match &location.lines {
            Ok(lines) => {
                let shown = lines.iter().filter(|line| profile.kind != Kind::Goroutine || is_shown(&profile.functions[line.function].name));
                frames.extend(shown.map(|line| frame(profile, location, *line)));
            }
            Err(why) => {
                let name = printable(&unresolved(profile, location)).into_owned();
                frames.push(vec![format!("{name}(...)"), format!("\t{}:0 +{:#x}", why.label().replace(' ', "-"), location.address)]);
            }
        }
    }
    frames
}

fn frame(profile: &Profile, location: &Location, line: Line) -> Vec<String> {
    let function = &profile.functions[line.function];
    let name = printable(&function.name);
    let call = if name.ends_with(')') { name.into_owned() } else { format!("{name}(...)") };
    vec![call, format!("\t{}", place(profile, location, line))]
}

fn place(profile: &Profile, location: &Location, line: Line) -> String {
    let function = &profile.functions[line.function];
    if function.filename.is_empty() {
        let file = location.mapping.map_or("?", |mapping| &*profile.mappings[mapping].filename);
        return format!("{}:0", printable(file));
    }
    format!("{}:{}", printable(&function.filename), line.line)
}

/// What Go shows of its runtime: what a program can call (`showfuncinfo`, Go 1.26).
fn is_shown(name: &str) -> bool {
    // What the compiler puts around the call of a `go` or `defer` (since 1.22; older ones cannot be told by name).
    let last = name.rsplit('.').next().unwrap_or_default();
    if ["gowrap", "deferwrap"].iter().any(|wrapper| last.strip_prefix(wrapper).is_some_and(|rest| rest.parse::<u32>().is_ok())) {
        return false;
    }
    let Some(rest) = name.strip_prefix("runtime.") else { return !name.starts_with("internal/runtime/") };
    rest.starts_with(|first: char| first.is_ascii_uppercase())
}

fn push_creator(creator: &Creator, out: &mut String) {
    let by = if creator.goroutine == 0 { String::new() } else { format!(" in goroutine {}", creator.goroutine) };
    let _ = writeln!(out, "created by {}{by}", printable(&creator.function));
    let _ = writeln!(out, "\t{}:{}", printable(&creator.file), creator.line);
}
