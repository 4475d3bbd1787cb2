//! Allocators as they are installed: which functions are found, and whether a disassembler written by others agrees with the places for probes.

use super::{Folder, id, reader, run};
use profiler::model::allocator::{Allocator, AllocatorCall, AllocatorFunction, OWN_MAX, ProbePlace};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

fn of(path: &Path) -> Allocator {
    let file = File::open(path).unwrap();
    reader().allocator(id(&file), file.as_fd(), &[]).unwrap()
}

fn library(name: &str) -> PathBuf {
    let folders = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib64", "/lib64"];
    folders.into_iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists()).unwrap()
}

/// A function by any of its names: those of one address are one function.
fn function<'a>(allocator: &'a Allocator, names: &[&str]) -> &'a AllocatorFunction {
    let found = allocator.functions.iter().find(|function| names.contains(&function.name.as_str()));
    found.unwrap_or_else(|| panic!("no {names:?} in {:?}", allocator.functions))
}

fn names(allocator: &Allocator) -> Vec<&str> {
    allocator.functions.iter().map(|function| function.name.as_str()).collect()
}

/// Address less offset of the code, as `readelf` says.
fn base(path: &Path) -> u64 {
    let table = run(Command::new("readelf").arg("-lW").arg(path));
    let line = table.lines().find(|line| line.contains("LOAD") && line.contains(" R E ")).unwrap();
    let number =
        |at| u64::from_str_radix(line.split_whitespace().nth(at).map_or("", |text: &str| text.trim_start_matches("0x")), 16).unwrap();
    number(2) - number(1)
}

/// Instructions of a function by their offsets in the file, as `objdump` reads them.
fn disassembled(path: &Path, function: &AllocatorFunction) -> HashMap<u64, String> {
    let base = base(path);
    let range = [format!("--start-address={}", function.entry + base), format!("--stop-address={}", function.entry + base + 1000)];
    let text = run(Command::new("objdump").args(["-d", "--no-show-raw-insn"]).args(range).arg(path));
    let instruction = |line: &str| {
        let (address, instruction) = line.split_once(":\t")?;
        Some((u64::from_str_radix(address.trim(), 16).ok()? - base, instruction.trim().to_owned()))
    };
    text.lines().filter_map(instruction).collect()
}

/// What the kernel emulates, in a disassembler's words.
fn is_emulated(instruction: &str) -> bool {
    let (mnemonic, operands) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
    let is_direct = !operands.trim().starts_with('*');
    match mnemonic {
        "push" => operands.trim().starts_with('%'),
        "nop" => true,
        "call" => is_direct,
        _ => mnemonic.starts_with('j') && is_direct,
    }
}

fn hold(path: &Path, allocator: &Allocator) {
    for function in &allocator.functions {
        let code = disassembled(path, function);
        let report = |place: ProbePlace| {
            let at = place.offset - function.entry;
            let instruction = code.get(&place.offset).unwrap_or_else(|| panic!("{function:?}: no instruction begins at +{at}"));
            assert!(!place.is_emulated || is_emulated(instruction), "{function:?}: {instruction}");
            format!("+{at} (pushed {}) {}", place.pushed, if place.is_emulated { instruction } else { "STEPPED" })
        };
        let (first, second) = (report(function.at_entry), report(function.after_entry));
        println!("{:24} {:13?} {first:40} {second:40} {}", function.name, function.call, if function.forwards { "forwards" } else { "" });
        assert_eq!(function.at_entry.pushed, 0);
    }
    println!("own {:x?}", allocator.own);
    assert!(allocator.own.len() <= OWN_MAX && allocator.own.iter().all(|(first, end)| first < end));
}

fn is_own(allocator: &Allocator, function: &AllocatorFunction) -> bool {
    allocator.own.iter().any(|(first, end)| (*first..*end).contains(&function.entry))
}

#[test]
fn the_functions_of_glibc_are_found_and_their_cheap_places() {
    let path = library("libc.so.6");
    let found = of(&path);
    hold(&path, &found);
    for plain in [&["malloc"][..], &["calloc"], &["realloc"], &["free"], &["posix_memalign"], &["aligned_alloc", "memalign"]] {
        let function = function(&found, plain);
        assert!(function.at_entry.is_emulated || function.call == AllocatorCall::Free, "{function:?}");
        assert!(function.after_entry.is_emulated && is_own(&found, function), "{function:?}");
    }
    assert!(!names(&found).contains(&"reallocarray"));
    assert!(function(&found, &["realloc"]).forwards && function(&found, &["aligned_alloc", "memalign"]).forwards);
    assert!(!function(&found, &["malloc"]).forwards && !function(&found, &["posix_memalign"]).forwards);
}

