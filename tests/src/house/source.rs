//! A Rust file with what the rules need to know of it: its crate, its module path, its tokens, and which of them are tests.

use super::tokens::{Kind, Token, tokens};
use std::collections::HashSet;

/// Which crate a file belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Crate {
    /// `profiler-common`.
    Common,
    /// `profiler-ebpf`.
    Ebpf,
    /// The library of `profiler-user`.
    Library,
    /// The binary of `profiler-user`.
    Binary,
    /// `xtask`, `tests` and what else is not the product.
    Tools,
}

/// A Rust file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path, relative to the root of the repository.
    pub path: String,
    /// The crate.
    pub in_crate: Crate,
    /// The module path from the crate's root: `["bpf", "drain"]`; empty for the root itself.
    pub module: Vec<String>,
    /// Its lines.
    pub lines: Vec<String>,
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// For each token the inline modules that it stands in.
    pub inline: Vec<Vec<String>>,
    /// For each token whether it stands in code that only tests compile.
    pub is_test: Vec<bool>,
}

impl Source {
    /// Reads a file's text.
    pub fn new(path: &str, text: &str) -> Self {
        let tokens = tokens(text);
        let (inline, is_test) = inline_modules(&tokens);
        let (in_crate, module) = place(path);
        let lines = text.lines().map(str::to_owned).collect();
        Self { path: path.to_owned(), in_crate, module, lines, tokens, inline, is_test }
    }

    /// The room: the first name of the module path; of the crate's root nothing.
    pub fn room(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    /// Whether the whole file is a test.
    pub fn is_test_file(&self) -> bool {
        !self.is_test.is_empty() && self.is_test.iter().all(|test| *test)
    }
}

/// The crate and the module path of a file, by where it lies.
fn place(path: &str) -> (Crate, Vec<String>) {
    let (in_crate, inside) = if let Some(inside) = path.strip_prefix("profiler-user/src/bin/profiler/") {
        (Crate::Binary, inside)
    } else if let Some(inside) = path.strip_prefix("profiler-user/src/") {
        (Crate::Library, inside)
    } else if let Some(inside) = path.strip_prefix("profiler-common/src/") {
        (Crate::Common, inside)
    } else if let Some(inside) = path.strip_prefix("profiler-ebpf/src/") {
        (Crate::Ebpf, inside)
    } else {
        (Crate::Tools, path)
    };
    let stem = inside.strip_suffix(".rs").unwrap_or(inside);
    let mut module: Vec<String> = stem.split('/').map(str::to_owned).collect();
    let is_root = module.len() == 1 && matches!(stem, "lib" | "main");
    if is_root || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    (in_crate, module)
}

/// For each token the inline modules around it, and whether `#[cfg(test)]` or `#[test]` stands before the item that it is in.
fn inline_modules(tokens: &[Token]) -> (Vec<Vec<String>>, Vec<bool>) {
    // What an open brace belongs to: a module's name if it is one, and whether it began test code.
    let mut open: Vec<(Option<String>, bool)> = Vec::new();
    let (mut inline, mut is_test) = (Vec::with_capacity(tokens.len()), Vec::with_capacity(tokens.len()));
    let mut pending_module = None;
    let mut pending_test = false;
    for (at, token) in tokens.iter().enumerate() {
        if token.is_mark("#") && is_test_attribute(&tokens[at..]) {
            pending_test = true;
        }
        let names_module = at > 0 && tokens[at - 1].is_word("mod") && token.kind == Kind::Word;
        if names_module && tokens.get(at + 1).is_some_and(|next| next.is_mark("{")) {
            pending_module = Some(token.text.clone());
        }
        if token.is_mark("{") {
            open.push((pending_module.take(), pending_test));
            pending_test = false;
        }
        inline.push(open.iter().filter_map(|(name, _)| name.clone()).collect());
        is_test.push(pending_test || open.iter().any(|(_, test)| *test));
        if token.is_mark("}") {
            open.pop();
        } else if token.is_mark(";") {
            pending_test = false;
        }
    }
    (inline, is_test)
}

/// Whether an attribute makes what follows a test: `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, ..))]`, `#[cfg_attr]` does not.
fn is_test_attribute(tokens: &[Token]) -> bool {
    let inside: Vec<&Token> = tokens.iter().skip(1).take_while(|token| !token.is_mark("]")).collect();
    let Some([open, name]) = inside.first_chunk() else { return false };
    if !open.is_mark("[") {
        return false;
    }
    let says_test = inside.iter().skip(2).any(|token| token.is_word("test"));
    let says_not = inside.iter().any(|token| token.is_word("not"));
    name.is_word("test") || (name.is_word("cfg") && says_test && !says_not)
}

/// Gives files that a `#[path]` names the module that it declares, and marks files that a `#[cfg(test)] mod name;` elsewhere makes test code as a whole.
pub fn settle_modules(sources: &mut [Source]) {
    let mut test_modules = HashSet::new();
    let mut moved = Vec::new();
    for source in sources.iter() {
        for (at, token) in source.tokens.iter().enumerate() {
            let declares = token.is_word("mod") && source.tokens.get(at + 2).is_some_and(|next| next.is_mark(";"));
            if !declares {
                continue;
            }
            let mut module = source.module.clone();
            module.extend(source.inline[at].iter().cloned());
            module.push(source.tokens[at + 1].text.clone());
            if let Some(path) = path_attribute(&source.tokens[..at]) {
                let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                moved.push((format!("{folder}/{path}"), module.clone()));
            }
            if source.is_test[at] {
                test_modules.insert((source.in_crate, module));
            }
        }
    }
    for source in sources {
        if let Some((_, module)) = moved.iter().find(|(path, _)| *path == source.path) {
            source.module.clone_from(module);
        }
        let inside = |length: usize| test_modules.contains(&(source.in_crate, source.module[..length].to_vec()));
        if (1..=source.module.len()).any(inside) {
            source.is_test.fill(true);
        }
    }
}

/// The file that `#[path = "file"]` right before an item names.
fn path_attribute(before: &[Token]) -> Option<&str> {
    let [.., open, name, equals, file, close] = before else { return None };
    let is_path = open.is_mark("[") && name.is_word("path") && equals.is_mark("=") && close.is_mark("]");
    (is_path && file.kind == Kind::Literal).then_some(file.text.as_str())
}

#[cfg(test)]
mod tests {
    use super::{Crate, Source, settle_modules};

