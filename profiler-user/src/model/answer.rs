//! What the parsers say of a file: the nouns that cross from a reader to the profiler. Claims of the file, all of them, and bounded.

use std::sync::Arc;

/// Longest name, file name or other text that a parser hands on, bytes; longer ones are cut.
pub const TEXT_MAX_BYTES: usize = 4096;

/// Most lines of one address: how deep inlining is followed. Of a deeper one the innermost are kept, and the function itself.
pub const LINES_MAX: usize = 128;

/// Most lines of an address in the mean of a request, beyond some thousands: what keeps the answer about a hostile file small.
pub const LINES_MEAN: usize = 32;

/// Most segments of a file that are told.
pub const SEGMENTS_MAX: usize = 256;

/// A part of the file that the loader maps (`PT_LOAD`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoadSegment {
    /// Offset of its first byte in the file.
    pub file_offset: u64,
    /// Bytes that come from the file.
    pub file_size: u64,
    /// The address that the file gives its first byte.
    pub virtual_address: u64,
    /// Whether it holds code.
    pub executable: bool,
}

/// What an object file says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ObjectFacts {
    /// GNU build id.
    pub build_id: Option<Vec<u8>>,
    /// Name and CRC-32 of a separate debug file (`.gnu_debuglink`).
    pub debug_link: Option<(Vec<u8>, u32)>,
    /// Path and build id of a file with shared debug information (`.gnu_debugaltlink`).
    pub alt_link: Option<(Vec<u8>, Vec<u8>)>,
    /// What the loader maps.
    pub segments: Vec<LoadSegment>,
    /// Made by Go's linker.
    pub is_go: bool,
    /// Has a table of all symbols (`.symtab`), not only of the dynamic ones.
    pub has_symbols: bool,
    /// Has DWARF.
    pub has_debug_info: bool,
    /// Has a section of Go's own table of functions and lines. (A program that another linker finished may have the table without the section.)
    pub has_go_table: bool,
}

/// A place in a function.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct SymbolLine {
    /// Readable name.
    pub name: Arc<str>,
    /// Linkage name; the same as `name` when there is only one.
    pub system_name: Arc<str>,
    /// Source file, or empty.
    pub filename: Arc<str>,
    /// Line, or 0.
    pub line: u32,
    /// Column, or 0.
    pub column: u32,
    /// Line on which the function is declared, or 0.
    pub start_line: u32,
    /// What Go's own table says beyond that.
    pub go: Option<GoPlace>,
}

/// Where in a Go function a place is, and what it is to Go's tracebacks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GoPlace {
    /// Distance from the first byte of the function, of a function that is inlined there: from that of the one around.
    pub offset: u32,
    /// The compiler made the function to call another one (`abi.FuncIDWrapper`).
    pub is_wrapper: bool,
    /// It is inlined there.
    pub is_inlined: bool,
}

/// The text cut to at most [`TEXT_MAX_BYTES`], at the border of a character.
pub fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX_BYTES)]
}

/// How much of a file is used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Detail {
    /// Symbols and debug information.
    Full,
    /// Symbols alone: for a file whose debug information did harm.
    SymbolsOnly,
}
