//! The house of ARCHITECTURE.md holds: floors, walls, nevers, budgets. Each rule is first shown to find a planted violation.

use profiler_tests::house::source::{Source, settle_modules};
use profiler_tests::house::{Violation, load, violations};
use profiler_tests::manifest::root;

/// Exceptions: file, a part of what is reported, and why it stays. One that is needed no longer fails the test.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// What the rules say of some files, planted under the library's folder.
fn planted(files: &[(&str, &str)]) -> Vec<Violation> {
    let named = files.iter().map(|(path, text)| Source::new(&format!("profiler-user/src/{path}"), &format!("//! A file.\n{text}\n")));
    let mut sources: Vec<Source> = named.collect();
    settle_modules(&mut sources);
    violations(&sources)
}

/// One planted file is reported once, on its second line, in words that hold `word`.
fn found(path: &str, text: &str, word: &str) {
    let violations = planted(&[(path, text)]);
    assert_eq!(violations.len(), 1, "{text}: {violations:?}");
    assert_eq!(violations[0].line, 2, "{violations:?}");
    assert!(violations[0].what.contains(word), "{text}: {violations:?}");
}

/// One planted file is in order.
fn clean(path: &str, text: &str) {
    assert_eq!(planted(&[(path, text)]), [], "{text}");
}

#[test]
fn the_house_is_in_order() {
    let mut unused: Vec<_> = EXCEPTIONS.iter().collect();
    let mut left = Vec::new();
    for violation in violations(&load(&root()).expect("the sources are readable")) {
        match EXCEPTIONS.iter().find(|(file, what, _)| violation.file == *file && violation.what.contains(what)) {
            Some(exception) => unused.retain(|other| *other != exception),
            None => left.push(violation.to_string()),
        }
    }
    assert!(left.is_empty(), "{} violations of the house:\n{}", left.len(), left.join("\n"));
    assert!(unused.is_empty(), "exceptions that are needed no longer: {unused:?}");
}

#[test]
fn imports_that_go_up_or_sideways_are_found_however_they_are_written() {
    for text in [
        "use crate::pipeline::Run;",
        "pub use crate::pipeline::Run;",
        "use crate::{model::kind::Kind, pipeline::{self, Run}};",
        "fn f() { crate::pipeline::run(); }",
        "fn f() { run!(crate::pipeline::Run { x }); }",
        "macro_rules! m { () => { $crate::pipeline::run() } }",
        "use super::super::pipeline::Run;",
        "fn f(x: &super::super::pipeline::Run) {}",
        "type T = Vec<crate::pipeline::Run>;",
        "#[cfg(test)] mod tests { use super::super::super::pipeline::Run; }",
    ] {
        let violations = planted(&[("bpf/drain.rs", text)]);
        assert!(!violations.is_empty() && violations.iter().all(|found| found.what.contains("down only")), "{text}: {violations:?}");
    }
    found("target/mod.rs", "use crate::bpf::Drain;", "down only");
    found("bpf/drain.rs", "use crate as root;", "hides");
    found("bpf/drain.rs", "use crate::*;", "hides");
    found("bpf/drain.rs", "use crate::Recorder;", "name the room");
    found("bpf/drain.rs", "extern crate self as profiler;", "second name");
    clean("pipeline/run.rs", "use crate::bpf::Drain; use crate::process::Table; use super::stop;");
    clean("bpf/drain.rs", "// use crate::pipeline::Run;\nconst TEXT: &str = \"crate::pipeline::Run\";");
}

#[test]
fn a_room_without_a_floor_is_found() {
    let violations = planted(&[("cellar/mod.rs", "")]);
    assert!(violations.len() == 1 && violations[0].what.contains("no floor"), "{violations:?}");
}

