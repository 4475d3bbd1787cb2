//! `cargo xtask ebpf --stats`: how large the programs are, beside what kernels allow.
//!
//! The verifier gives up after a million instructions, each counted as often as it walks through it (`BPF_COMPLEXITY_LIMIT_INSNS` of include/linux/bpf.h, the
//! same since 5.2; for programs of privileged users it bounds the length, too). It has become cleverer and more careful from release to release, so one program
//! costs it more in one kernel than in another: between 6.1 and 6.18 ours differ by a few of a hundred. A program may need a quarter of the limit, so that no
//! release that counts three times as much refuses it.

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSymbol, SymbolKind};
use profiler::bpf::{EMBEDDED_OBJECT, ProgramSize, program_sizes};
use std::collections::BTreeMap;

/// What the kernel's verifier walks through at most, instructions.
const VERIFIED_LIMIT: u32 = 1_000_000;
/// What a program of ours may need of it.
const VERIFIED_MAX: u32 = VERIFIED_LIMIT / 4;
/// Bytes of an instruction.
const INSTRUCTION_BYTES: u64 = 8;

/// Loads the committed programs and prints a line for each.
///
/// # Errors
/// They cannot be loaded here, or one needs too much.
pub(crate) fn stats() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("programs are loaded, which needs root: sudo --preserve-env=PATH cargo xtask ebpf --stats");
    }
    let functions = functions(EMBEDDED_OBJECT)?;
    let sizes = program_sizes().context("loading the committed programs on this kernel")?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("Linux {}; the verifier's limit is {VERIFIED_LIMIT} instructions, ours {VERIFIED_MAX}", release.trim());
    println!("{:<16} {:>9} {:>9} {:>11} {:>11} {:>7}", "program", "object", "verified", "translated", "jited", "of it");
    for size in &sizes {
        let share = f64::from(size.verified_instructions) * 100.0 / f64::from(VERIFIED_LIMIT);
        let ProgramSize { name, verified_instructions, translated_bytes, jited_bytes } = size;
        let own = functions.get(name.as_str()).copied().unwrap_or(0);
        println!("{name:<16} {own:>9} {verified_instructions:>9} {translated_bytes:>9} B {jited_bytes:>9} B {share:>5.1} %");
    }
    let called = functions.iter().filter(|(name, _)| sizes.iter().all(|size| size.name != **name)).map(|(_, own)| own).sum::<u64>();
    println!("{:<16} {called:>9}   in functions that programs call", "");
    judge(&sizes)
}

/// Instructions of each function of the object.
fn functions(bytes: &[u8]) -> Result<BTreeMap<String, u64>> {
    let file = object::File::parse(bytes).context("reading the committed object")?;
    let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
    functions.map(|symbol| Ok((symbol.name()?.to_owned(), symbol.size() / INSTRUCTION_BYTES))).collect()
}

/// Refuses what is too large, and figures that are none.
fn judge(sizes: &[ProgramSize]) -> Result<()> {
    if sizes.is_empty() {
        bail!("the object has no programs");
    }
    for size in sizes {
        match size.verified_instructions {
            0 => bail!("this kernel does not say how many instructions of {} it verified (Linux 5.16 and later do)", size.name),
            1..=VERIFIED_MAX => {}
            verified => bail!("{} needs {verified} instructions of the verifier, and may need {VERIFIED_MAX}", size.name),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(verified_instructions: u32) -> Result<()> {
        judge(&[ProgramSize { name: "cpu".into(), verified_instructions, translated_bytes: 8, jited_bytes: 8 }])
    }

    #[test]
    fn a_program_that_needs_more_than_a_quarter_is_refused() {
        assert!(with(1).is_ok() && with(250_000).is_ok());
        assert!(with(250_001).is_err() && with(0).is_err() && judge(&[]).is_err());
    }

    #[test]
    fn the_object_has_the_functions_of_the_programs() {
        let functions = functions(EMBEDDED_OBJECT).expect("an object");
        assert!(["cpu", "follow_fork", "forget_process"].iter().all(|name| functions.get(*name).is_some_and(|own| *own > 10)));
    }
}
