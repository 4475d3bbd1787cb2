//! Go's text form (`debug=1`) in the shape of a count profile, which pprof reads too; then the mappings, so that it can symbolize by itself.
//!
//! It carries the first column, the events: a count profile's unit is fixed to `count`. A heap profile has a shape of its own, with the sampled blocks
//! themselves: whoever reads it works out what they stand for. What starts with `#` is for people, pprof skips it.

use super::{frame, go_stack, lost, tabs};
use crate::model::kind::Kind;
use crate::model::label::{Label, LabelValue};
use crate::model::profile::{Line, Location, Profile, ProfileMapping, RawBlocks, Sample};
use crate::model::text::printable;
use std::borrow::Cow;
use std::fmt::Write;

/// The reader's line buffer holds 64 KiB: a stack of more frames than this loses its root end (an address takes at most 19 bytes) ...
const MAX_ADDRESSES: usize = 3_000;
/// ... and a cell of more characters than this its end (a character takes at most 10 bytes, escaped).
const MAX_CELL: usize = 2_000;
/// Labels of one line.
const MAX_LABELS: usize = 60_000;

/// One stack of the listing.
struct Row<'a> {
    events: i64,
    /// What stands before the addresses.
    head: String,
    /// Runtime addresses, leaf first; never none.
    addresses: Vec<u64>,
    shows: Shows<'a>,
}

/// What stands below the line of a stack.
enum Shows<'a> {
    Sample(&'a Sample),
    Name(String),
}

/// The profile as text.
pub(super) fn encode(profile: &Profile) -> String {
    let rows = rows(profile);
    let mut out = match profile.kind {
        kind if kind.is_of_blocks() => blocks_header(profile),
        kind if kind.is_of_contentions() => contentions_header(kind),
        _ => header(profile, &rows),
    };
    for comment in lost::comments(profile) {
        line(&mut out, format_args!("# {}", cell(&comment)));
    }
    for row in &rows {
        out.push('\n');
        push_row(profile, row, &mut out);
    }
    out.push_str("\n--- Memory map: ---\n");
    for mapping in &profile.mappings {
        push_mapping(mapping, &mut out);
    }
    out
}

fn header(profile: &Profile, rows: &[Row<'_>]) -> String {
    let total = rows.iter().fold(0_i64, |sum, row| sum.saturating_add(row.events));
    format!("{} profile: total {total}\n", profile.kind.name())
}

/// The first lines of a profile of contentions (runtime/pprof, `writeProfileInternal`, Go 1.26), whose rows are `time count @ addresses`. Times are
/// nanoseconds, and what was sampled is weighed already: readers multiply by the period of a mutex profile.
fn contentions_header(kind: Kind) -> String {
    match kind {
        Kind::Mutex => "--- mutex:\ncycles/second=1000000000\nsampling period=1\n".to_owned(),
        _ => "--- contention:\ncycles/second=1000000000\n".to_owned(),
    }
}

/// The first line of a heap profile (runtime/pprof, `writeHeapInternal`, Go 1.26): the totals, and twice the distance between samples. Readers take equal
/// pairs for a profile of two columns: so the bytes of all blocks are one more where all live, and where only what is allocated is known the pairs are equal.
fn blocks_header(profile: &Profile) -> String {
    let mut total = RawBlocks::default();
    profile.samples.iter().filter_map(|sample| sample.raw).for_each(|raw| total.add(&raw));
    if profile.kind.tells_what_lives() && total.in_use_bytes == total.allocated_bytes {
        total.allocated_bytes += 1;
    }
    format!("heap profile: {} @ heap/{}\n", blocks(profile.kind, &total), profile.period.saturating_mul(2))
}

/// Blocks in use and their bytes, then allocated ones.
fn blocks(kind: Kind, raw: &RawBlocks) -> String {
    let RawBlocks { allocated, allocated_bytes, in_use, in_use_bytes } = raw;
    match kind {
        kind if kind.tells_what_lives() => format!("{in_use}: {in_use_bytes} [{allocated}: {allocated_bytes}]"),
        _ => format!("{allocated}: {allocated_bytes} [{allocated}: {allocated_bytes}]"),
    }
}

/// Writing to a string does not fail.
fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// All stacks that have events, those with most first.
fn rows(profile: &Profile) -> Vec<Row<'_>> {
    let kept = profile.samples.iter().map(|sample| {
        let addresses: Vec<u64> = addresses(profile, sample).take(MAX_ADDRESSES).collect();
        let head = sample.raw.map_or_else(|| sample.values[0].to_string(), |raw| blocks(profile.kind, &raw));
        let events =
            sample.raw.map_or(sample.values[0], |raw| if profile.kind == Kind::Heap { raw.in_use_bytes } else { raw.allocated_bytes });
        let events = if sample.raw.is_some() { events.max(1) } else { events };
        let (events, head) = match profile.kind.is_of_contentions() {
            true => (sample.values[1], format!("{} {}", sample.values[1], sample.values[0])),
            false => (events, head),
        };
        match addresses.is_empty() {
            true => Row { events, head, addresses: vec![0], shows: Shows::Name(lost::NO_STACK.to_owned()) },
            false => Row { events, head, addresses, shows: Shows::Sample(sample) },
        }
    });
    let lost = lost::samples(profile).into_iter().map(|lost| Row {
        events: lost.values[0],
        head: lost.values[0].to_string(),
        addresses: vec![lost.address()],
        shows: Shows::Name(lost.name),
    });
    let mut rows: Vec<Row<'_>> = kept.chain(lost).filter(|row| row.events > 0).collect();
    rows.sort_by(|a, b| b.events.cmp(&a.events).then_with(|| a.addresses.cmp(&b.addresses)));
    rows
}

