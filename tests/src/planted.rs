//! Rows made wrong on purpose: the unwind information of one function in a copy of a program says another size of its frame.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// `DW_CFA_def_cfa_offset`, whose operand is one byte for frames below 128 bytes.
const DEF_CFA_OFFSET: u8 = 0x0e;

/// What a file says of a function's frame: where its record begins in `.eh_frame`, and the sizes that the rows state one after the other.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Described {
    begins: usize,
    sizes: Vec<u8>,
}

/// Lets every frame of a function be larger by so many bytes than it is. With the size of its caller's frame the walk skips that caller, and goes on as if
/// nothing were wrong.
///
/// # Errors
/// The function has no such rows, or binutils are missing.
pub fn enlarge_frames(file: &Path, function: &str, by: u8) -> Result<()> {
    let before = described(file, function)?;
    let mut bytes = fs::read(file)?;
    let mut at = section_offset(file)? + before.begins;
    for size in &before.sizes {
        let found = bytes[at..].windows(2).position(|pair| pair == [DEF_CFA_OFFSET, *size]);
        at += found.context("the rows are not where they should be")? + 1;
        bytes[at] += by;
    }
    fs::write(file, bytes)?;
    let after = described(file, function)?;
    let wanted: Vec<u8> = before.sizes.iter().map(|size| size + by).collect();
    ensure!(!wanted.is_empty() && after.sizes == wanted && after.begins == before.begins, "{before:?} became {after:?}");
    Ok(())
}

/// What binutils read of a function's rows.
fn described(file: &Path, function: &str) -> Result<Described> {
    let symbols = printed("nm", &[], file)?;
    let symbol = symbols.lines().find(|line| line.ends_with(&format!(" {function}"))).with_context(|| format!("no function {function}"))?;
    let start = symbol.split(' ').next().unwrap_or_default();
    let frames = printed("readelf", &["--debug-dump=frames"], file)?;
    let mut lines = frames.lines().skip_while(|line| !line.contains(&format!(" pc={start}..")));
    let head = lines.next().with_context(|| format!("no rows of {function}"))?;
    let begins = usize::from_str_radix(head.split(' ').next().unwrap_or_default(), 16)?;
    let rows = lines.take_while(|line| !line.is_empty());
    let sizes = rows.filter_map(|line| line.trim().strip_prefix("DW_CFA_def_cfa_offset: ")).map(str::parse);
    Ok(Described { begins, sizes: sizes.collect::<Result<_, _>>()? })
}

/// Where `.eh_frame` is in the file.
fn section_offset(file: &Path) -> Result<usize> {
    let sections = printed("readelf", &["-SW"], file)?;
    let line = sections.lines().find(|line| line.contains(" .eh_frame ")).context("no .eh_frame")?;
    // [Nr] Name Type Address Offset: the number may be one word or two.
    let offset = line.split_whitespace().skip_while(|word| *word != ".eh_frame").nth(3).context("no offset")?;
    Ok(usize::from_str_radix(offset, 16)?)
}

/// What a program of binutils prints.
fn printed(program: &str, arguments: &[&str], file: &Path) -> Result<String> {
    let output = Command::new(program).args(arguments).arg(file).output().with_context(|| format!("starting {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
