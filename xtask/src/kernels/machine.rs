//! The machines that are emulated: what runs on them, and by what.

use super::debian::{Suite, shell};
use crate::shell::{cargo, run};
use crate::test::build_release;
use anyhow::{Context, Result};
use profiler_tests::manifest::root;
use profiler_tests::skip::Need;
use profiler_tests::subject::{Build, build};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rust's name for arm64.
const ARM64_TARGET: &str = "aarch64-unknown-linux-gnu";
const ARM64_COMPILER: &str = "aarch64-linux-gnu-gcc";
/// Libraries of Debian's cross compiler, and those of them that the guest's programs are started with.
const ARM64_LIBRARIES: &str = "/usr/aarch64-linux-gnu/lib";
const ARM64_STARTED_WITH: [&str; 4] = ["ld-linux-aarch64.so.1", "libc.so.6", "libgcc_s.so.1", "libm.so.6"];
/// Where its shell comes from.
const ARM64_SUITE: Suite = Suite { release: "trixie", is_security: false, architecture: "arm64" };

/// A machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Machine {
    /// This one.
    X86_64,
    /// Another one; its return addresses are signed.
    Arm64,
}

impl Machine {
    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86-64",
            Self::Arm64 => "arm64",
        }
    }

    /// What it takes to emulate it and to build for it.
    pub(super) fn needs(self) -> &'static [Need<'static>] {
        match self {
            Self::X86_64 => {
                &[Need::Program("qemu-system-x86_64"), Need::Program("strip"), Need::Program("gcc"), Need::Path("/bin/busybox")]
            }
            Self::Arm64 => &[
                Need::Program("qemu-system-aarch64"),
                Need::Program(ARM64_COMPILER),
                Need::Path("/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1"),
            ],
        }
    }

    /// The emulator and what it emulates. Emulated even where /dev/kvm is there: nested, it may stop at an instruction that its own host does not know.
    /// Its processors take turns in one thread: in threads of their own, one may run an instruction that another has patched away just before,
    /// and a kernel whose programs come and go stops at its own breakpoint (`int3` in `schedule`).
    pub(super) fn emulator(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["qemu-system-x86_64", "-accel", "tcg,thread=single", "-cpu", "max"],
            Self::Arm64 => &["qemu-system-aarch64", "-M", "virt", "-accel", "tcg,thread=single", "-cpu", "max"],
        }
    }

    /// Its serial line.
    pub(super) fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }

    /// Builds what the guest needs; where each file stands there, and here.
    ///
    /// # Errors
    /// Something does not build or cannot be had.
    pub(super) fn files(self, folder: &Path) -> Result<Vec<(String, PathBuf)>> {
        fs::create_dir_all(folder)?;
        match self {
            Self::X86_64 => own_files(folder),
            Self::Arm64 => arm64_files(folder),
        }
    }
}

fn own_files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    build_release()?;
    let (ourselves, stripped) = (std::env::current_exe()?, folder.join("xtask"));
    run(Command::new("strip").arg("-o").arg(&stripped).arg(ourselves))?;
    let blocks = folder.join("blocks");
    run(Command::new("gcc").args(["-static", "-O2", "-g", "-o"]).arg(&blocks).arg(root().join("tests/subjects/blocks.c")))?;
    let profiler = root().join("target/release/profiler");
    let programs = [("profiler", profiler), ("xtask", stripped), ("deep", build("deep", Build::CBare)?), ("blocks", blocks)];
    let mut files = vec![("bin/busybox".to_owned(), PathBuf::from("/bin/busybox"))];
    for (name, path) in programs {
        let started_with = Command::new("ldd").arg(&path).output().context("starting ldd")?;
        let text = String::from_utf8_lossy(&started_with.stdout).into_owned();
        files.extend(text.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(|path| (path.to_owned(), path.into())));
        files.push((format!("bin/{name}"), path));
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn arm64_files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let target = root().join("target/arm64");
    run(cargo()
        .current_dir(root())
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", ARM64_COMPILER)
        .args(["build", "--release", "--package", "profiler-user", "--bin", "profiler", "--target", ARM64_TARGET, "--target-dir"])
        .arg(&target))
    .with_context(|| format!("building for arm64 (rustup target add {ARM64_TARGET})"))?;
    let subject = folder.join("deep-arm64");
    let flags = ["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-mbranch-protection=standard", "-o"];
    run(Command::new(ARM64_COMPILER).args(flags).arg(&subject).arg(root().join("tests/subjects/deep.c")))?;
    let mut files = vec![
        ("bin/busybox".to_owned(), shell(folder, &ARM64_SUITE)?),
        ("bin/profiler".to_owned(), target.join(ARM64_TARGET).join("release/profiler")),
        ("bin/deep".to_owned(), subject),
    ];
    files.extend(ARM64_STARTED_WITH.map(|name| (format!("lib/{name}"), Path::new(ARM64_LIBRARIES).join(name))));
    Ok(files)
}