/// The addresses of a stack. Go's goroutine profile has one for each function, inlined or not.
fn addresses<'a>(profile: &'a Profile, sample: &'a Sample) -> impl Iterator<Item = u64> + 'a {
    let locations = sample.locations.iter().map(|at| &profile.locations[*at]);
    let of = |location: &Location| match profile.kind {
        Kind::Goroutine => go_stack::addresses(location),
        _ => vec![location.address],
    };
    locations.flat_map(of)
}

/// The line that pprof reads, then the labels and the frames. pprof takes every address for a return address and subtracts 1, the leaf's too;
/// ours lie within the instruction already, so each is printed one higher.
fn push_row(profile: &Profile, row: &Row<'_>, out: &mut String) {
    let _ = write!(out, "{} @", row.head);
    for address in &row.addresses {
        let _ = write!(out, " {:#x}", address.saturating_add(1));
    }
    out.push('\n');
    let mut lines = Vec::new();
    match &row.shows {
        Shows::Name(name) => lines.push(vec!["#".to_owned(), format!("{:#x}", row.addresses[0]), name.clone()]),
        Shows::Sample(sample) => {
            if !sample.labels.is_empty() {
                line(out, format_args!("# labels: {}", labels(&sample.labels)));
            }
            match profile.kind {
                Kind::Goroutine => push_go_stack(profile, &sample.locations, &mut lines),
                _ => sample.shown().iter().for_each(|at| push_frames(profile, &profile.locations[*at], &mut lines)),
            }
        }
    }
    tabs::align(&lines, out);
}

/// A line for each function that Go shows; each with its address, and how far it is behind the first one of the function.
fn push_go_stack(profile: &Profile, locations: &[usize], lines: &mut Vec<Vec<String>>) {
    for (at, line) in go_stack::listed(profile, locations) {
        let location = &profile.locations[at];
        let Some(line) = line else {
            push_frames(profile, location, lines);
            continue;
        };
        let mut cells = vec!["#".to_owned(), format!("{:#x}", go_stack::address(location, line))];
        push_function(profile, line, &mut cells);
        if let (Some(go), Some(name)) = (line.go, cells.get_mut(2)) {
            let _ = write!(name, "+{:#x}", go.offset);
        }
        lines.push(cells);
    }
}

/// A line for each function at the location, the innermost one first.
fn push_frames(profile: &Profile, location: &Location, lines: &mut Vec<Vec<String>>) {
    let start = || vec!["#".to_owned(), format!("{:#x}", location.address)];
    match &location.lines {
        Ok(inlined) => lines.extend(inlined.iter().map(|inlined| {
            let mut cells = start();
            push_function(profile, *inlined, &mut cells);
            cells
        })),
        Err(why) => {
            let mut cells = start();
            cells.push(cell(&frame::unresolved(profile, location)));
            cells.push(format!("({})", why.label()));
            lines.push(cells);
        }
    }
}

fn push_function(profile: &Profile, line: Line, cells: &mut Vec<String>) {
    let function = &profile.functions[line.function];
    let name = if line.go.is_some() { go_stack::printed(&function.name) } else { Cow::Borrowed(&*function.name) };
    cells.push(cell(&name));
    match (function.filename.is_empty(), line.line) {
        (true, _) => {}
        (false, 0) => cells.push(cell(&function.filename)),
        (false, number) => cells.push(format!("{}:{number}", cell(&function.filename))),
    }
}