#[test]
fn crates_are_seen_only_in_their_rooms() {
    found("pipeline/run.rs", "use aya::Ebpf;", "only in bpf");
    found("pipeline/run.rs", "fn f() { aya::Ebpf::load(x); }", "only in bpf");
    found("process/elf.rs", "use object::File;", "only in parse");
    found("symbolize/names.rs", "fn f() { gimli::read(x); }", "only in parse");
    found("parse/elf.rs", "use blazesym::symbolize::Symbolizer;", "native.rs");
    found("pipeline/run.rs", "use anyhow::Result;", "only in bin");
    found("bpf/drain.rs", "async fn f() { tokio::time::sleep(x).await }", "only in pipeline");
    found("sink/file.rs", "extern crate prost;", "only in encode");
    clean("parse/native.rs", "use blazesym::symbolize::Symbolizer;");
    clean("bin/profiler/main.rs", "use anyhow::Result; use profiler::pipeline::Run;");
    clean("process/elf.rs", "#[cfg(test)] mod tests { use object::File; }");
    clean("process/elf.rs", "use crate::object; fn f() { object::open() }");
}

#[test]
fn formats_destinations_and_parsers_see_only_their_side() {
    found("encode/pprof.rs", "use crate::config::Config;", "only `model`");
    found("sink/file.rs", "use crate::model::profile::Profile;", "only `model::encoded`");
    found("symbolize/mod.rs", "use crate::parse::native;", "child.rs alone");
    found("reader/client.rs", "use crate::parse::native::Detail;", "child.rs alone");
    clean("symbolize/mod.rs", "use crate::parse::answer::SymbolLine;");
    clean("reader/child.rs", "use crate::parse::native;");
    clean("sink/file.rs", "use crate::model::encoded::Encoded;");
}

#[test]
fn circles_between_files_are_found() {
    let files = [("bpf/mod.rs", "pub mod a; pub mod b;"), ("bpf/a.rs", "use super::b::B;"), ("bpf/b.rs", "fn f() { crate::bpf::a::g() }")];
    let violations = planted(&files);
    assert!(violations.len() == 1 && violations[0].what.contains("a circle"), "{violations:?}");
    let through_the_parent = [("bpf/mod.rs", "mod a; pub use a::A; pub struct Error;"), ("bpf/a.rs", "use super::Error;")];
    assert_eq!(planted(&through_the_parent).len(), 1);
    let siblings_through_the_parent = [("bpf/mod.rs", "mod a; mod b; pub use a::A;"), ("bpf/a.rs", ""), ("bpf/b.rs", "use super::A;")];
    assert_eq!(planted(&siblings_through_the_parent), []);
}

#[test]
fn the_nevers_are_found() {
    found("pipeline/run.rs", "fn f() { unsafe { g() } } // SAFETY: none", "only in profiler-ebpf");
    found("bpf/drain.rs", "fn f() { unsafe { g() } }", "SAFETY");
    found("encode/pprof.rs", "fn f() { names.join(\";\"); }", "no stack travels as text");
    found("model/kind.rs", "fn f() { std::fs::read(x); }", "no clock");
    found("model/kind.rs", "fn f() { Instant::now(); }", "no clock");
    clean("bpf/drain.rs", "// SAFETY: the pointer is ours.\nfn f() { unsafe { g() } }");
    let drawer = planted(&[("bpf/util.rs", "")]);
    assert!(drawer.len() == 1 && drawer[0].what.contains("drawer"), "{drawer:?}");
    let silent = violations(&[Source::new("profiler-user/src/bpf/drain.rs", "fn f() {}\n")]);
    assert!(silent.len() == 1 && silent[0].what.contains("//!"), "{silent:?}");
    let twice = violations(&[
        Source::new("profiler-common/src/limits.rs", "//! Bounds.\npub const RING_BYTES: u32 = 1;\n"),
        Source::new("profiler-user/src/bpf/ring.rs", "//! Ring.\nconst RING_BYTES: u32 = 2;\n"),
    ]);
    assert!(twice.len() == 1 && twice[0].what.contains("one place"), "{twice:?}");
}

#[test]
fn budgets_are_counted() {
    found("bpf/drain.rs", &format!("fn f() {{\n{}}}", "g();\n".repeat(60)), "62 lines of 60");
    found("bpf/drain.rs", "fn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) {}", "6 parameters of 5");
    clean("bpf/drain.rs", "impl A { fn f(&self, a: u8, b: u8, c: u8, d: u8, e: u8) {} }");
    let long = planted(&[("bpf/drain.rs", &"\n".repeat(400))]);
    assert!(long.len() == 1 && long[0].what.contains("lines of 400"), "{long:?}");
}
