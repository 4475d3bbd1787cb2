//! The kernel's own symbols, from `/proc/kallsyms`: root's own file, read once in our own process. No symbol is a string of its own: a hundred and fifty
//! thousand names stand in one buffer.

use crate::process::LINKED_TEXT;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::sync::Arc;

const PATH: &str = "/proc/kallsyms";
/// A symbol's code is at most this long: beyond the last one is no function.
const SYMBOL_BYTES_MAX: u64 = 1 << 20;
/// Lines in which `_text` is looked for; it is among the first.
const LINES_TO_TEXT: usize = 20_000;

/// Why there are no kernel symbols.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The file cannot be read.
    #[error("reading {PATH}: {0}")]
    Read(#[from] io::Error),
    /// All addresses are zero.
    #[error("{PATH} shows no addresses: CAP_SYSLOG is needed, and kernel.kptr_restrict below 2")]
    Hidden,
}

/// Symbols of code, by address.
#[derive(Debug)]
pub struct KernelSymbols {
    /// Sorted; with the slide of this boot.
    addresses: Vec<u64>,
    /// Where each name begins in `names`; one more than there are addresses.
    name_starts: Vec<u32>,
    names: String,
    slide: u64,
    build_id: Arc<str>,
}

impl KernelSymbols {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// They may not be read.
    pub fn load() -> Result<Self, KernelError> {
        let mut symbols = Self::parse(BufReader::with_capacity(256 << 10, File::open(PATH)?))?;
        symbols.build_id = std::fs::read("/sys/kernel/notes").ok().and_then(|notes| build_id(&notes)).unwrap_or_default().into();
        Ok(symbols)
    }

    fn parse(mut lines: impl BufRead) -> Result<Self, KernelError> {
        let (mut found, mut names, mut text, mut line) = (Vec::new(), String::new(), 0, String::new());
        while lines.read_line(&mut line)? != 0 {
            if let Some(symbol) = Symbol::parse(&line) {
                if symbol.name == "_text" {
                    text = symbol.address;
                }
                let start = names.len() as u32;
                names.push_str(symbol.name);
                if let Some(module) = symbol.module {
                    names.push(' ');
                    names.push_str(module);
                }
                found.push((symbol.address, start, names.len() as u32));
            }
            line.clear();
        }
        if found.iter().all(|(address, ..)| *address == 0) {
            return Err(KernelError::Hidden);
        }
        // Several names at one address: the first that the kernel lists, as perf takes it.
        found.sort_by_key(|(address, start, _)| (*address, *start));
        found.dedup_by_key(|(address, ..)| *address);
        let mut ordered = String::with_capacity(names.len());
        let mut name_starts = vec![0];
        for (_, start, end) in &found {
            ordered.push_str(&names[*start as usize..*end as usize]);
            name_starts.push(ordered.len() as u32);
        }
        let addresses = found.iter().map(|(address, ..)| *address).collect();
        let slide = if text == 0 { 0 } else { text.wrapping_sub(LINKED_TEXT) };
        Ok(Self { addresses, name_starts, names: ordered, slide, build_id: "".into() })
    }

    /// How far this boot has moved the kernel; 0 if that is hidden. Reads only the beginning of the file.
    pub fn slide_of_this_boot() -> u64 {
        let Ok(file) = File::open(PATH) else { return 0 };
        let mut lines = BufReader::new(file).lines().take(LINES_TO_TEXT).map_while(Result::ok);
        let text = lines.find_map(|line| Symbol::parse(&line).filter(|symbol| symbol.name == "_text").map(|symbol| symbol.address));
        text.filter(|text| *text != 0).map_or(0, |text| text.wrapping_sub(LINKED_TEXT))
    }

