//! From a [`Profile`] to bytes: one file a format. Pure: no I/O, no clock; equal profiles give equal bytes.
//!
//! Every format shows the same events: what was lost comes from [`lost`], how a frame is called from [`frame`], and nothing else makes either.

mod dump;
mod folded;
mod frame;
mod go_stack;
mod lost;
mod pprof;
mod proto;
#[cfg(test)]
pub(crate) mod sample_profile;
mod svg;
mod tabs;
mod text;
pub mod top;

use crate::model::encoded::{About, Encoded};
use crate::model::profile::Profile;
pub use dump::{Shape, dump, dump_parts, grouped};
use std::path::Path;

/// A format of profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `profile.proto`, gzip-compressed.
    Pprof,
    /// Go's text form (`debug=1`), which pprof reads too.
    Text,
    /// One line a stack, its frames joined by `;`.
    Folded,
    /// A flame graph.
    Svg,
}

/// Endings of formats that are not written; the compressed ones first, each is looked for at the end.
const FOREIGN_ENDINGS: [&str; 23] = [
    ".json.gz",
    ".txt.gz",
    ".folded.gz",
    ".collapsed.gz",
    ".svg.gz",
    ".svgz",
    ".json",
    ".html",
    ".htm",
    ".xml",
    ".csv",
    ".yaml",
    ".yml",
    ".md",
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".pdf",
    ".dot",
    ".jfr",
    ".data",
    ".zip",
];

impl Format {
    /// The format of that name, as the command line has it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "pprof" => Some(Self::Pprof),
            "text" => Some(Self::Text),
            "folded" => Some(Self::Folded),
            "svg" => Some(Self::Svg),
            _ => None,
        }
    }

    /// The format that the end of a file name asks for.
    pub fn from_path(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        match () {
            () if ends(&[".prof", ".pb.gz", ".pb", ".pprof"]) => Some(Self::Pprof),
            () if ends(&[".txt"]) => Some(Self::Text),
            () if ends(&[".folded", ".collapsed"]) => Some(Self::Folded),
            () if ends(&[".svg"]) => Some(Self::Svg),
            () => None,
        }
    }

    /// The ending of a file name that asks for a format which is none of these: whoever chose it would not expect another one under it. A name without
    /// an ending, or with one that stands for no format, asks for nothing.
    pub fn foreign_ending(path: &Path) -> Option<&'static str> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        if Self::from_path(path).is_some() {
            return None;
        }
        FOREIGN_ENDINGS.into_iter().find(|ending| name.ends_with(ending))
    }

    /// Media type, as HTTP has it.
    const fn media_type(self) -> &'static str {
        match self {
            Self::Pprof => "application/octet-stream",
            Self::Text | Self::Folded => "text/plain; charset=utf-8",
            Self::Svg => "image/svg+xml",
        }
    }
}

/// Writes the profile in a format. The profile must pass [`Profile::check`].
pub fn encode(profile: &Profile, format: Format, about: About) -> Encoded {
    debug_assert_eq!(profile.check(), Ok(()));
    let bytes = match format {
        Format::Pprof => pprof::encode(profile),
        Format::Text => text::encode(profile).into_bytes(),
        Format::Folded => folded::encode(profile).into_bytes(),
        Format::Svg => svg::encode(profile).into_bytes(),
    };
    Encoded { bytes, media_type: format.media_type(), about }
}

#[cfg(test)]
mod tests {
    use super::Format;
    use std::path::Path;

    #[test]
    fn the_end_of_a_name_tells_the_format() {
        for (name, format) in [
            ("cpu.prof", Some(Format::Pprof)),
            ("a/cpu.pb.gz", Some(Format::Pprof)),
            ("cpu.pb", Some(Format::Pprof)),
            ("CPU.PPROF", Some(Format::Pprof)),
            ("cpu.txt", Some(Format::Text)),
            ("cpu.folded", Some(Format::Folded)),
            ("cpu.collapsed", Some(Format::Folded)),
            ("cpu.svg", Some(Format::Svg)),
            ("svg", None),
            ("/", None),
            ("-", None),
        ] {
            assert_eq!(Format::from_path(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn an_ending_that_means_another_format_is_told_from_one_that_means_none() {
        for (name, ending) in [
            ("x.json", Some(".json")),
            ("a/perf.DATA", Some(".data")),
            ("x.folded.gz", Some(".folded.gz")),
            ("x.prof", None),
            ("x.pb.gz", None),
            ("x", None),
            ("cpu.1234", None),
            ("{kind}.{comm}", None),
            ("json", None),
            ("-", None),
        ] {
            assert_eq!(Format::foreign_ending(Path::new(name)), ending, "{name}");
        }
    }

    #[test]
    fn only_known_names_parse() {
        assert_eq!(Format::parse("pprof"), Some(Format::Pprof));
        assert_eq!(Format::parse("text"), Some(Format::Text));
        assert_eq!(Format::parse("folded"), Some(Format::Folded));
        assert_eq!(Format::parse("svg"), Some(Format::Svg));
        assert_eq!(Format::parse("Pprof "), None);
    }
}
