//! The house as rules over source text: floors, walls between crates and rooms, nevers and budgets of ARCHITECTURE.md, found without a compiler.
//!
//! A [`Source`] is a file of tokens with comments and literals set aside; [`imports`] turns every path in it, wherever it stands (`use`, a full path, a
//! macro, an alias), into a path from the crate's root; the rules look at those. `tests/tests/house.rs` plants violations to prove that each is found.

pub mod budgets;
pub mod cycles;
pub mod floors;
pub mod imports;
pub mod nevers;
pub mod source;
pub mod tokens;

use anyhow::{Context, Result};
use source::Source;
use std::fmt;
use std::fs;
use std::path::Path;

/// Something that the house forbids.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Violation {
    /// File, relative to the root of the repository.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Reads every Rust file of the repository, except what is built.
///
/// # Errors
/// A file cannot be read.
pub fn load(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for package in ["profiler-common", "profiler-ebpf", "profiler-user", "xtask", "tests", "fuzz"] {
        walk(root, &root.join(package), &mut sources)?;
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    source::settle_modules(&mut sources);
    Ok(sources)
}

/// Reads a folder and what is below it.
fn walk(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                walk(root, &path, sources)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            sources.push(Source::new(&name, &text));
        }
    }
    Ok(())
}

/// All rules over all files.
pub fn violations(sources: &[Source]) -> Vec<Violation> {
    let mut found = floors::violations(sources);
    found.extend(cycles::violations(sources));
    found.extend(nevers::violations(sources));
    found.extend(budgets::violations(sources));
    found.sort();
    found.dedup();
    found
}
