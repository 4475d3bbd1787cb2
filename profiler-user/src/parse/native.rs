//! Functions, inlined functions and lines of native code. The only file that imports blazesym.
//!
//! blazesym takes paths and opens them itself; the paths given to it here are names of our own that mean nothing to the kernel, and whoever holds the
//! files answers its opens (`reader/keeper.rs`).

use super::elf::ParseError;
use crate::model::answer::Detail;
use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use std::path::PathBuf;

/// Where the files are that belong to one object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paths {
    /// The object itself.
    pub object: PathBuf,
    /// Its separate debug file.
    pub debug: Option<PathBuf>,
    /// A folder in which `.build-id/xx/yyyy.debug` is the file with shared debug information.
    pub alt_folder: Option<PathBuf>,
}

/// A function around an address as the file names it, not demangled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RawLine {
    /// Its name: the linkage name if the file has one.
    pub name: String,
    /// Source file, or empty.
    pub filename: String,
    /// Line, or 0.
    pub line: u32,
    /// Column, or 0.
    pub column: u32,
}

/// The symbols of one object. What was read of the file stays in memory as long as this lives.
pub struct NativeSymbols {
    symbolizer: Symbolizer,
    paths: Paths,
    detail: Detail,
    code: Vec<(u64, u64)>,
}

impl NativeSymbols {
    /// Reads nothing yet. `code`: the sections with code, which a symbol does not leave.
    pub fn new(paths: Paths, detail: Detail, code: Vec<(u64, u64)>) -> Self {
        let symbolizer = Symbolizer::builder()
            .enable_auto_reload(false)
            .enable_code_info(true)
            .enable_inlined_fns(true)
            .enable_demangling(false)
            .set_debug_dirs(Some(paths.alt_folder.as_slice()))
            .build();
        Self { symbolizer, paths, detail, code }
    }

    /// For each of the file's own addresses the functions around it, innermost first; empty where the file knows none.
    ///
    /// # Errors
    /// Not even the symbol table can be read.
    pub fn look_up(&self, addresses: &[u64]) -> Result<Vec<Vec<RawLine>>, ParseError> {
        let from_debug_info = match self.detail {
            Detail::Full => {
                let path = self.paths.debug.as_ref().unwrap_or(&self.paths.object);
                let mut source = Elf::new(path);
                source.debug_syms = true;
                // Debug information that cannot be read is no reason to do without the symbols.
                self.ask(source, addresses).ok()
            }
            Detail::SymbolsOnly => None,
        };
        match from_debug_info {
            Some(found) if found.iter().all(|lines| lines.last().is_some_and(|outermost| !outermost.name.is_empty())) => Ok(found),
            Some(mut found) => {
                self.fill_from_symbols(addresses, &mut found);
                Ok(found)
            }
            None => self.symbols_alone(addresses),
        }
    }

    /// Without debug information that can be read: whether there is any symbol table is the object's own matter.
    fn symbols_alone(&self, addresses: &[u64]) -> Result<Vec<Vec<RawLine>>, ParseError> {
        let mut source = Elf::new(&self.paths.object);
        source.debug_syms = false;
        let mut found = self.ask(source, addresses)?;
        self.fill_from_symbols(addresses, &mut found);
        Ok(found)
    }

    /// The symbol tables there are: that of the debug file has what was stripped off the object.
    fn symbol_tables(&self) -> impl Iterator<Item = Elf> {
        self.paths.debug.iter().chain([&self.paths.object]).map(|path| {
            let mut source = Elf::new(path);
            source.debug_syms = false;
            source
        })
    }

    /// What the debug information does not know, or has no name for, a symbol table may. (Of functions that are optimized across files it often has the name in
    /// another unit, which blazesym does not follow.)
    fn fill_from_symbols(&self, addresses: &[u64], found: &mut [Vec<RawLine>]) {
        for table in self.symbol_tables() {
            let missing: Vec<usize> =
                (0..found.len()).filter(|at| found[*at].last().is_none_or(|outermost| outermost.name.is_empty())).collect();
            if missing.is_empty() {
                return;
            }
            let asked: Vec<u64> = missing.iter().map(|at| addresses[*at]).collect();
            let Ok(answers) = self.ask(table, &asked) else { continue };
            for (at, answer) in missing.into_iter().zip(answers) {
                match (found[at].last_mut(), answer.into_iter().next_back()) {
                    (Some(outermost), Some(symbol)) => outermost.name = symbol.name,
                    (None, Some(symbol)) => found[at].push(symbol),
                    _ => {}
                }
            }
        }
    }

    fn ask(&self, source: Elf, addresses: &[u64]) -> Result<Vec<Vec<RawLine>>, ParseError> {
        let answers = self
            .symbolizer
            .symbolize(&Source::Elf(source), Input::VirtOffset(addresses))
            .map_err(|error| ParseError::Symbols(error.to_string()))?;
        let mut found: Vec<Vec<RawLine>> = answers
            .into_iter()
            .zip(addresses)
            .map(|(answer, address)| match answer {
                Symbolized::Sym(symbol) if self.reaches(&symbol, *address) => lines(&symbol),
                Symbolized::Sym(_) | Symbolized::Unknown(_) => Vec::new(),
            })
            .collect();
        found.resize_with(addresses.len(), Vec::new);
        Ok(found)
    }
}

impl NativeSymbols {
    /// Whether a symbol can be the one of an address. One without a size reaches to the next, but not into another section: what follows `_init` is the PLT.
    fn reaches(&self, symbol: &Sym<'_>, address: u64) -> bool {
        let section = |address: u64| self.code.iter().position(|(start, end)| (*start..*end).contains(&address));
        symbol.size.is_some_and(|size| size > 0) || section(symbol.addr) == section(address)
    }
}

fn lines(symbol: &Sym<'_>) -> Vec<RawLine> {
    let inlined = symbol.inlined.iter().rev().map(|function| line(&function.name, function.code_info.as_ref()));
    inlined.chain([line(&symbol.name, symbol.code_info.as_deref())]).collect()
}

fn line(name: &str, place: Option<&CodeInfo<'_>>) -> RawLine {
    RawLine {
        name: name.to_owned(),
        filename: place.map(|place| place.to_path().to_string_lossy().into_owned()).unwrap_or_default(),
        line: place.and_then(|place| place.line).unwrap_or(0),
        column: place.and_then(|place| place.column).map_or(0, u32::from),
    }
}
