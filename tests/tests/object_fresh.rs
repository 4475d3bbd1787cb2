//! The committed eBPF object was built from the sources beside it: a change of the programs without `cargo xtask ebpf` fails here.

use profiler_tests::manifest::{Manifest, OBJECTS, hash_bytes, hash_sources, root};
use std::fs;

#[test]
fn the_objects_are_those_that_their_manifest_names() {
    let manifest = Manifest::load(&root()).expect("a manifest");
    for ((_, place), hash) in OBJECTS.iter().zip(&manifest.objects) {
        let object = fs::read(root().join(place)).expect("an object");
        assert_eq!(hash_bytes(&object), *hash, "{place} and its manifest do not belong together; run `cargo xtask ebpf` and commit both");
    }
}

#[test]
fn the_object_was_built_from_these_sources() {
    let manifest = Manifest::load(&root()).expect("a manifest");
    let sources = hash_sources(&root()).expect("the sources are readable");
    assert_eq!(
        sources, manifest.sources,
        "the sources of the eBPF programs changed since the object was built; run `cargo xtask ebpf` and commit it"
    );
}

#[test]
fn a_changed_source_has_another_hash() {
    let folder = profiler_tests::run::Folder::create().expect("a folder");
    for name in ["profiler-ebpf/src", "profiler-common/src"] {
        fs::create_dir_all(folder.join(name)).expect("a folder");
    }
    for name in [
        "profiler-ebpf/Cargo.toml",
        "profiler-ebpf/Cargo.lock",
        "profiler-common/Cargo.toml",
        "profiler-ebpf/src/main.rs",
        "profiler-common/src/lib.rs",
    ] {
        fs::write(folder.join(name), name).expect("written");
    }
    let before = hash_sources(folder.path()).expect("hash");
    fs::write(folder.join("profiler-common/src/lib.rs"), "other").expect("written");
    assert_ne!(hash_sources(folder.path()).expect("hash"), before);
    fs::write(folder.join("profiler-common/src/lib.rs"), "profiler-common/src/lib.rs").expect("written");
    assert_eq!(hash_sources(folder.path()).expect("hash"), before);
    fs::rename(folder.join("profiler-ebpf/src/main.rs"), folder.join("profiler-ebpf/src/other.rs")).expect("renamed");
    assert_ne!(hash_sources(folder.path()).expect("hash"), before);
}