    #[test]
    fn a_path_says_crate_and_module() {
        let place = |path| {
            let source = Source::new(path, "");
            (source.in_crate, source.module.join("::"))
        };
        assert_eq!(place("profiler-user/src/bpf/mod.rs"), (Crate::Library, "bpf".to_owned()));
        assert_eq!(place("profiler-user/src/bpf/drain.rs"), (Crate::Library, "bpf::drain".to_owned()));
        assert_eq!(place("profiler-user/src/lib.rs"), (Crate::Library, String::new()));
        assert_eq!(place("profiler-user/src/bin/profiler/main.rs"), (Crate::Binary, String::new()));
        assert_eq!(place("profiler-common/src/loss.rs"), (Crate::Common, "loss".to_owned()));
    }

    #[test]
    fn test_code_is_told_from_the_rest() {
        let text = "use a; #[cfg(test)] mod tests { use b; } use c; #[cfg(not(test))] use d; #[test] fn e() { f } g";
        let source = Source::new("profiler-user/src/x.rs", text);
        let tests: Vec<&str> =
            source.tokens.iter().zip(&source.is_test).filter(|(_, test)| **test).map(|(token, _)| token.text.as_str()).collect();
        assert!(tests.contains(&"b") && tests.contains(&"f"));
        assert!(["a", "c", "d", "g"].iter().all(|word| !tests.contains(word)));
    }

    #[test]
    fn a_file_behind_cfg_test_is_a_test() {
        let mut sources = [
            Source::new("profiler-user/src/x.rs", "#[cfg(test)] mod cases; mod real;"),
            Source::new("profiler-user/src/x/cases.rs", "use a;"),
            Source::new("profiler-user/src/x/real.rs", "use a;"),
        ];
        settle_modules(&mut sources);
        assert!(sources[1].is_test_file() && !sources[2].is_test_file());
    }

    #[test]
    fn a_file_that_an_attribute_names_is_the_module_that_it_declares() {
        let mut sources = [
            Source::new("profiler-user/src/x/y.rs", "#[cfg(test)] #[path = \"y_tests.rs\"] mod tests;"),
            Source::new("profiler-user/src/x/y_tests.rs", "use super::a;"),
        ];
        settle_modules(&mut sources);
        assert_eq!(sources[1].module, ["x", "y", "tests"]);
        assert!(sources[1].is_test_file());
    }
}
