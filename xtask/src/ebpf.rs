//! `cargo xtask ebpf`: the eBPF programs as an object that is stripped of DWARF, keeps its BTF, and has the same bytes wherever it is built.

mod compile;
mod stats;
mod strip;
mod toolchain;

use anyhow::{Context, Result, bail};
use profiler_tests::manifest::{MANIFEST, Manifest, OBJECTS, hash_bytes, hash_sources, root};
pub(crate) use stats::stats;
use std::fs;
use std::path::Path;

/// Builds the objects and writes them and their manifest where the loader embeds them.
///
/// # Errors
/// A tool is missing, or the programs do not compile.
pub(crate) fn build() -> Result<()> {
    let root = root();
    let (objects, manifest) = compile(&root)?;
    for ((_, place), bytes) in OBJECTS.iter().zip(&objects) {
        let object = root.join(place);
        fs::create_dir_all(object.parent().context("the object has a folder")?)?;
        fs::write(&object, bytes).with_context(|| format!("writing {}", object.display()))?;
        println!("{place}: {} bytes, {}", bytes.len(), manifest.rustc);
    }
    fs::write(root.join(MANIFEST), manifest.to_text()).with_context(|| format!("writing {MANIFEST}"))
}

/// Builds the objects again and compares them with the committed ones.
///
/// # Errors
/// The sources have changed since the commit, an object is not the one that the manifest names, or the same tools give other bytes.
pub(crate) fn check() -> Result<()> {
    let root = root();
    let committed = Manifest::load(&root)?;
    let mut objects = Vec::new();
    for ((_, place), hash) in OBJECTS.iter().zip(&committed.objects) {
        objects.push(fs::read(root.join(place)).with_context(|| format!("reading {place}"))?);
        if objects.last().is_some_and(|object| hash_bytes(object) != *hash) {
            bail!("{place} is not the object that its manifest names; run `cargo xtask ebpf` and commit both");
        }
    }
    if hash_sources(&root)? != committed.sources {
        bail!(
            "the sources of the eBPF programs have changed since the objects were built; run `cargo xtask ebpf` and commit objects and manifest"
        );
    }
    let (rebuilt, manifest) = compile(&root)?;
    if !committed.same_tools(&manifest) {
        println!(
            "other tools than the ones that built the committed objects, so their bytes cannot be compared; the privileged tests load them"
        );
        println!("committed: {}, {}, aya-ebpf {}", committed.rustc, committed.bpf_linker, committed.aya_ebpf);
        println!("here:      {}, {}, aya-ebpf {}", manifest.rustc, manifest.bpf_linker, manifest.aya_ebpf);
        return Ok(());
    }
    for ((architecture, place), (bytes, object)) in OBJECTS.iter().zip(rebuilt.iter().zip(&objects)) {
        if bytes != object {
            let kept = root.join(format!("target/profiler.{architecture}.bpf.rebuilt.o"));
            fs::write(&kept, bytes).with_context(|| format!("writing {}", kept.display()))?;
            bail!("the same tools build other bytes than {place}; the ones built now are kept in {}", kept.display());
        }
        println!("{place}: rebuilt, and equal to the last byte");
    }
    Ok(())
}

/// The bytes of each object and what they were built from.
fn compile(root: &Path) -> Result<([Vec<u8>; 2], Manifest)> {
    let toolchain = toolchain::find()?;
    let built = |(architecture, _)| strip::without_dwarf(&compile::compile(root, &toolchain, architecture)?);
    let objects = [built(OBJECTS[0])?, built(OBJECTS[1])?];
    let manifest = Manifest {
        sources: hash_sources(root)?,
        objects: [hash_bytes(&objects[0]), hash_bytes(&objects[1])],
        rustc: toolchain.rustc_version.clone(),
        bpf_linker: toolchain.linker_version.clone(),
        aya_ebpf: locked_version(root, "aya-ebpf")?,
    };
    Ok((objects, manifest))
}

/// The version of a package in the lock file of the eBPF workspace.
fn locked_version(root: &Path, package: &str) -> Result<String> {
    let lock = fs::read_to_string(root.join("profiler-ebpf/Cargo.lock")).context("reading profiler-ebpf/Cargo.lock")?;
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.map(str::to_owned).with_context(|| format!("profiler-ebpf/Cargo.lock names no {package}"))
}