    /// The function at an address without the slide, and where it begins (without the slide).
    pub fn lookup(&self, unslid: u64) -> Option<(&str, u64)> {
        let address = unslid.wrapping_add(self.slide);
        let index = self.addresses.partition_point(|start| *start <= address).checked_sub(1)?;
        let start = self.addresses[index];
        if address - start > SYMBOL_BYTES_MAX {
            return None;
        }
        let name = &self.names[self.name_starts[index] as usize..self.name_starts[index + 1] as usize];
        Some((name, start.wrapping_sub(self.slide)))
    }

    /// How far this boot has moved the kernel, bytes.
    pub fn slide(&self) -> u64 {
        self.slide
    }

    /// The kernel's GNU build id, lower-case hex, or empty.
    pub fn build_id(&self) -> Arc<str> {
        Arc::clone(&self.build_id)
    }
}

/// A line: `ffffffff81000000 T name` and, for a module's, a tab and `[module]`.
struct Symbol<'a> {
    address: u64,
    name: &'a str,
    module: Option<&'a str>,
}

impl<'a> Symbol<'a> {
    /// None for what is no code.
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let (address, kind, name) = (fields.next()?, fields.next()?, fields.next()?);
        if !matches!(kind, "t" | "T" | "w" | "W") {
            return None;
        }
        Some(Self { address: u64::from_str_radix(address, 16).ok()?, name, module: fields.next() })
    }
}

/// The GNU build id in ELF notes: name size, description size, type 3, "GNU\0", the id.
fn build_id(notes: &[u8]) -> Option<String> {
    let mut rest = notes;
    loop {
        let word = |at: usize| rest.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let (name, description, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let description_at = 12 + name.next_multiple_of(4);
        let bytes = rest.get(description_at..description_at.checked_add(description)?)?;
        if kind == 3 && rest.get(12..16) == Some(b"GNU\0") {
            return Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        rest = rest.get(description_at + description.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0000000000000000 A fixed_percpu_data\nffffffff91000000 T _text\nffffffff91000000 T _stext\nffffffff91000100 t helper\n\
        ffffffff91000100 T helper_alias\nffffffff91000200 D some_data\nffffffffc0001000 t in_module\t[ext4]\n";

    #[test]
    fn addresses_are_looked_up_without_the_slide() {
        let symbols = KernelSymbols::parse(TEXT.as_bytes()).expect("readable");
        assert_eq!(symbols.slide(), 0x1000_0000);
        assert_eq!(symbols.lookup(LINKED_TEXT + 0x10), Some(("_text", LINKED_TEXT)));
        assert_eq!(symbols.lookup(LINKED_TEXT + 0x1ff), Some(("helper", LINKED_TEXT + 0x100)));
        assert_eq!(symbols.lookup(LINKED_TEXT - 1), None);
        assert_eq!(symbols.lookup(0xffff_ffff_c000_1004 - 0x1000_0000).map(|(name, _)| name), Some("in_module [ext4]"));
    }

    #[test]
    fn hidden_addresses_are_told() {
        let zeros = "0000000000000000 T _text\n0000000000000000 t x\n";
        assert!(matches!(KernelSymbols::parse(zeros.as_bytes()), Err(KernelError::Hidden)));
    }

    #[test]
    fn a_build_id_is_found_behind_other_notes() {
        let mut notes = Vec::new();
        for (kind, description) in [(1u32, vec![9u8; 6]), (3, vec![0xab, 0xcd])] {
            notes.extend(4u32.to_ne_bytes());
            notes.extend((description.len() as u32).to_ne_bytes());
            notes.extend(kind.to_ne_bytes());
            notes.extend(b"GNU\0");
            notes.extend(&description);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(build_id(&notes).as_deref(), Some("abcd"));
        assert_eq!(build_id(&notes[..10]), None);
        assert_eq!(build_id(&[0xff; 64]), None);
    }

    #[test]
    fn the_running_kernel_agrees_with_itself() {
        match KernelSymbols::load() {
            Ok(symbols) => assert_eq!(symbols.slide(), KernelSymbols::slide_of_this_boot()),
            Err(error) => assert!(matches!(error, KernelError::Hidden | KernelError::Read(_))),
        }
    }
}
