//! What a test needs of the machine. Without it the test is skipped, but loudly: named on the terminal and counted in a file; with `CI=true` a skip is a
//! failure.

use crate::manifest::root;
use crate::subject::Build;
use anyhow::{Context, Result};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::panic::Location;
use std::path::{Path, PathBuf};

/// What a test may need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need<'a> {
    /// Root with the capabilities that recording wants.
    Root,
    /// A program in `PATH` (or with this path).
    Program(&'a str),
    /// A file or folder that this kernel or machine must have.
    Path(&'a str),
}

/// Whether everything is there; says loudly what is not, and panics instead if `CI=true`.
///
/// # Panics
/// With `CI=true`, when something is missing: a skipped test proves nothing.
#[track_caller]
pub fn ready(needs: &[Need<'_>]) -> bool {
    let missing: Vec<String> = needs.iter().filter_map(|need| missing(*need)).collect();
    if missing.is_empty() {
        return true;
    }
    skip(&missing.join("; "));
    false
}

/// Whether a recording of such subjects can be made here: root, and what builds them. As [`ready`] otherwise.
///
/// # Panics
/// With `CI=true`, when something is missing.
#[track_caller]
pub fn can_record(builds: &[Build]) -> bool {
    let tools = builds.iter().map(|build| Need::Program(build.tool()));
    ready(&[Need::Root].into_iter().chain(tools).collect::<Vec<_>>())
}

/// Skips the calling test for a reason that it found out itself.
///
/// # Panics
/// With `CI=true`.
#[track_caller]
pub fn skip(reason: &str) {
    let at = Location::caller();
    let line = format!("SKIPPED {}:{}: {reason}", at.file(), at.line());
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{line} (with CI=true a skipped test is a failure)");
    // Not `eprintln!`: the test harness hides what a passing test prints that way.
    let _ = writeln!(std::io::stderr(), "{line}");
    if let Err(error) = note(&line) {
        let _ = writeln!(std::io::stderr(), "the skip could not be counted: {error:#}");
    }
}

/// What is missing, in words.
fn missing(need: Need<'_>) -> Option<String> {
    match need {
        Need::Root => (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned()),
        Need::Program(name) => find(name).is_none().then(|| format!("needs the program {name}")),
        Need::Path(path) => (!Path::new(path).exists()).then(|| format!("needs {path}")),
    }
}

/// A program in `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).is_file().then(|| name.into());
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The file that counts skips.
fn notes() -> PathBuf {
    root().join("target/profiler-tests/skipped")
}

/// Adds a line to the file that counts skips.
fn note(line: &str) -> Result<()> {
    let path = notes();
    fs::create_dir_all(path.parent().context("the file has a folder")?)?;
    writeln!(OpenOptions::new().create(true).append(true).open(path)?, "{line}")?;
    Ok(())
}

/// The skips counted since [`forget_skipped`].
///
/// # Errors
/// The file is there and cannot be read.
pub fn skipped() -> Result<Vec<String>> {
    match fs::read_to_string(notes()) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).context("reading the list of skipped tests"),
    }
}

/// Starts counting skips anew.
///
/// # Errors
/// The file cannot be removed.
pub fn forget_skipped() -> Result<()> {
    match fs::remove_file(notes()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("removing the list of skipped tests"),
        _ => Ok(()),
    }
}
