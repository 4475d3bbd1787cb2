//! The nevers: where `unsafe` may stand, what no room is called, which bound is written twice, where a stack may become text, what `model/` may not touch.

use super::Violation;
use super::source::{Crate, Source};
use super::tokens::{Kind, Token};
use std::collections::HashSet;

/// Names of drawers; none is a room.
const DRAWERS: &[&str] = &["util", "utils", "common", "helper", "helpers", "shared", "types", "misc"];
/// Where names joined by `;` exist.
const FOLDED: &str = "profiler-user/src/encode/folded.rs";
/// The bounds of both sides.
const LIMITS: &str = "profiler-common/src/limits.rs";
/// How far above a block its SAFETY comment may begin.
const SAFETY_LINES: usize = 12;

/// What the house never has.
pub fn violations(sources: &[Source]) -> Vec<Violation> {
    let limits: HashSet<&str> = sources.iter().filter(|source| source.path == LIMITS).flat_map(constants).map(|(name, _)| name).collect();
    let mut found = Vec::new();
    for source in sources {
        let mut report = |line: usize, what: String| found.push(Violation { file: source.path.clone(), line, what });
        if !source.lines.first().is_some_and(|line| line.starts_with("//!")) {
            report(1, "the file does not open with `//!`: what it is for, and what always holds in it".to_owned());
        }
        for part in source.path.split('/').skip_while(|part| *part != "src") {
            let name = part.strip_suffix(".rs").unwrap_or(part);
            if DRAWERS.contains(&name) {
                report(1, format!("`{name}` is a drawer, not a room"));
            }
        }
        if source.path != LIMITS {
            for (name, line) in constants(source).filter(|(name, _)| limits.contains(name)) {
                report(line, format!("the bound {name} has its one place in {LIMITS}"));
            }
        }
        unsafe_blocks(source, &mut report);
        stacks_as_text(source, &mut report);
        pure_model(source, &mut report);
    }
    found
}

/// The constants that a file defines.
fn constants(source: &Source) -> impl Iterator<Item = (&str, usize)> {
    let pairs = source.tokens.windows(2).zip(&source.is_test);
    pairs
        .filter(|(pair, test)| pair[0].is_word("const") && pair[1].kind == Kind::Word && pair[1].text != "_" && !**test)
        .map(|(pair, _)| (pair[1].text.as_str(), pair[1].line))
}

/// Rule 7.
fn unsafe_blocks(source: &Source, report: &mut impl FnMut(usize, String)) {
    let allowed = source.in_crate == Crate::Ebpf || (source.in_crate == Crate::Library && matches!(source.room(), Some("bpf" | "sys")));
    for (at, token) in source.tokens.iter().enumerate().filter(|(_, token)| token.is_word("unsafe")) {
        if !allowed {
            report(token.line, "`unsafe` stands only in profiler-ebpf, bpf/ and sys".to_owned());
        }
        let opens = source.tokens.get(at + 1).is_some_and(|next| next.is_mark("{") || next.is_word("impl"));
        if opens && !has_safety_comment(source, token) {
            report(token.line, "no SAFETY comment says why this is sound".to_owned());
        }
    }
}

/// A comment with the word SAFETY on the line, or above it with no empty line between.
fn has_safety_comment(source: &Source, token: &Token) -> bool {
    let before = source.lines[..token.line].iter().rev().take(SAFETY_LINES);
    before.take_while(|line| !line.trim().is_empty()).any(|line| line.contains("// SAFETY"))
}

/// Rule 4: the separator of folded stacks.
fn stacks_as_text(source: &Source, report: &mut impl FnMut(usize, String)) {
    if source.in_crate != Crate::Library || source.path == FOLDED {
        return;
    }
    let literals = source.tokens.iter().zip(&source.is_test).filter(|(token, test)| token.kind == Kind::Literal && !**test);
    for (token, _) in literals.filter(|(token, _)| token.text == ";") {
        report(token.line, format!("names are joined by `;` only in {FOLDED}: no stack travels as text"));
    }
}

/// `model/` has no I/O and no clocks.
fn pure_model(source: &Source, report: &mut impl FnMut(usize, String)) {
    if source.in_crate != Crate::Library || source.room() != Some("model") {
        return;
    }
    for (at, window) in source.tokens.windows(3).enumerate().filter(|(at, _)| !source.is_test[*at]) {
        let [first, mark, second] = window else { continue };
        let module = first.is_word("std") && matches!(second.text.as_str(), "fs" | "io" | "net" | "env" | "thread" | "process");
        let clock = matches!(first.text.as_str(), "Instant" | "SystemTime") && second.is_word("now");
        if mark.is_mark("::") && (module || clock) {
            report(source.tokens[at].line, format!("`model` does no I/O and reads no clock: `{}::{}`", first.text, second.text));
        }
    }
}
