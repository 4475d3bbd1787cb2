//! Compiles the programs: `core` from source for `bpfel-unknown-none`, with every path of this machine taken out of the result.

use super::toolchain::Toolchain;
use crate::shell::{cargo_home, run};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target of the programs.
const TARGET: &str = "bpfel-unknown-none";
/// The separator of `CARGO_ENCODED_RUSTFLAGS`.
const FLAG_SEPARATOR: &str = "\u{1f}";
/// The object for kernels of an architecture, as the linker wrote it, DWARF and all.
///
/// # Errors
/// The programs do not compile.
pub(crate) fn compile(root: &Path, toolchain: &Toolchain, architecture: &str) -> Result<Vec<u8>> {
    let workspace = root.join("profiler-ebpf");
    let target = root.join("target/ebpf").join(architecture);
    let mut command = Command::new(&toolchain.cargo);
    // What our own cargo has set for us must not reach the other one: its compiler, its flags, its folders.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if (text.starts_with("CARGO_") && text != "CARGO_HOME") || text.starts_with("RUST") {
            command.env_remove(&name);
        }
    }
    command
        .current_dir(&workspace)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS", "fallback")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root, toolchain, architecture)?)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker)
        .args(["build", "--locked", "--release", "-Z", "build-std=core", "--target", TARGET, "--bin", "profiler-ebpf"]);
    run(&mut command)?;
    let built = target.join(TARGET).join("release/profiler-ebpf");
    fs::read(&built).with_context(|| format!("reading {}", built.display()))
}

/// The compiler's flags.
fn flags(root: &Path, toolchain: &Toolchain, architecture: &str) -> Result<OsString> {
    let mut flags: Vec<OsString> = vec![
        // The linker makes BTF out of the debug information.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        format!("--cfg=bpf_target_arch=\"{architecture}\"").into(),
    ];
    for (from, to) in remaps(root, toolchain)? {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    Ok(flags.join(FLAG_SEPARATOR.as_ref()))
}

/// Folders of this machine, and what stands for them in the object. The targets do not exist, so LLVM cannot read source lines into the BTF either.
fn remaps(root: &Path, toolchain: &Toolchain) -> Result<Vec<(PathBuf, String)>> {
    let mut remaps = vec![(root.to_path_buf(), "/-/profiler".to_owned()), (toolchain.library.clone(), "/-/rust".to_owned())];
    if let Ok(real) = toolchain.library.canonicalize() {
        remaps.push((real, "/-/rust".to_owned()));
    }
    let sources = cargo_home()?.join("registry/src");
    if let Ok(entries) = fs::read_dir(&sources) {
        for entry in entries {
            remaps.push((entry?.path(), "/-/registry".to_owned()));
        }
    }
    Ok(remaps)
}
