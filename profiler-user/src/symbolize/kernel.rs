//! The kernel's own symbols, from `/proc/kallsyms`: read line by line and kept compactly, without the slide of this boot (KASLR).

use crate::process::LINKED_TEXT;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};

/// No function of the kernel is as long; beyond it an address lies in no symbol, bytes.
const FUNCTION_MAX_BYTES: u64 = 4 << 20;
/// The kernel has some 200,000 symbols; a bound for all that it could be given by modules.
const SYMBOLS_MAX: usize = 4_000_000;
/// Longest line that is read, bytes: a name has at most 512 (`KSYM_NAME_LEN`), a module's 56.
const LINE_MAX_BYTES: u64 = 4_096;

/// Why the kernel's symbols are not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The file cannot be read.
    #[error("reading /proc/kallsyms failed: {0}; is /proc mounted and CONFIG_KALLSYMS set?")]
    Read(#[from] io::Error),
    /// All addresses are zero.
    #[error("the kernel hides its symbols; run as root or with CAP_SYSLOG, or set the sysctl kernel.kptr_restrict to 1")]
    Hidden,
}

/// One symbol: 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    /// Without the slide.
    address: u64,
    /// Where in the names it begins.
    name_at: u32,
    name_len: u16,
    /// 0 for the kernel itself, else an index into the modules, plus 1.
    module: u16,
}

/// The functions of the kernel and its modules.
#[derive(Debug, Default)]
pub struct KernelSymbols {
    /// By address; one an address.
    symbols: Vec<Symbol>,
    names: Vec<u8>,
    modules: Vec<Box<str>>,
}

impl KernelSymbols {
    /// Reads the symbols of the running kernel.
    ///
    /// # Errors
    /// They cannot be read, or are hidden from us.
    pub fn load() -> Result<Self, KernelError> {
        Self::parse(BufReader::with_capacity(64 << 10, File::open("/proc/kallsyms")?))
    }

    /// How far this boot has moved the kernel, bytes; 0 if that is hidden. Reads no further than `_text`.
    pub fn slide_of_this_boot() -> u64 {
        let Ok(file) = File::open("/proc/kallsyms") else { return 0 };
        let mut lines = BufReader::with_capacity(16 << 10, file);
        let (mut line, mut slide) = (Vec::new(), 0);
        while let Ok(true) = next_line(&mut lines, &mut line) {
            if let Some(Entry { address, name: b"_text", module: b"", .. }) = entry(&line) {
                slide = slide_of(address);
                break;
            }
        }
        slide
    }

    /// The symbol that an address (without the slide) lies in: its name, with the module behind it if it is of one, and its first address.
    pub fn lookup(&self, unslid: u64) -> Option<(Cow<'_, str>, u64)> {
        let at = self.symbols.partition_point(|symbol| symbol.address <= unslid).checked_sub(1)?;
        let symbol = self.symbols[at];
        if unslid - symbol.address >= FUNCTION_MAX_BYTES {
            return None;
        }
        let name_at = symbol.name_at as usize;
        let name = String::from_utf8_lossy(&self.names[name_at..name_at + usize::from(symbol.name_len)]);
        let module = usize::from(symbol.module).checked_sub(1).map(|at| &self.modules[at]);
        Some((module.map_or(name.clone(), |module| Cow::Owned(format!("{name} [{module}]"))), symbol.address))
    }

    fn parse(mut lines: impl BufRead) -> Result<Self, KernelError> {
        let (mut table, mut line) = (Self::default(), Vec::new());
        let (mut text, mut any) = (None, false);
        while table.symbols.len() < SYMBOLS_MAX && next_line(&mut lines, &mut line)? {
            let Some(entry) = entry(&line) else { continue };
            any |= entry.address != 0;
            if entry.name == b"_text" && entry.module.is_empty() {
                text = Some(entry.address);
            }
            table.add(&entry);
        }
        if !any {
            return Err(KernelError::Hidden);
        }
        table.finish(text.map_or(0, slide_of));
        Ok(table)
    }

    fn add(&mut self, entry: &Entry<'_>) {
        let is_code = matches!(entry.kind, b't' | b'T' | b'w' | b'W');
        let fits = entry.name.len() <= usize::from(u16::MAX) && self.names.len() + entry.name.len() <= u32::MAX as usize;
        // `$x` and `.L..` mark kinds of bytes, not functions.
        if !is_code || !fits || entry.address == 0 || matches!(entry.name.first(), None | Some(b'$' | b'.')) {
            return;
        }
        let Some(module) = self.module(entry.module) else { return };
        let symbol = Symbol { address: entry.address, name_at: self.names.len() as u32, name_len: entry.name.len() as u16, module };
        self.names.extend_from_slice(entry.name);
        self.symbols.push(symbol);
    }

