//! Every path of a file, resolved as far as text allows: to a path from its crate's root, or to another crate.

use super::source::{Crate, Source};
use super::tokens::{Kind, Token};
use std::collections::{HashMap, HashSet};

/// Names that another crate's path can begin with and that are never another crate's.
const LANGUAGE: &[&str] = &["std", "core", "alloc", "Self", "Ok", "Err", "Some", "None"];

/// A path that a file names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    /// What it names.
    pub to: To,
    /// Line, from 1.
    pub line: usize,
    /// Whether only tests compile it.
    pub is_test: bool,
    /// Whether it stands in `pub use`, and under which name it is given on.
    pub given_on: Option<String>,
}

/// Where a path leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum To {
    /// Into the same crate, or from the binary into its library: the path from the root.
    Inside(Crate, Vec<String>),
    /// Into another crate: the whole path.
    Outside(Vec<String>),
    /// A way of naming that hides what is named.
    Hidden(&'static str),
}

/// All paths of a file.
pub fn imports(source: &Source) -> Vec<Import> {
    let mut scanner = Scanner { source, found: Vec::new(), local: local_names(source) };
    let mut at = 0;
    while at < source.tokens.len() {
        at = scanner.next(at);
    }
    scanner.found
}

/// A leaf of a `use` tree: its path, and the name that it gets.
struct Leaf {
    path: Vec<String>,
    name: String,
    line: usize,
}

struct Scanner<'a> {
    source: &'a Source,
    found: Vec<Import>,
    /// Names that `use` or `mod` bring in: a path that begins with one is no other crate's.
    local: HashMap<String, Vec<String>>,
}

impl Scanner<'_> {
    /// Looks at one token, or at the whole path or `use` that begins there; gives where to go on.
    fn next(&mut self, at: usize) -> usize {
        let tokens = &self.source.tokens;
        let token = &tokens[at];
        if token.is_word("use") && !is_bound_list(tokens, at) {
            let (leaves, end) = use_leaves(tokens, at + 1);
            let is_public = is_public(tokens, at);
            for leaf in leaves {
                self.take_leaf(&leaf, at, is_public);
            }
            return end;
        }
        if token.is_word("extern") && tokens.get(at + 1).is_some_and(|next| next.is_word("crate")) {
            let name = tokens.get(at + 2).map(|name| name.text.clone()).unwrap_or_default();
            let to = if name == "self" { To::Hidden("`extern crate self` gives the crate a second name") } else { To::Outside(vec![name]) };
            self.push(to, at, None);
            return at + 3;
        }
        if token.kind != Kind::Word || (at > 0 && tokens[at - 1].is_mark("::") && !is_dollar(tokens, at)) {
            return at + 1;
        }
        let (path, end) = path_from(tokens, at);
        // `pub(in super::super)` says who may see, and imports nothing.
        let is_visibility = at > 2 && tokens[at - 1].is_word("in") && tokens[at - 3].is_word("pub");
        if path.len() > 1 && !is_visibility {
            self.take_path(&path, at);
        }
        end
    }

    fn take_leaf(&mut self, leaf: &Leaf, at: usize, is_public: bool) {
        let Some(to) = self.resolve(&leaf.path, at, Position::Use) else { return };
        let whole_crate = matches!(&to, To::Inside(_, path) if path.is_empty() || path == &["*"]);
        let to = if whole_crate { To::Hidden("the crate's root under another name, or all of it at once, hides the rooms") } else { to };
        let given_on = is_public.then(|| leaf.name.clone());
        self.found.push(Import { to, line: leaf.line, is_test: self.source.is_test[at], given_on });
    }

    fn take_path(&mut self, path: &[String], at: usize) {
        if let Some(to) = self.resolve(path, at, Position::Expression) {
            self.push(to, at, None);
        }
    }

    fn push(&mut self, to: To, at: usize, given_on: Option<String>) {
        self.found.push(Import { to, line: self.source.tokens[at].line, is_test: self.source.is_test[at], given_on });
    }

    /// Where a path leads; `None` when it stays in the file, or in the language.
    fn resolve(&self, path: &[String], at: usize, position: Position) -> Option<To> {
        let here: Vec<String> = self.source.module.iter().chain(&self.source.inline[at]).cloned().collect();
        let first = path.first()?.as_str();
        let inside = |mut base: Vec<String>, rest: &[String]| {
            base.extend(rest.iter().cloned());
            Some(To::Inside(self.source.in_crate, base))
        };
        match first {
            "crate" => inside(Vec::new(), &path[1..]),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                inside(here[..here.len().saturating_sub(ups)].to_vec(), &path[ups..])
            }
            "self" => inside(here, &path[1..]),
            // The library's own name, from the binary, or from the library through a macro or a test.
            "profiler" if self.source.in_crate != Crate::Tools => Some(To::Inside(Crate::Library, path[1..].to_vec())),
            _ if LANGUAGE.contains(&first) => None,
            _ => match self.local.get(first) {
                // `use crate::bpf as b; b::x`: the whole path is as if it were written out. One that leads to itself would never end.
                Some(to) if to.first().is_some_and(|start| start != first) => self.resolve(&[to, &path[1..]].concat(), at, position),
                Some(_) => None,
                None if position == Position::Expression && first.starts_with(char::is_uppercase) => None,
                None => Some(To::Outside(path.to_vec())),
            },
        }
    }
}

