//! What the committed eBPF object was built from: the hash of its sources and the versions of the tools, in a small text file beside it.
//!
//! The hash is FNV-1a of 64 bits, written here: it guards against forgetting to rebuild, not against an attacker (who could change the manifest
//! as well), so a cryptographic hash would be a dependency without a use.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The committed objects, relative to the root of the repository: for kernels of x86-64, and of arm64. What a kernel saves of a task's registers differs.
pub const OBJECTS: [(&str, &str); 2] =
    [("x86_64", "profiler-user/src/bpf/object/profiler.bpf.o"), ("aarch64", "profiler-user/src/bpf/object/profiler.aarch64.bpf.o")];
/// Their manifest, relative to the root of the repository.
pub const MANIFEST: &str = "profiler-user/src/bpf/object/profiler.bpf.manifest";
/// Files and folders that the object is built from, relative to the root of the repository.
const SOURCES: &[&str] =
    &["profiler-ebpf/Cargo.toml", "profiler-ebpf/Cargo.lock", "profiler-ebpf/src", "profiler-common/Cargo.toml", "profiler-common/src"];

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package tests/ lies in the repository").to_path_buf()
}

/// What the objects were built from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// [`hash_sources`] at the time of the build.
    pub sources: String,
    /// [`hash_bytes`] of each of the [`OBJECTS`].
    pub objects: [String; 2],
    /// Version of the compiler, as `rustc -V` prints it.
    pub rustc: String,
    /// Version of the linker, as `bpf-linker --version` prints it.
    pub bpf_linker: String,
    /// Version of aya-ebpf in the lock file.
    pub aya_ebpf: String,
}

impl Manifest {
    /// The text of the file.
    pub fn to_text(&self) -> String {
        format!(
            "# Written by `cargo xtask ebpf`; do not edit.\nsources {}\nobject-x86_64 {}\nobject-aarch64 {}\nrustc {}\nbpf-linker {}\naya-ebpf {}\n",
            self.sources, self.objects[0], self.objects[1], self.rustc, self.bpf_linker, self.aya_ebpf
        )
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// A line is missing.
    pub fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| -> Result<String> {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found.map(str::to_owned).with_context(|| format!("the manifest of the eBPF object has no line `{name}`"))
        };
        Ok(Self {
            sources: field("sources")?,
            objects: [field("object-x86_64")?, field("object-aarch64")?],
            rustc: field("rustc")?,
            bpf_linker: field("bpf-linker")?,
            aya_ebpf: field("aya-ebpf")?,
        })
    }

    /// Reads the committed manifest.
    ///
    /// # Errors
    /// It is not there or not readable.
    pub fn load(root: &Path) -> Result<Self> {
        let path = root.join(MANIFEST);
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read; `cargo xtask ebpf` writes it", path.display()))?;
        Self::parse(&text)
    }

    /// Whether the same tools built it, so that the bytes must be equal too.
    pub fn same_tools(&self, other: &Self) -> bool {
        (&self.rustc, &self.bpf_linker, &self.aya_ebpf) == (&other.rustc, &other.bpf_linker, &other.aya_ebpf)
    }
}

/// FNV-1a, 64 bits (offset basis and prime of the FNV specification).
fn fnv(mut state: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state
}

/// Hash of some bytes, as the manifest writes it.
pub fn hash_bytes(bytes: &[u8]) -> String {
    format!("{:016x}", fnv(0xcbf2_9ce4_8422_2325, bytes))
}

/// Hash of everything that the object is built from: names, lengths and contents, in the order of the names.
///
/// # Errors
/// A source cannot be read.
pub fn hash_sources(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    files.sort();
    if files.len() < SOURCES.len() {
        bail!("the sources of the eBPF programs are not complete below {}", root.display());
    }
    let mut state = 0xcbf2_9ce4_8422_2325;
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file);
        state = fnv(state, name.as_os_str().as_encoded_bytes());
        state = fnv(state, &(bytes.len() as u64).to_le_bytes());
        state = fnv(state, &bytes);
    }
    Ok(format!("{state:016x}"))
}

/// All files of a tree, or the one file.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| format!("listing {}", path.display()))? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Manifest, hash_bytes};

    #[test]
    fn hashes_as_the_published_vectors_say() {
        assert_eq!(hash_bytes(b""), "cbf29ce484222325");
        assert_eq!(hash_bytes(b"a"), "af63dc4c8601ec8c");
        assert_eq!(hash_bytes(b"foobar"), "85944171f73967e8");
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written() {
        let manifest = Manifest {
            sources: "01".into(),
            objects: ["02".into(), "03".into()],
            rustc: "rustc 1 (a)".into(),
            bpf_linker: "bpf-linker 2".into(),
            aya_ebpf: "3".into(),
        };
        assert_eq!(Manifest::parse(&manifest.to_text()).expect("parses"), manifest);
        assert!(Manifest::parse("sources 1\n").is_err());
    }
}
