//! Rule 1, second half: no circle between the files of the library. A module that its parent only declares is no import; `pub use` is one.

use super::Violation;
use super::imports::{To, imports};
use super::source::{Crate, Source};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many `pub use` a path may lead through.
const HOPS_MAX: usize = 8;

/// Circles, each reported once, at the first of its files.
pub fn violations(sources: &[Source]) -> Vec<Violation> {
    let graph = edges(sources);
    let mut found = Vec::new();
    let mut reported = BTreeSet::new();
    for start in graph.keys() {
        if let Some(circle) = circle_through(&graph, start) {
            let members: BTreeSet<&str> = circle.iter().map(|(file, _)| *file).collect();
            if reported.insert(members) {
                let shown: Vec<String> = circle.iter().map(|(file, line)| format!("{file}:{line}")).collect();
                let (file, line) = circle[0];
                found.push(Violation {
                    file: file.to_owned(),
                    line,
                    what: format!("a circle between files: {} -> {file}", shown.join(" -> ")),
                });
            }
        }
    }
    found
}

/// For each file the files that it imports, with a line where it does.
type Graph<'a> = BTreeMap<&'a str, BTreeMap<&'a str, usize>>;

fn edges(sources: &[Source]) -> Graph<'_> {
    let library: Vec<&Source> = sources.iter().filter(|source| source.in_crate == Crate::Library).collect();
    let files: HashMap<&[String], &Source> = library.iter().map(|source| (source.module.as_slice(), *source)).collect();
    let mut given_on: HashMap<Vec<String>, Vec<String>> = HashMap::new();
    for source in &library {
        for import in imports(source) {
            if let (Some(name), To::Inside(_, path)) = (import.given_on, import.to) {
                given_on.insert([source.module.as_slice(), &[name]].concat(), path);
            }
        }
    }
    let mut graph = Graph::new();
    for source in library.iter().filter(|source| !source.module.is_empty()) {
        let targets = graph.entry(source.path.as_str()).or_default();
        for import in imports(source).into_iter().filter(|import| !import.is_test) {
            if let To::Inside(_, path) = import.to
                && let Some(file) = file_of(&files, &given_on, path)
                && file.path != source.path
                && !file.module.is_empty()
            {
                targets.entry(file.path.as_str()).or_insert(import.line);
            }
        }
    }
    graph
}

/// The file that defines what a path names: through `pub use` as far as it goes, then the longest prefix that is a file.
fn file_of<'a>(
    files: &HashMap<&[String], &'a Source>,
    given_on: &HashMap<Vec<String>, Vec<String>>,
    mut path: Vec<String>,
) -> Option<&'a Source> {
    for _ in 0..HOPS_MAX {
        let hop = (1..=path.len()).find_map(|length| given_on.get(&path[..length]).map(|to| (to, length)));
        let Some((to, length)) = hop else { break };
        path = [to, &path[length..]].concat();
    }
    (0..=path.len()).rev().find_map(|length| files.get(&path[..length]).copied())
}

/// The shortest circle through a file: its files, each with the line that leads on.
fn circle_through<'a>(graph: &Graph<'a>, start: &'a str) -> Option<Vec<(&'a str, usize)>> {
    let mut came_from: HashMap<&str, (&'a str, usize)> = HashMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for (next, line) in graph.get(file).into_iter().flatten() {
            if *next == start {
                let mut circle = vec![(file, *line)];
                let mut at = file;
                while let Some((before, line)) = came_from.get(at) {
                    circle.push((before, *line));
                    at = before;
                }
                circle.reverse();
                return Some(circle);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, (file, *line));
                queue.push_back(next);
            }
        }
    }
    None
}