/// A text that stays in its cell and on its line.
fn cell(text: &str) -> String {
    match text.char_indices().nth(MAX_CELL) {
        Some((end, _)) => format!("{}...", printable(&text[..end])),
        None => printable(text).into_owned(),
    }
}

/// Labels as Go prints them: quoted, by key.
fn labels(labels: &[Label]) -> String {
    let mut sorted: Vec<&Label> = labels.iter().collect();
    sorted.sort();
    let mut out = String::from("{");
    for label in sorted {
        let value = match &label.value {
            LabelValue::Text(text) => cell(text),
            LabelValue::Number { value, .. } => value.to_string(),
        };
        let pair = format!("{}:{}", quoted(&cell(&label.key)), quoted(&value));
        if out.len() + pair.len() > MAX_LABELS {
            out.push_str(", ...");
            break;
        }
        if out.len() > 1 {
            out.push_str(", ");
        }
        out.push_str(&pair);
    }
    out.push('}');
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A mapping in pprof's brief form: `start-limit perms path (@offset) buildid`, numbers in hex.
fn push_mapping(mapping: &ProfileMapping, out: &mut String) {
    let _ = write!(out, "{:x}-{:x} r-xp", mapping.start, mapping.limit);
    let path = one_word(&mapping.filename);
    if !path.is_empty() {
        let _ = write!(out, " {path} (@{:x})", mapping.file_offset);
        if !mapping.build_id.is_empty() {
            let _ = write!(out, " {}", one_word(&mapping.build_id));
        }
    }
    out.push('\n');
}

/// A path ends at a blank, and `name:1] ` is taken for the prefix of a log: both are written in hex.
fn one_word(path: &str) -> String {
    let bracketed = path.starts_with('[');
    let mut out = String::with_capacity(path.len());
    for c in cell(path).chars() {
        match c {
            c if c.is_whitespace() => {
                let _ = write!(out, "\\x{:x}", u32::from(c));
            }
            ']' if !bracketed => out.push_str("\\x5d"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::encode;
    use crate::encode::sample_profile::sample_profile;

    #[test]
    fn the_text_is_a_count_profile_with_comments_and_a_memory_map() {
        let text = encode(&sample_profile());
        assert!(text.starts_with("cpu profile: total 31\n# profiler test\n# balance: ticks 40 "), "{text}");
        let first = "\n\n12 @ 0x401001 0x402001\n# labels: {\"comm\":\"app\", \"pid\":\"0\"}\n\
            #\t0x401000\tinner<T>\tsrc/a.rs:7\n#\t0x401000\touter\t\tsrc/a.rs:42\n#\t0x402000\tmain\t\tsrc/main.rs:3\n\n8 @ ";
        assert!(text.contains(first), "{text}");
        assert!(text.contains("\n#\t0x403000\t[app]\t(no symbol)\n"), "{text}");
        assert!(text.contains("\n3 @ 0x3\n#\t0x2\t[lost: ring full]\n"), "{text}");
        assert!(text.contains("\n2 @ 0x1\n#\t0x0\t[no stack]\n"), "{text}");
        let map = "\n--- Memory map: ---\nffffffff81000000-ffffffff82000000 r-xp [kernel.kallsyms]_stext (@1000)\n\
            400000-500000 r-xp /opt/my\\x20app/app (@1000) 00ff11\n500000-600000 r-xp /usr/lib/libc.so.6 (@1000)\n";
        assert!(text.ends_with(map), "{text}");
    }

    #[test]
    fn no_line_outgrows_a_readers_buffer_and_no_name_makes_a_line_of_its_own() {
        let mut profile = sample_profile();
        profile.functions[0].name = "\n1 @ 0x1\n".repeat(40_000).into();
        profile.mappings[1].filename = "/x:1] \n--- ".repeat(40_000).into();
        profile.samples[0].locations = vec![0; 20_000];
        let text = encode(&profile);
        assert!(text.lines().all(|line| line.len() < 64 * 1024));
        let stacks = text.lines().filter(|line| line.contains(" @ 0x") && !line.starts_with('#')).count();
        assert_eq!(stacks, 6);
        assert_eq!(text.lines().filter(|line| line.starts_with("---")).count(), 1);
    }

    #[test]
    fn what_has_no_events_is_not_listed() {
        let mut profile = sample_profile();
        profile.samples[0].values = vec![0, 0];
        let text = encode(&profile);
        assert!(text.starts_with("cpu profile: total 19\n"));
        assert!(!text.contains("\n0 @"));
    }
}