/// Where a path stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    Use,
    Expression,
}

/// Names that the file itself brings in, with what they stand for: by `use`, and the modules that it declares.
fn local_names(source: &Source) -> HashMap<String, Vec<String>> {
    let tokens = &source.tokens;
    let mut names = HashMap::new();
    let mut outside = HashSet::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.is_word("mod") && tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Word) {
            let name = tokens[at + 1].text.clone();
            let path = ["crate".to_owned()].into_iter().chain(source.module.iter().cloned()).chain(source.inline[at].iter().cloned());
            names.insert(name.clone(), path.chain([name]).collect());
        }
        if token.is_word("use") && !is_bound_list(tokens, at) {
            for leaf in use_leaves(tokens, at + 1).0 {
                let starts_here = matches!(leaf.path.first().map(String::as_str), Some("crate" | "super" | "self"));
                // Another crate's item under its own last name; `use tokio;` names the crate itself and changes nothing.
                if !starts_here && leaf.path.len() == 1 && leaf.path[0] == leaf.name {
                    outside.insert(leaf.name.clone());
                }
                names.entry(leaf.name.clone()).or_insert_with(|| absolute(source, at, leaf.path));
            }
        }
    }
    names.retain(|name, _| !outside.contains(name) && name != "_" && name != "*");
    names
}

/// A path that begins with `self` or `super`, as one that begins with `crate`, so that it means the same in another inline module.
fn absolute(source: &Source, at: usize, path: Vec<String>) -> Vec<String> {
    let here: Vec<String> = source.module.iter().chain(&source.inline[at]).cloned().collect();
    let ups = path.iter().take_while(|part| *part == "super").count();
    let skip = match path.first().map(String::as_str) {
        Some("self") => 1,
        Some("super") => ups,
        _ => return path,
    };
    let base = here[..here.len().saturating_sub(ups)].iter();
    ["crate".to_owned()].into_iter().chain(base.chain(&path[skip..]).cloned()).collect()
}

/// `use<'a, T>` in a type is no import.
fn is_bound_list(tokens: &[Token], at: usize) -> bool {
    tokens.get(at + 1).is_none_or(|next| next.is_mark("<"))
}

/// Whether `pub` or `pub(..)` stands before a token.
fn is_public(tokens: &[Token], at: usize) -> bool {
    let before = &tokens[at.saturating_sub(4)..at];
    match before.last() {
        Some(last) if last.is_word("pub") => true,
        Some(last) if last.is_mark(")") => before.iter().any(|token| token.is_word("pub")),
        _ => false,
    }
}

/// `$crate::..` in a macro.
fn is_dollar(tokens: &[Token], at: usize) -> bool {
    at > 1 && tokens[at - 2].is_mark("$")
}

/// The path that begins at a token: words joined by `::`; generic arguments end it.
fn path_from(tokens: &[Token], at: usize) -> (Vec<String>, usize) {
    let mut path = vec![tokens[at].text.clone()];
    let mut end = at + 1;
    while let (Some(mark), Some(word)) = (tokens.get(end), tokens.get(end + 1)) {
        if !mark.is_mark("::") || word.kind != Kind::Word {
            break;
        }
        path.push(word.text.clone());
        end += 2;
    }
    (path, end)
}

