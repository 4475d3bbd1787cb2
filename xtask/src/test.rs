//! `cargo xtask test`: every test. Unit and documentation tests as who we are, then the promises of `tests/`, which need root, one after the other.

use crate::shell::{cargo, find, run};
use anyhow::Result;
use profiler_tests::manifest::root;
use profiler_tests::skip;
use std::process::Command;

/// Runs all tests, or of the promises only the named files.
///
/// # Errors
/// A test fails.
pub(crate) fn all(names: &[String]) -> Result<()> {
    let root = root();
    if names.is_empty() {
        run(cargo().current_dir(&root).args(["test", "--workspace", "--exclude", "profiler-tests"]))?;
    }
    // The promises are measured on the binary that users get.
    build_release()?;
    skip::forget_skipped()?;
    let mut command = cargo();
    command.current_dir(&root).args(["test", "--package", "profiler-tests"]);
    command.env("PROFILER_BIN", root.join("target/release/profiler"));
    for name in names {
        command.args(["--test", name]);
    }
    as_root(&mut command);
    // One at a time: they measure shares of the machine's time, and most of them use all of it.
    let tested = run(command.args(["--no-fail-fast", "--", "--test-threads=1"]));
    let skipped = skip::skipped()?;
    if !skipped.is_empty() {
        eprintln!("{} tests were SKIPPED on this machine:\n{}", skipped.len(), skipped.join("\n"));
    }
    tested
}

/// Has cargo start the tests through sudo where we are not root. Cargo itself stays who we are, so that nothing in `target/` changes hands.
fn as_root(command: &mut Command) {
    if rustix::process::geteuid().is_root() {
        return;
    }
    if find("sudo").is_none() {
        eprintln!("not root, and there is no sudo: what needs root will be skipped");
        return;
    }
    command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo --preserve-env");
    command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", "sudo --preserve-env");
}

/// Builds the binary that users get.
///
/// # Errors
/// It does not build.
pub(crate) fn build_release() -> Result<()> {
    run(cargo().current_dir(root()).args(["build", "--release", "--package", "profiler-user", "--bin", "profiler"]))
}
