//! `cargo xtask dist`: one static binary (static-pie on gnu; there is no musl in it), whose only need is the kernel.

use crate::shell::{cargo, run};
use anyhow::{Context, Result, bail};
use object::{Object, ObjectKind};
use profiler_tests::manifest::root;
use std::fs;

/// Target of the release; named, so that the flags do not reach build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds it and checks that it asks for no shared library and no interpreter.
///
/// # Errors
/// It does not build, or it came out dynamic.
pub(crate) fn build() -> Result<()> {
    let root = root();
    run(cargo().current_dir(&root).env("RUSTFLAGS", "-C target-feature=+crt-static").args([
        "build",
        "--release",
        "--locked",
        "--package",
        "profiler-user",
        "--bin",
        "profiler",
        "--target",
        TARGET,
    ]))?;
    let built = root.join("target").join(TARGET).join("release/profiler");
    let bytes = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    let file = object::File::parse(&*bytes).context("reading the built binary")?;
    if file.kind() != ObjectKind::Dynamic || file.section_by_name(".interp").is_some() {
        bail!("{} is not a static position-independent executable", built.display());
    }
    println!("{}: {} bytes, static-pie", built.display(), bytes.len());
    Ok(())
}
