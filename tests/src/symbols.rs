//! The names that a file or the kernel has for an address, as binutils and the kernel tell them: the judge of ours.

use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A segment of code: offset in the file, address, length.
type Segment = (u64, u64, u64);

/// The symbols of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Symbols {
    segments: Vec<Segment>,
    /// By address: end and name of those that begin there.
    by_start: BTreeMap<u64, Vec<(u64, String)>>,
}

impl Symbols {
    /// Reads those of a file: its own, the dynamic ones, and those of its separate debug file.
    ///
    /// # Errors
    /// It cannot be read, or binutils are missing.
    pub fn read(file: &Path) -> Result<Self> {
        let mut symbols = Self { segments: segments(&printed("readelf", &["-lW"], file)?), by_start: BTreeMap::new() };
        for tables in [&["-S", "--defined-only"][..], &["-S", "-D", "--defined-only"]] {
            symbols.add(&printed("nm", tables, file)?);
        }
        if let Some(debug) = debug_file(&printed("readelf", &["-n"], file)?).filter(|debug| debug.is_file()) {
            symbols.add(&printed("nm", &["-S", "--defined-only"], &debug)?);
        }
        // A file may lack any of the sections, which is no failure here.
        let linkage = ["-d", "-j", ".plt", "-j", ".plt.got", "-j", ".plt.sec"];
        let linkage = Command::new("objdump").args(linkage).arg(file).output().context("starting objdump")?;
        symbols.add_linkage(&String::from_utf8_lossy(&linkage.stdout));
        Ok(symbols)
    }

    /// Takes in what objdump calls the entries of the procedure linkage table: `ADDRESS <NAME@plt>:`.
    fn add_linkage(&mut self, text: &str) {
        let headings = text.lines().filter_map(|line| line.strip_suffix(">:")?.split_once(" <"));
        let entries: Vec<(u64, &str)> =
            headings.filter_map(|(start, name)| Some((u64::from_str_radix(start, 16).ok()?, name.strip_suffix("@plt")?))).collect();
        for (at, (start, name)) in entries.iter().enumerate() {
            let next = entries.get(at + 1).map_or(u64::MAX, |(next, _)| *next);
            self.by_start.entry(*start).or_default().push((next.min(start + 16), base(name).to_owned()));
        }
    }

    /// Takes in lines of nm: `ADDRESS SIZE TYPE NAME`; those without a size cover nothing.
    fn add(&mut self, text: &str) {
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [start, size, kind, name] = words[..]
                && "tTwWiuV".contains(kind)
                && let (Ok(start), Ok(size)) = (u64::from_str_radix(start, 16), u64::from_str_radix(size, 16))
            {
                self.by_start.entry(start).or_default().push((start + size, base(name).to_owned()));
            }
        }
    }

    /// The names of what lies at an offset of the file.
    pub fn at_offset(&self, offset: u64) -> BTreeSet<&str> {
        let Some((at, address, _)) = self.segments.iter().find(|(at, _, length)| (*at..at + length).contains(&offset)) else {
            return BTreeSet::new();
        };
        let wanted = offset - at + address;
        // A symbol inside of another one is rare, and never thousands deep.
        let before = self.by_start.range(..=wanted).rev().take(64).flat_map(|(_, named)| named);
        before.filter(|(end, _)| wanted < *end).map(|(_, name)| name.as_str()).collect()
    }
}

/// What a program prints about a file.
fn printed(program: &str, args: &[&str], file: &Path) -> Result<String> {
    let output = Command::new(program).args(args).arg(file).output().with_context(|| format!("starting {program}"))?;
    ensure!(output.status.success(), "{program} {}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where the debug file of a file lies, which says `Build ID: HEX` in what `readelf -n` prints.
fn debug_file(notes: &str) -> Option<PathBuf> {
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: "))?;
    let (first, rest) = id.split_at_checked(2)?;
    Some(Path::new("/usr/lib/debug/.build-id").join(first).join(format!("{rest}.debug")))
}

/// Segments of code in what `readelf -lW` prints: `LOAD OFFSET ADDRESS PHYSICAL IN_FILE IN_MEMORY R E ALIGN`.
fn segments(text: &str) -> Vec<Segment> {
    let number = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let segment = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["LOAD", offset, address, _, length, _, "R", "E", ..] => Some((number(offset)?, number(address)?, number(length)?)),
            _ => None,
        }
    };
    text.lines().filter_map(segment).collect()
}

/// A name without its version and without what compilers add to clones.
pub fn base(name: &str) -> &str {
    let end = name.find('@').unwrap_or(name.len());
    let name = &name[..end];
    [".isra.", ".constprop.", ".part.", ".cold", ".lto_priv."]
        .iter()
        .filter_map(|suffix| name.find(suffix))
        .min()
        .map_or(name, |end| &name[..end])
}

/// All names of the kernel.
///
/// # Errors
/// They cannot be read.
pub fn of_the_kernel() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string("/proc/kallsyms").context("reading the kernel's names")?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().nth(2)).map(|name| base(name).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::{Symbols, base, segments};

    #[test]
    fn an_offset_is_named_by_what_covers_it() {
        let mut symbols = Symbols { segments: vec![(0x1000, 0x401000, 0x1000)], ..Symbols::default() };
        symbols.add("0000000000401000 0000000000000010 T first\n0000000000401000 0000000000000010 t alias.isra.0\n0000000000401020 0000000000000010 W second@@V1\n                 U none\n");
        assert_eq!(symbols.at_offset(0x100f).into_iter().collect::<Vec<_>>(), ["alias", "first"]);
        assert!(symbols.at_offset(0x1010).is_empty() && symbols.at_offset(0x20).is_empty());
        assert!(symbols.at_offset(0x1020).contains("second"));
    }

    #[test]
    fn segments_of_code_are_found() {
        let text =
            "  LOAD  0x000000 0x0000 0x0000 0x000640 0x000640 R   0x1000\n  LOAD  0x001000 0x2000 0x2000 0x000175 0x000175 R E 0x1000\n";
        assert_eq!(segments(text), [(0x1000, 0x2000, 0x175)]);
        assert_eq!(base("f.constprop.0.isra.1@@X"), "f");
    }
}