#[test]
fn a_free_of_nothing_is_skipped() {
    let path = library("libc.so.6");
    let found = of(&path);
    let free = function(&found, &["free"]);
    let code = disassembled(&path, free);
    let mut before: Vec<(&u64, &String)> = code.iter().filter(|(at, _)| **at >= free.entry && **at < free.after_entry.offset).collect();
    before.sort_unstable();
    let check =
        before.windows(2).any(|pair| pair[0].1.starts_with("test") && pair[0].1.ends_with("%rdi,%rdi") && pair[1].1.starts_with("je"));
    assert!(check, "{before:?}");
}

#[test]
fn jemalloc_has_operators_of_its_own() {
    let path = library("libjemalloc.so.2");
    let found = of(&path);
    hold(&path, &found);
    for name in ["malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc", "mallocx", "sdallocx", "_Znwm", "_ZdlPvm"] {
        function(&found, &[name]);
    }
    // They jump on, or call one that is probed.
    for name in ["_Znam", "_ZdlPv", "_ZnwmSt11align_val_t"] {
        assert!(!names(&found).contains(&name), "{name}");
    }
}

#[test]
fn tcmalloc_has_one_function_for_many_names() {
    let path = library("libtcmalloc_minimal.so.4");
    let found = of(&path);
    hold(&path, &found);
    for name in ["malloc", "calloc", "realloc", "free", "memalign", "posix_memalign"] {
        assert!(is_own(&found, function(&found, &[name])), "{name}");
    }
    assert!(!names(&found).iter().any(|name| name.starts_with("tc_") || *name == "valloc" || *name == "pvalloc"));
}

#[test]
fn mimalloc_jumps_on() {
    let path = library("libmimalloc.so.2.0");
    let found = of(&path);
    hold(&path, &found);
    for name in ["calloc", "mi_posix_memalign", "mi_malloc_aligned"] {
        assert!(is_own(&found, function(&found, &[name])), "{name}");
    }
    for name in ["malloc", "realloc", "free"] {
        function(&found, &[name]);
    }
    for name in [
        "aligned_alloc",
        "mi_aligned_alloc",
        "valloc",
        "mi_valloc",
        "cfree",
        "mi_cfree",
        "_ZdlPvm",
        "_ZdlPvSt11align_val_t",
        "_ZnwmRKSt9nothrow_t",
    ] {
        assert!(!names(&found).contains(&name), "{name}");
    }
}

#[test]
fn musl_is_found_behind_its_jumps() {
    let path = Path::new("/lib/ld-musl-x86_64.so.1");
    let found = of(path);
    hold(path, &found);
    for name in ["malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign"] {
        let function = function(&found, &[name]);
        assert!(function.at_entry.is_emulated && is_own(&found, function), "{function:?}");
    }
    for name in ["memalign", "valloc", "reallocarray"] {
        assert!(!names(&found).contains(&name), "{name}");
    }
}

#[test]
fn a_static_program_has_what_its_symbols_say() {
    let folder = Folder::new("static-allocator");
    let source = "#include <stdlib.h>\nint main(int c, char **v) { void *p; posix_memalign(&p, 64, c); free(realloc(calloc(c, 8), 99)); return !aligned_alloc(64, 64) | !malloc(c); }";
    let program = folder.compile("program", source, &["-static", "-O1"]);
    let found = of(&program);
    hold(&program, &found);
    for name in [&["malloc"][..], &["calloc"], &["realloc"], &["free", "cfree"], &["posix_memalign"], &["aligned_alloc", "memalign"]] {
        assert!(is_own(&found, function(&found, name)), "{name:?}");
    }
    run(Command::new("strip").arg(&program));
    assert_eq!(of(&program), Allocator::default());
}

#[test]
fn a_file_that_only_calls_an_allocator_has_none() {
    let folder = Folder::new("no-allocator");
    let program = folder.compile("program", "#include <stdlib.h>\nint main(int c, char **v) { free(malloc(c)); return 0; }", &[]);
    assert_eq!(of(&program), Allocator::default());
    assert_eq!(of(&library("libstdc++.so.6")), Allocator::default());
}