    /// Lines of a module stand together, so the last one is nearly always it.
    fn module(&mut self, name: &[u8]) -> Option<u16> {
        if name.is_empty() {
            return Some(0);
        }
        let name = String::from_utf8_lossy(name);
        if let Some(at) = self.modules.iter().rposition(|known| **known == *name) {
            return Some(at as u16 + 1);
        }
        self.modules.push(name.into());
        u16::try_from(self.modules.len()).ok()
    }

    /// Takes the slide off, sorts, and keeps one name an address: the one that says most.
    fn finish(&mut self, slide: u64) {
        let Self { symbols, names, .. } = self;
        for symbol in symbols.iter_mut() {
            symbol.address = symbol.address.wrapping_sub(slide);
        }
        let rank = |symbol: &Symbol| {
            let name = &names[symbol.name_at as usize..][..usize::from(symbol.name_len)];
            is_border(name)
        };
        symbols.sort_by_key(|symbol| (symbol.address, rank(symbol), symbol.name_at));
        symbols.dedup_by_key(|symbol| symbol.address);
        symbols.shrink_to_fit();
        names.shrink_to_fit();
    }
}

/// How far the kernel was moved from where it was linked, by where its text begins now.
fn slide_of(text: u64) -> u64 {
    if text == 0 { 0 } else { text.wrapping_sub(LINKED_TEXT) }
}

/// Names of where a section begins or ends, which is also where a function may begin.
fn is_border(name: &[u8]) -> bool {
    matches!(name, b"_text" | b"_stext" | b"_etext" | b"_sinittext" | b"_einittext")
        || name.starts_with(b"__start_")
        || name.ends_with(b"_text_start")
        || name.ends_with(b"_text_end")
}

/// One line of `/proc/kallsyms`: `ADDRESS KIND NAME`, and for a module's a tab and `[MODULE]`.
struct Entry<'a> {
    address: u64,
    kind: u8,
    name: &'a [u8],
    module: &'a [u8],
}

fn entry(line: &[u8]) -> Option<Entry<'_>> {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let address = u64::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 16).ok()?;
    let kind = *words.next()?.first()?;
    let rest = words.next()?;
    let (name, module) = match rest.iter().position(|byte| *byte == b'\t') {
        Some(tab) => (&rest[..tab], rest[tab + 1..].strip_prefix(b"[").and_then(|module| module.strip_suffix(b"]"))?),
        None => (rest, &b""[..]),
    };
    Some(Entry { address, kind, name, module })
}

/// Reads a line without its end; false when there is none.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = lines.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(read > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "0000000000000000 A fixed_percpu_data\n\
        ffffffff9a000000 T _stext\nffffffff9a000000 T _text\nffffffff9a000000 t startup\nffffffff9a000100 T do_thing\n\
        ffffffff9a000180 d data\nffffffff9a000200 t second\nffffffffc0201000 t helper\t[mod_a]\nffffffffc0201100 t other\t[mod_b]\nbroken\n";

    #[test]
    fn symbols_are_found_without_the_slide() {
        let table = KernelSymbols::parse(TABLE.as_bytes()).expect("symbols");
        let slide = 0x1900_0000;
        assert_eq!(table.lookup(LINKED_TEXT + 0x1ff), Some(("do_thing".into(), LINKED_TEXT + 0x100)));
        assert_eq!(table.lookup(LINKED_TEXT), Some(("startup".into(), LINKED_TEXT)));
        assert_eq!(table.lookup(0xffff_ffff_c020_1004 - slide), Some(("helper [mod_a]".into(), 0xffff_ffff_c020_1000 - slide)));
        assert_eq!(table.lookup(0xffff_ffff_c020_1100 - slide).expect("found").0, "other [mod_b]");
        assert_eq!(table.lookup(LINKED_TEXT - 1), None);
        assert_eq!(table.lookup(LINKED_TEXT + 0x200 + FUNCTION_MAX_BYTES), None);
    }

    #[test]
    fn hidden_symbols_are_an_error() {
        let hidden = "0000000000000000 T _text\n0000000000000000 T do_thing\n";
        assert!(matches!(KernelSymbols::parse(hidden.as_bytes()), Err(KernelError::Hidden)));
    }

    #[test]
    fn this_kernel_knows_its_own_start() {
        let Ok(table) = KernelSymbols::load() else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has to give it");
            return eprintln!("SKIP: the kernel hides its symbols from this test; run it as root");
        };
        assert_eq!(KernelSymbols::slide_of_this_boot() % 4096, 0);
        assert_eq!(table.lookup(LINKED_TEXT).expect("text").1, LINKED_TEXT);
        assert!(table.symbols.len() > 10_000);
    }
}
