//! A dump as text, one thread or goroutine after the other. Two shapes: one for people, and that of Go's `debug=2`, whose parsers key on its first line and on the
//! two lines of a frame (`runtime/traceback.go`, `goroutineheader`), and stop at what Go would not write.

use super::frame::unresolved;
use super::go_stack;
use crate::model::dump::{Creator, Dump, Entry};
use crate::model::kind::Kind;
use crate::model::profile::{Location, Profile, Sample};
use crate::model::text::printable;
use std::fmt::Write as _;
use std::time::Duration;

/// Go elides the middle of longer stacks.
const FRAMES_MAX: usize = 100;
/// What Go says where there is no stack.
const UNAVAILABLE: &str = "goroutine running on other thread; stack unavailable";
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
    let frames = frames(profile, &sample.locations, shape);
    push_header(profile.kind, entry, (shape, frames.is_empty()), out);
    let elided = frames.len().saturating_sub(FRAMES_MAX);
    for (at, frame) in frames.iter().enumerate() {
        if elided > 0 && at == FRAMES_MAX / 2 {
            let _ = writeln!(out, "...{elided} frames elided...");
        }
        if elided == 0 || at < FRAMES_MAX / 2 || at >= FRAMES_MAX / 2 + elided {
            frame.iter().for_each(|line| push_line(out, line));
        }
    }
    match (&entry.trouble, shape) {
        (_, Shape::Go) if frames.is_empty() => push_line(out, &format!("\t{UNAVAILABLE}")),
        // How many are missing is not known, and why has no place that Go's parsers know.
        (Some(_), Shape::Go) => push_line(out, "...additional frames elided..."),
        (Some(trouble), Shape::Plain) => push_line(out, &format!("\t({trouble})")),
        (None, _) => {}
    }
    if let Some(creator) = entry.creator.as_ref().filter(|creator| go_stack::is_shown(&creator.function, false)) {
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
        frames(profile, &sample.locations, Shape::Plain).iter().flatten().for_each(|line| push_line(&mut out, line));
    }
    out
}

fn push_header(kind: Kind, entry: &Entry, (shape, is_empty): (Shape, bool), out: &mut String) {
    let name = printable(&entry.name).replace('"', "'");
    let since = entry.since.and_then(|since| duration(since, shape)).unwrap_or_default();
    let locked = if entry.is_locked { ", locked to thread" } else { "" };
    let state = printable(&entry.state);
    let why = match &entry.trouble {
        Some(why) if shape == Shape::Go && is_empty && why != UNAVAILABLE => format!(", {why}"),
        _ => String::new(),
    };
    let _ = match (kind, shape) {
        (Kind::Threads, Shape::Plain) => writeln!(out, "thread {} \"{name}\" [{state}{since}]:", entry.id),
        _ => writeln!(out, "goroutine {} [{state}{since}{locked}{why}]:", entry.id),
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
fn frames(profile: &Profile, locations: &[usize], shape: Shape) -> Vec<Vec<String>> {
    match profile.kind {
        Kind::Goroutine => {
            let mut frames = frames_if(profile, locations, shape, go_stack::is_shown);
            // As Go does where there would be none.
            if frames.is_empty() {
                frames = frames_if(profile, locations, shape, |_, _| true);
            }
            frames
        }
        _ => frames_if(profile, locations, shape, |_, _| true),
    }
}

/// Those that are shown: of a function by its name, and by whether it would be the first one.
fn frames_if(profile: &Profile, locations: &[usize], shape: Shape, is_shown: impl Fn(&str, bool) -> bool) -> Vec<Vec<String>> {
    let mut frames = Vec::new();
    for at in locations {
        let location = &profile.locations[*at];
        match &location.lines {
            Ok(lines) => {
                for line in lines {
                    let function = &profile.functions[line.function];
                    // What is not Go's has no name of Go's.
                    if line.go.is_none() || is_shown(&function.name, frames.is_empty()) {
                        let place = match shape {
                            Shape::Go => go_stack::place(&function.filename, line),
                            Shape::Plain if function.filename.is_empty() => format!("{}:0", file(profile, location)),
                            Shape::Plain => format!("{}:{}", printable(&function.filename), line.line),
                        };
                        frames.push(vec![call(&function.name, line.go.is_some(), shape), format!("\t{place}")]);
                    }
                }
            }
            Err(why) => {
                let place = match shape {
                    Shape::Go => go_stack::UNKNOWN.to_owned(),
                    Shape::Plain => format!("{}:0 +{:#x}", why.label().replace(' ', "-"), location.address),
                };
                frames.push(vec![call(&unresolved(profile, location), false, shape), format!("\t{place}")]);
            }
        }
    }
    frames
}

fn file<'a>(profile: &'a Profile, location: &Location) -> std::borrow::Cow<'a, str> {
    printable(location.mapping.map_or("?", |mapping| &*profile.mappings[mapping].filename))
}

/// The first line. What is passed is not known; the signature of another language is no list of arguments to Go's parsers, and a path no package.
fn call(name: &str, is_go: bool, shape: Shape) -> String {
    let name = printable(name);
    match shape {
        Shape::Go if is_go => format!("{}(...)", go_stack::name(&name)),
        Shape::Go => format!("{}(...)", name.replace(['/', '%'], "_")),
        Shape::Plain if name.ends_with(')') => name.into_owned(),
        Shape::Plain => format!("{}(...)", go_stack::name(&name)),
    }
}

fn push_creator(creator: &Creator, out: &mut String) {
    let by = if creator.goroutine == 0 { String::new() } else { format!(" in goroutine {}", creator.goroutine) };
    let _ = writeln!(out, "created by {}{by}", go_stack::name(&printable(&creator.function)));
    let behind = if creator.offset == 0 { String::new() } else { format!(" +{:#x}", creator.offset) };
    let _ = match go_stack::is_source(&creator.file) {
        true => writeln!(out, "\t{}:{}{behind}", printable(&creator.file), creator.line),
        false => writeln!(out, "\t{}", go_stack::UNKNOWN),
    };
}
