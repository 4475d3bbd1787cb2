//! Profiles, read back: a decoder of profile.proto by hand, which refuses what `pprof` or a stricter reader would, and the questions that tests ask.

mod ask;
pub use ask::{Balance, UNNAMED};
mod decode;
mod wire;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use std::fs;
use std::io::Read;
use std::path::Path;

/// A profile.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Profile {
    /// The columns: type and unit.
    pub sample_types: Vec<(String, String)>,
    /// The samples.
    pub samples: Vec<Sample>,
    /// Mappings, by id - 1.
    pub mappings: Vec<Mapping>,
    /// Locations, by id - 1.
    pub locations: Vec<Location>,
    /// Functions, by id - 1.
    pub functions: Vec<Function>,
    /// Begin, nanoseconds since 1970.
    pub time_ns: i64,
    /// Length, nanoseconds.
    pub duration_ns: i64,
    /// Type and unit of the period.
    pub period_type: (String, String),
    /// The period.
    pub period: i64,
    /// Comments.
    pub comments: Vec<String>,
}

/// A sample.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Sample {
    /// Indexes of locations, leaf first.
    pub locations: Vec<usize>,
    /// A value a column.
    pub values: Vec<i64>,
    /// Labels.
    pub labels: Vec<Label>,
}

/// A label.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Label {
    /// Key.
    pub key: String,
    /// Text, or empty.
    pub text: String,
    /// Number, or 0.
    pub number: i64,
    /// Unit of the number, or empty.
    pub unit: String,
}

/// A mapping.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Behind the last address.
    pub limit: u64,
    /// Offset in the file.
    pub offset: u64,
    /// File.
    pub filename: String,
    /// Build id, hexadecimal.
    pub build_id: String,
    /// The flag of the same name.
    pub has_functions: bool,
    /// The flag of the same name.
    pub has_filenames: bool,
    /// The flag of the same name.
    pub has_line_numbers: bool,
    /// The flag of the same name.
    pub has_inline_frames: bool,
}

/// A location.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Location {
    /// Index of its mapping.
    pub mapping: Option<usize>,
    /// Address.
    pub address: u64,
    /// Index of the function and line; innermost inlined function first.
    pub lines: Vec<(usize, i64)>,
}

/// A function.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Function {
    /// Name to show.
    pub name: String,
    /// Name of the linker.
    pub system_name: String,
    /// Source file.
    pub filename: String,
    /// Its first line.
    pub start_line: i64,
}

impl Profile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It is not there, or not a valid profile.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&bytes).with_context(|| format!("decoding {}", path.display()))
    }

    /// Decodes gzip-compressed bytes, and checks them.
    ///
    /// # Errors
    /// They are not a valid profile.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        ensure!(bytes.starts_with(&[0x1f, 0x8b]), "not compressed by gzip");
        let mut message = Vec::new();
        GzDecoder::new(bytes).read_to_end(&mut message).context("unpacking")?;
        decode::decode(&message)
    }
}
