//! Finds a compiler that can build `core` for the eBPF target, and the linker; or says exactly what is missing.

use crate::shell::{self, cargo_home, first_line};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's compiler, as its package `rustc-web` installs it.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Debian's cargo, as its package `cargo-web` installs it.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
/// Where `core` lies below a compiler's system root.
const CORE_SOURCES: &str = "lib/rustlib/src/rust/library";

const MISSING: &str = "no toolchain here can build the eBPF programs. One of the two will do:
  Debian 12:  apt-get install rustc-web cargo-web rust-web-src   (the compiler with its own sources of `core`)
  elsewhere:  rustup toolchain install nightly --component rust-src";

const NO_LINKER: &str = "bpf-linker is not in PATH and not where cargo installs programs. Its LLVM must not be older than the compiler's (`rustc -vV`):
  with Debian's compiler:  apt-get install llvm-22-dev, then
                           LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version 0.13.0 --locked --no-default-features --features llvm-22
  with rustup's nightly:   cargo install bpf-linker";

/// What builds the programs.
pub(crate) struct Toolchain {
    /// The cargo to run.
    pub(crate) cargo: PathBuf,
    /// The compiler it must use.
    pub(crate) rustc: PathBuf,
    /// Folder of the sources of the standard library.
    pub(crate) library: PathBuf,
    /// `rustc -V`.
    pub(crate) rustc_version: String,
    /// The linker.
    pub(crate) linker: PathBuf,
    /// `bpf-linker --version`.
    pub(crate) linker_version: String,
}

/// Compiler, cargo, and the sources of the standard library.
///
/// # Errors
/// What is missing and how to install it.
fn find_rust() -> Result<(PathBuf, PathBuf, PathBuf)> {
    let mut reasons = Vec::new();
    let (rustc, cargo) = (PathBuf::from(DEBIAN_RUSTC), PathBuf::from(DEBIAN_CARGO));
    match (rustc.is_file() && cargo.is_file(), core_sources(&rustc)) {
        (true, Some(library)) => return Ok((rustc, cargo, library)),
        (true, None) => reasons.push(format!("{DEBIAN_RUSTC} is here, but not its sources of `core` (package rust-web-src)")),
        (false, _) => reasons.push(format!("{DEBIAN_RUSTC} and {DEBIAN_CARGO} are not both here")),
    }
    match (nightly("rustc"), nightly("cargo")) {
        (Some(rustc), Some(cargo)) => match core_sources(&rustc) {
            Some(library) => return Ok((rustc, cargo, library)),
            None => reasons.push("rustup's nightly is here, but not its component rust-src".to_owned()),
        },
        _ => reasons.push("rustup has no toolchain `nightly`".to_owned()),
    }
    bail!("{MISSING}\nFound: {}", reasons.join("; "))
}

/// Finds compiler, cargo, sources and linker.
///
/// # Errors
/// What is missing and how to install it.
pub(crate) fn find() -> Result<Toolchain> {
    let (rustc, cargo, library) = find_rust()?;
    let linker = match shell::find("bpf-linker") {
        Some(path) => path,
        None => cargo_home()?.join("bin/bpf-linker"),
    };
    if !linker.is_file() {
        bail!("{NO_LINKER}");
    }
    let rustc_version = first_line(Command::new(&rustc).arg("-V"))?;
    let linker_version = first_line(Command::new(&linker).arg("--version"))?;
    Ok(Toolchain { cargo, rustc, library, rustc_version, linker, linker_version })
}

/// The folder of the sources of the standard library, if the compiler has them.
fn core_sources(rustc: &Path) -> Option<PathBuf> {
    let sysroot = first_line(Command::new(rustc).args(["--print", "sysroot"])).ok()?;
    let library = Path::new(&sysroot).join(CORE_SOURCES);
    library.join("core/src/lib.rs").is_file().then_some(library)
}

/// A program of rustup's nightly.
fn nightly(program: &str) -> Option<PathBuf> {
    shell::find("rustup")?;
    first_line(Command::new("rustup").args(["which", "--toolchain", "nightly", program])).ok().map(PathBuf::from)
}
