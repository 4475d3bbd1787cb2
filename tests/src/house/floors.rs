//! Rule 1: imports go down only, never sideways between two rooms of a floor; and what the rooms and the outside crates may see of each other.

use super::Violation;
use super::imports::{Import, To, imports};
use super::source::{Crate, Source};

/// The rooms of the library and their floors. A room on the same floor is as far away as one above.
const FLOORS: &[(&str, u32)] = &[
    ("sys", 1),
    ("model", 2),
    ("config", 3),
    ("bpf", 4),
    ("object", 4),
    ("parse", 4),
    ("target", 4),
    ("aggregate", 4),
    ("encode", 4),
    ("sink", 4),
    ("capability", 4),
    ("process", 5),
    ("reader", 5),
    ("memory", 5),
    ("symbolize", 6),
    ("unwind", 6),
    ("labels", 6),
    ("probe", 6),
    ("snapshot", 6),
    ("go", 6),
    ("pipeline", 7),
    ("http", 8),
];

/// Outside crates that only some rooms may see. `bin` stands for the binary; xtask and the tests are free.
const WALLS: &[(&[&str], &[&str])] = &[
    (&["aya", "aya_obj"], &["bpf"]),
    (&["object", "gimli", "addr2line", "cpp_demangle", "rustc_demangle", "iced_x86"], &["parse"]),
    (&["clap", "anyhow"], &["bin"]),
    (&["tokio", "crossbeam_channel"], &["pipeline", "http", "sink"]),
    (&["prost", "prost_types"], &["encode"]),
];

/// The only file that sees blazesym.
const NATIVE: &str = "profiler-user/src/parse/native.rs";
/// The only file outside `parse/` that calls it.
const READER_CHILD: &str = "profiler-user/src/reader/child.rs";
/// The file of `parse/` that holds its answers: nouns, which `reader/` passes on to whoever asked.
const ANSWERS: &str = "answer";

/// What breaks the floors and walls.
pub fn violations(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| matches!(source.in_crate, Crate::Library | Crate::Binary)) {
        if let Some(room) = source.room().filter(|_| source.in_crate == Crate::Library)
            && floor(room).is_none()
        {
            found.push(at(source, 1, format!("the room `{room}` stands on no floor; give it one in ARCHITECTURE.md and here")));
        }
        for import in imports(source) {
            found.extend(check(source, &import).map(|what| at(source, import.line, what)));
        }
    }
    found
}

fn at(source: &Source, line: usize, what: String) -> Violation {
    Violation { file: source.path.clone(), line, what }
}

/// The floor of a room.
fn floor(room: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// What is wrong with an import, if anything.
fn check(source: &Source, import: &Import) -> Option<String> {
    match &import.to {
        To::Hidden(why) => Some((*why).to_owned()),
        To::Outside(path) => outside(source, path, import),
        To::Inside(Crate::Library, path) => inside(source, path, import),
        To::Inside(..) => None,
    }
}

/// An outside crate. Tests may read with whatever reads: they check the product with it.
fn outside(source: &Source, path: &[String], import: &Import) -> Option<String> {
    let name = path.first()?.as_str();
    if import.is_test {
        return None;
    }
    let room = if source.in_crate == Crate::Binary { "bin" } else { source.room().unwrap_or("the root") };
    if name == "blazesym" {
        return (source.path != NATIVE).then(|| format!("`blazesym` is seen only by {NATIVE}"));
    }
    let (_, rooms) = WALLS.iter().find(|(crates, _)| crates.contains(&name))?;
    (!rooms.contains(&room)).then(|| format!("`{name}` is seen only in {}", rooms.join(", ")))
}

/// A room of the library.
fn inside(source: &Source, path: &[String], import: &Import) -> Option<String> {
    let (to, from) = (path.first()?.as_str(), source.room());
    if source.in_crate == Crate::Binary || from.is_none() {
        return None;
    }
    let from = from?;
    if to == from {
        return None;
    }
    let Some(upper) = floor(to) else {
        return Some(format!("`crate::{to}` names something through the crate's root; name the room"));
    };
    if upper >= floor(from)? {
        return Some(format!("`{from}` (floor {}) imports `{to}` (floor {upper}): imports go down only", floor(from)?));
    }
    let tail = path.get(1).map_or("", String::as_str);
    match (from, to) {
        ("encode", "model") => None,
        ("encode", _) => Some(format!("`encode` sees only `model`, not `{to}`: a format cannot learn a destination")),
        ("sink", "model") if tail == "encoded" => None,
        ("sink", "model" | "config") if !import.is_test => Some(format!("`sink` sees only `model::encoded`, not `{to}::{tail}`")),
        (_, "parse") if tail == ANSWERS => None,
        (_, "parse") if source.path != READER_CHILD => Some(format!("`parse` is called by {READER_CHILD} alone; ask `reader::client`")),
        _ => None,
    }
}