/// The leaves of a `use` tree, and where it ends.
fn use_leaves(tokens: &[Token], start: usize) -> (Vec<Leaf>, usize) {
    let mut leaves = Vec::new();
    let mut bases: Vec<Vec<String>> = Vec::new();
    let mut current: Vec<String> = Vec::new();
    let mut alias: Option<String> = None;
    let mut at = start;
    while let Some(token) = tokens.get(at) {
        let closes = token.is_mark(",") || token.is_mark("}") || token.is_mark(";");
        if closes && let Some(last) = current.last().cloned() {
            let base = bases.concat();
            // `a::{self}` names `a`.
            let own = last == "self" && !(base.is_empty() && current.len() == 1);
            let path: Vec<String> = base.iter().chain(&current[..current.len() - usize::from(own)]).cloned().collect();
            let name = alias.take().or_else(|| path.last().cloned()).unwrap_or_default();
            leaves.push(Leaf { path, name, line: token.line });
            current.clear();
        }
        match token.text.as_str() {
            ";" if token.kind == Kind::Mark => return (leaves, at + 1),
            "{" if token.kind == Kind::Mark => bases.push(std::mem::take(&mut current)),
            "}" if token.kind == Kind::Mark => drop(bases.pop()),
            "as" if token.kind == Kind::Word => {
                alias = tokens.get(at + 1).map(|name| name.text.clone());
                at += 1;
            }
            "*" => current.push("*".to_owned()),
            _ if token.kind == Kind::Word => current.push(token.text.clone()),
            _ => {}
        }
        at += 1;
    }
    (leaves, at)
}

#[cfg(test)]
mod tests {
    use super::{To, imports};
    use crate::house::source::Source;

    fn shown(path: &str, text: &str) -> Vec<String> {
        let found = imports(&Source::new(path, text)).into_iter();
        found
            .map(|import| match import.to {
                To::Inside(_, path) => format!("crate::{}", path.join("::")),
                To::Outside(path) => path.join("::"),
                To::Hidden(_) => "hidden".to_owned(),
            })
            .collect()
    }

    #[test]
    fn use_trees_are_read_to_their_leaves() {
        let text = "use crate::{bpf::{self, drain::Drain as D}, model::*}; pub(crate) use super::walk; use self::inner::A;";
        let found = shown("profiler-user/src/target/tree.rs", text);
        assert_eq!(
            found,
            ["crate::bpf", "crate::bpf::drain::Drain", "crate::model::*", "crate::target::walk", "crate::target::tree::inner::A"]
        );
    }

    #[test]
    fn paths_count_wherever_they_stand() {
        let text = "fn f() { crate::bpf::x(); vec![super::y::Z::new()]; aya::Ebpf::load(b); Vec::<u8>::new(); $crate::sink::send!() }";
        let found = shown("profiler-user/src/target/tree.rs", text);
        assert_eq!(found, ["crate::bpf::x", "crate::target::y::Z::new", "aya::Ebpf::load", "crate::sink::send"]);
    }

    #[test]
    fn aliases_are_followed() {
        let found =
            shown("profiler-user/src/target/mod.rs", "use crate::bpf as b; use aya as quiet; fn f() { b::x(); quiet::Ebpf::load(y) }");
        assert_eq!(found, ["crate::bpf", "aya", "crate::bpf::x", "aya::Ebpf::load"]);
    }

    #[test]
    fn a_room_that_is_called_like_a_crate_is_the_room() {
        assert_eq!(
            shown("profiler-user/src/process/mod.rs", "use crate::object; fn f() { object::open() }"),
            ["crate::object", "crate::object::open"]
        );
        assert_eq!(shown("profiler-user/src/parse/elf.rs", "fn f() { object::File::parse(x) }"), ["object::File::parse"]);
    }

    #[test]
    fn who_may_see_an_item_is_no_import() {
        assert_eq!(
            shown("profiler-user/src/bpf/x.rs", "pub(in super::super) const A: u8 = 1; pub(in crate::bpf) fn f() { for a in b::c() {} }"),
            ["b::c"]
        );
    }

    #[test]
    fn a_second_name_for_the_root_is_hidden() {
        assert_eq!(
            shown("profiler-user/src/model/x.rs", "use crate as c; use crate::*; extern crate self as me;"),
            ["hidden", "hidden", "hidden"]
        );
    }

    #[test]
    fn super_climbs_from_inline_modules() {
        assert_eq!(
            shown("profiler-user/src/model/x.rs", "mod tests { use super::A; use super::super::kind::B; }"),
            ["crate::model::x::A", "crate::model::kind::B"]
        );
    }
}
