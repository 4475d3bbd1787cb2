//! `cargo xtask ebpf`: the eBPF programs as an object that is stripped of DWARF, keeps its BTF, and has the same bytes wherever it is built.

mod compile;
mod stats;
mod strip;
mod toolchain;

use anyhow::{Context, Result, bail};
use profiler_tests::manifest::{MANIFEST, Manifest, OBJECT, hash_bytes, hash_sources, root};
pub(crate) use stats::stats;
use std::fs;
use std::path::Path;

/// Builds the object and writes it and its manifest where the loader embeds them.
///
/// # Errors
/// A tool is missing, or the programs do not compile.
pub(crate) fn build() -> Result<()> {
    let root = root();
    let (bytes, manifest) = compile(&root)?;
    let object = root.join(OBJECT);
    fs::create_dir_all(object.parent().context("the object has a folder")?)?;
    fs::write(&object, &bytes).with_context(|| format!("writing {}", object.display()))?;
    fs::write(root.join(MANIFEST), manifest.to_text()).with_context(|| format!("writing {MANIFEST}"))?;
    println!("{OBJECT}: {} bytes, {}", bytes.len(), manifest.rustc);
    Ok(())
}

/// Builds the object again and compares it with the committed one.
///
/// # Errors
/// The sources have changed since the commit, the object is not the one that the manifest names, or the same tools give other bytes.
pub(crate) fn check() -> Result<()> {
    let root = root();
    let committed = Manifest::load(&root)?;
    let object = fs::read(root.join(OBJECT)).with_context(|| format!("reading {OBJECT}"))?;
    if hash_bytes(&object) != committed.object {
        bail!("{OBJECT} is not the object that its manifest names; run `cargo xtask ebpf` and commit both");
    }
    if hash_sources(&root)? != committed.sources {
        bail!(
            "the sources of the eBPF programs have changed since the object was built; run `cargo xtask ebpf` and commit object and manifest"
        );
    }
    let (bytes, manifest) = compile(&root)?;
    if !committed.same_tools(&manifest) {
        println!(
            "other tools than the ones that built the committed object, so its bytes cannot be compared; the privileged tests load it"
        );
        println!("committed: {}, {}, aya-ebpf {}", committed.rustc, committed.bpf_linker, committed.aya_ebpf);
        println!("here:      {}, {}, aya-ebpf {}", manifest.rustc, manifest.bpf_linker, manifest.aya_ebpf);
        return Ok(());
    }
    if bytes != object {
        let kept = root.join("target/profiler.bpf.rebuilt.o");
        fs::write(&kept, &bytes).with_context(|| format!("writing {}", kept.display()))?;
        bail!("the same tools build other bytes than {OBJECT}; the ones built now are kept in {}", kept.display());
    }
    println!("{OBJECT}: rebuilt, and equal to the last byte");
    Ok(())
}

/// The object's bytes and what they were built from.
fn compile(root: &Path) -> Result<(Vec<u8>, Manifest)> {
    let toolchain = toolchain::find()?;
    let built = compile::compile(root, &toolchain)?;
    let bytes = strip::without_dwarf(&built)?;
    let manifest = Manifest {
        sources: hash_sources(root)?,
        object: hash_bytes(&bytes),
        rustc: toolchain.rustc_version.clone(),
        bpf_linker: toolchain.linker_version.clone(),
        aya_ebpf: locked_version(root, "aya-ebpf")?,
    };
    Ok((bytes, manifest))
}

/// The version of a package in the lock file of the eBPF workspace.
fn locked_version(root: &Path, package: &str) -> Result<String> {
    let lock = fs::read_to_string(root.join("profiler-ebpf/Cargo.lock")).context("reading profiler-ebpf/Cargo.lock")?;
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.map(str::to_owned).with_context(|| format!("profiler-ebpf/Cargo.lock names no {package}"))
}
