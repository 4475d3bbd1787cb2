//! A dump as text, one thread or goroutine after the other. Two shapes: one for people, and that of Go's `debug=2`, whose parsers key on its first line and on the
//! two lines of a frame (`runtime/traceback.go`, `goroutineheader`), and stop at what Go would not write.

use super::frame::unresolved;
use super::go_stack;
use crate::model::dump::{Creator, Dump, Entry};
use crate::model::kind::Kind;
use crate::model::profile::{Line, Location, Profile, Sample};
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
    let frames = frames(profile, &sample.locations);
    push_header(profile.kind, entry, (shape, frames.is_empty()), out);
    let elided = frames.len().saturating_sub(FRAMES_MAX);
    for (at, frame) in frames.iter().enumerate() {
        if elided > 0 && at == FRAMES_MAX / 2 {
            let _ = writeln!(out, "...{elided} frames elided...");
        }
        if elided == 0 || at < FRAMES_MAX / 2 || at >= FRAMES_MAX / 2 + elided {
            push_frame(profile, *frame, shape, out);
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
        frames(profile, &sample.locations).into_iter().for_each(|frame| push_frame(profile, frame, Shape::Plain, &mut out));
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

/// A function at a location, or a place without one.
#[derive(Clone, Copy)]
struct Frame<'a> {
    location: &'a Location,
    line: Option<&'a Line>,
    /// The program was interrupted there, and has called nothing.
    is_interrupted: bool,
}

/// What is shown, innermost first; Go leaves its runtime's own out.
fn frames<'a>(profile: &'a Profile, locations: &[usize]) -> Vec<Frame<'a>> {
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let is_of_goroutine = profile.kind == Kind::Goroutine;
    for frame in all_frames(profile, locations) {
        let is_shown = |line: &Line| {
            // What is not Go's has no name of Go's.
            line.go.is_none() || go_stack::is_shown(&profile.functions[line.function].name, frames.is_empty())
        };
        if !is_of_goroutine || frame.line.is_none_or(is_shown) {
            frames.push(frame);
        }
    }
    // As Go does where there would be none.
    if frames.is_empty() { all_frames(profile, locations).collect() } else { frames }
}

fn all_frames<'a>(profile: &'a Profile, locations: &[usize]) -> impl Iterator<Item = Frame<'a>> {
    let mut is_fault = false;
    locations.iter().flat_map(move |at| {
        let location = &profile.locations[*at];
        let lines = location.lines.as_deref().unwrap_or_default();
        let is_interrupted = is_fault;
        is_fault = lines.last().is_some_and(|line| go_stack::is_fault(&profile.functions[line.function].name));
        let unnamed = lines.is_empty().then_some(Frame { location, line: None, is_interrupted });
        unnamed.into_iter().chain(lines.iter().map(move |line| Frame { location, line: Some(line), is_interrupted }))
    })
}

/// The two lines of a frame.
fn push_frame(profile: &Profile, frame: Frame<'_>, shape: Shape, out: &mut String) {
    let Frame { location, line, is_interrupted } = frame;
    let Some(line) = line else {
        let why = location.lines.as_ref().err().map_or("", |why| why.label()).replace(' ', "-");
        let place = match shape {
            Shape::Go => go_stack::UNKNOWN.to_owned(),
            Shape::Plain => format!("{why}:0 +{:#x}", location.address),
        };
        push_line(out, &format!("{}\n\t{place}", call(&unresolved(profile, location), false, shape)));
        return;
    };
    let function = &profile.functions[line.function];
    let place = match shape {
        Shape::Go => {
            let lines = location.lines.as_deref().unwrap_or_default();
            go_stack::place(&function.filename, line, lines, is_interrupted)
        }
        Shape::Plain if function.filename.is_empty() => format!("{}:0", file(profile, location)),
        Shape::Plain => format!("{}:{}", printable(&function.filename), line.line),
    };
    push_line(out, &format!("{}\n\t{place}", call(&function.name, line.go.is_some(), shape)));
}

fn file<'a>(profile: &'a Profile, location: &Location) -> std::borrow::Cow<'a, str> {
    printable(location.mapping.map_or("?", |mapping| &*profile.mappings[mapping].filename))
}

/// The first line. What is passed is not known; the signature of another language is no list of arguments to Go's parsers, and a path no package.
fn call(name: &str, is_go: bool, shape: Shape) -> String {
    let name = printable(name);
    match shape {
        _ if is_go => format!("{}(...)", go_stack::name(&name)),
        Shape::Go => format!("{}(...)", name.replace(['/', '%'], "_")),
        Shape::Plain if name.ends_with(')') => name.into_owned(),
        Shape::Plain => format!("{name}(...)"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::sample_profile::sample_profile;

    fn entry(trouble: Option<&str>) -> Entry {
        let (name, state) = ("\"x\n".into(), "waits\n".to_owned());
        Entry { id: 7, name, state, since: None, is_locked: false, trouble: trouble.map(str::to_owned), creator: None }
    }

    fn of(sample: usize, trouble: Option<&str>, shape: Shape) -> String {
        let mut profile = sample_profile();
        profile.kind = Kind::Threads;
        profile.functions[0].name = "A<int>::operator/(int, %s)".into();
        profile.samples = vec![profile.samples.swap_remove(sample)];
        dump(&Dump { profile, entries: vec![entry(trouble)], took: Duration::ZERO }, shape)
    }

    #[test]
    fn what_is_missing_is_said_where_gos_parsers_do_not_stop_at_it() {
        let go = of(0, Some("depth limit"), Shape::Go);
        let (header, rest) = go.split_once('\n').unwrap();
        assert!(header.starts_with("goroutine 7 [waits") && header.ends_with("]:"), "{header}");
        assert_eq!(
            rest,
            "A<int>::operator_(int, _s)(...)\n\t??:0\nouter(...)\n\t??:0\nmain(...)\n\t??:0\n...additional frames elided...\n"
        );
        assert!(of(0, Some("depth limit"), Shape::Plain).ends_with("\n\t(depth limit)\n"));
        let go = of(2, None, Shape::Go);
        assert!(go.contains("\n[app](...)\n\t??:0\n"), "{go}");
    }

    #[test]
    fn where_there_is_no_stack_the_header_says_why() {
        let (go, plain) = (of(3, Some("its stack cannot be read"), Shape::Go), of(3, None, Shape::Go));
        assert!(go.ends_with(", its stack cannot be read]:\n\tgoroutine running on other thread; stack unavailable\n"), "{go}");
        assert!(plain.ends_with("]:\n\tgoroutine running on other thread; stack unavailable\n"), "{plain}");
    }

    #[test]
    fn the_middle_of_a_long_stack_is_left_out_and_counted() {
        let mut profile = sample_profile();
        profile.kind = Kind::Threads;
        profile.samples.truncate(1);
        profile.samples[0].locations = vec![1; 2001];
        let text = dump(&Dump { profile, entries: vec![entry(None)], took: Duration::ZERO }, Shape::Go);
        assert_eq!((text.lines().count(), text.lines().nth(101)), (202, Some("...1901 frames elided...")));
    }
}
