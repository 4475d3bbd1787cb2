//! From [`Encoded`](crate::model::encoded::Encoded) to its destination: one file a destination. A destination knows nothing of the formats.

pub mod file;
pub mod pattern;
pub mod stdout;

use std::io;
use std::path::PathBuf;

/// Why a profile could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The system refused.
    #[error("{doing} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The name is that of a folder.
    #[error("{} is a directory: name a file in it, such as {}", .0.display(), .0.join("{kind}.prof").display())]
    IsDirectory(PathBuf),
    /// A folder of the system, in which there are no files but its own.
    #[error("{}: no file can be made in this folder; choose another one (-o FILE)", .0.display())]
    TakesNoFiles(PathBuf),
    /// A name that no file can have.
    #[error("{:?} names no file: give a name such as {{kind}}.prof, or - for standard output", .0)]
    NoName(PathBuf),
    /// `{...}` in the folder part of a pattern.
    #[error("{}: placeholders can stand only in the name of the file, not in its folder", .0.display())]
    PlaceholderInFolder(PathBuf),
    /// `{...}` that means nothing.
    #[error("{}: {{{placeholder}}} is no placeholder: use {{kind}}, {{pid}} or {{comm}}", pattern.display())]
    UnknownPlaceholder {
        /// The pattern.
        pattern: PathBuf,
        /// What stood between the braces.
        placeholder: String,
    },
    /// One name for many profiles.
    #[error("{}: a file for each process needs names that differ: put {{pid}} or {{comm}} into the name", .0.display())]
    OneName(PathBuf),
    /// A FIFO or a device of another user.
    #[error("{} is a FIFO or a device of another user (uid {owner}), who would receive the profile: choose another name", path.display())]
    ForeignOwner {
        /// Which.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A socket, or something else that cannot be opened for writing.
    #[error("{} is neither a file, a FIFO nor a device: choose another name", .0.display())]
    NotWritable(PathBuf),
}

impl SinkError {
    /// Whether what was asked for means nothing, wherever it were written.
    pub fn is_misuse(&self) -> bool {
        matches!(self, Self::NoName(_) | Self::OneName(_) | Self::PlaceholderInFolder(_) | Self::UnknownPlaceholder { .. })
    }

    fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.into();
        move |errno| Self::Io { doing, path, source: errno.into() }
    }
}

/// What to do about it, if we know.
fn advice(source: &io::Error) -> &'static str {
    use rustix::io::Errno;
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) => "; choose a folder that you may write to (-o FILE)",
        Some(Errno::NOSPC | Errno::DQUOT) => "; free some space, or choose a folder on another file system (-o FILE)",
        Some(Errno::ROFS) => "; the file system is read-only, choose a folder on another one (-o FILE)",
        Some(Errno::NOENT) => "; create the folder first, or choose another one (-o FILE)",
        Some(Errno::NOTDIR) => "; a part of the path is a file, not a folder",
        Some(Errno::NAMETOOLONG) => "; choose a shorter name (-o FILE)",
        Some(Errno::ISDIR) => "; name a file in the folder",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::SinkError;
    use rustix::io::Errno;

    #[test]
    fn a_message_says_what_why_and_what_to_do() {
        let said = |errno: Errno| SinkError::io("writing", "/x/cpu.prof")(errno).to_string();
        assert!(said(Errno::NOSPC).starts_with("writing /x/cpu.prof: No space left on device"));
        for (errno, advice) in [
            (Errno::ACCESS, "you may write to"),
            (Errno::NOSPC, "free some space"),
            (Errno::ROFS, "read-only"),
            (Errno::NOENT, "create the folder"),
            (Errno::ISDIR, "name a file"),
        ] {
            assert!(said(errno).contains(advice), "{}", said(errno));
        }
        let unknown = SinkError::UnknownPlaceholder { pattern: "{x}".into(), placeholder: "x".to_owned() };
        assert_eq!(unknown.to_string(), "{x}: {x} is no placeholder: use {kind}, {pid} or {comm}");
    }
}
