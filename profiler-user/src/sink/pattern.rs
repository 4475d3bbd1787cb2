//! Names of files with placeholders: `{kind}`, `{pid}`, `{comm}`. A process chooses its own name, so it may not choose a path with it.

use super::SinkError;
use crate::model::encoded::About;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// What stands for a process where the profile is about several.
const ALL: &str = "all";

/// A piece of a file name.
enum Piece<'a> {
    Text(&'a [u8]),
    Kind,
    Pid,
    Comm,
}

/// The folder of a pattern, which holds no placeholder, and the name of the file, which may.
pub(super) fn folder_and_name(pattern: &Path) -> Result<(&Path, &Path), SinkError> {
    let ends_like_a_folder = matches!(pattern.as_os_str().as_bytes(), [.., b'/'] | [.., b'/', b'.']);
    let name = pattern.file_name().filter(|_| !ends_like_a_folder).ok_or_else(|| SinkError::NoName(pattern.into()))?;
    let folder = match pattern.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Err(SinkError::NoName(pattern.into())),
    };
    match folder.as_os_str().as_bytes().contains(&b'{')
        && pieces(pattern, folder.as_os_str().as_bytes())?.iter().any(|piece| !matches!(piece, Piece::Text(_)))
    {
        true => Err(SinkError::PlaceholderInFolder(pattern.into())),
        false => Ok((folder, Path::new(name))),
    }
}

/// Whether the name is the same for every profile.
pub(super) fn is_fixed(pattern: &Path) -> Result<bool, SinkError> {
    let (_, name) = folder_and_name(pattern)?;
    Ok(pieces(pattern, name.as_os_str().as_bytes())?.iter().all(|piece| matches!(piece, Piece::Text(_))))
}

/// The name for one profile.
pub(super) fn expand(pattern: &Path, about: &About) -> Result<PathBuf, SinkError> {
    let (_, name) = folder_and_name(pattern)?;
    let mut expanded = Vec::new();
    for piece in pieces(pattern, name.as_os_str().as_bytes())? {
        match (piece, &about.process) {
            (Piece::Text(text), _) => expanded.extend_from_slice(text),
            (Piece::Kind, _) => expanded.extend_from_slice(about.kind.name().as_bytes()),
            (Piece::Pid, Some((pid, _))) => expanded.extend_from_slice(pid.0.to_string().as_bytes()),
            (Piece::Comm, Some((_, comm))) => expanded.extend_from_slice(safe(comm).as_bytes()),
            (Piece::Pid | Piece::Comm, None) => expanded.extend_from_slice(ALL.as_bytes()),
        }
    }
    Ok(pattern.with_file_name(OsString::from_vec(expanded)))
}

/// The name for a profile whose process is not known yet, where it is the same for every process.
pub(super) fn expand_beforehand(pattern: &Path, about: &About) -> Result<Option<PathBuf>, SinkError> {
    let (_, name) = folder_and_name(pattern)?;
    let differs = pieces(pattern, name.as_os_str().as_bytes())?.iter().any(|piece| matches!(piece, Piece::Pid | Piece::Comm));
    if differs { Ok(None) } else { expand(pattern, about).map(Some) }
}

fn pieces<'a>(pattern: &Path, mut rest: &'a [u8]) -> Result<Vec<Piece<'a>>, SinkError> {
    let mut pieces = Vec::new();
    while let Some(open) = rest.iter().position(|byte| *byte == b'{') {
        let Some(length) = rest[open..].iter().position(|byte| *byte == b'}') else { break };
        pieces.push(Piece::Text(&rest[..open]));
        pieces.push(match &rest[open + 1..open + length] {
            b"kind" => Piece::Kind,
            b"pid" => Piece::Pid,
            b"comm" => Piece::Comm,
            other => {
                let placeholder = String::from_utf8_lossy(other).into_owned();
                return Err(SinkError::UnknownPlaceholder { pattern: pattern.into(), placeholder });
            }
        });
        rest = &rest[open + length + 1..];
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// A process's name as a part of a file's name: no path, no hidden file, nothing that a shell would take for something else.
fn safe(comm: &str) -> String {
    let safe: String = comm.chars().take(64).map(|c| if c.is_alphanumeric() || "_-.+".contains(c) { c } else { '_' }).collect();
    match safe.chars().next() {
        None => "unknown".to_owned(),
        Some('.' | '-') => format!("_{}", &safe[1..]),
        Some(_) => safe,
    }
}

#[cfg(test)]
mod tests {
    use super::{expand, expand_beforehand};
    use crate::model::encoded::About;
    use crate::model::kind::Kind;
    use crate::model::process::Pid;
    use crate::sink::SinkError;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, SystemTime};

    fn about(process: Option<(u32, &str)>) -> About {
        let process = process.map(|(pid, comm)| (Pid(pid), comm.into()));
        About { kind: Kind::Cpu, process, start: SystemTime::UNIX_EPOCH, duration: Duration::ZERO }
    }

    fn expanded(pattern: &str, process: Option<(u32, &str)>) -> Result<PathBuf, SinkError> {
        expand(Path::new(pattern), &about(process))
    }

    #[test]
    fn placeholders_are_filled_in() {
        assert_eq!(expanded("out/{kind}-{pid}-{comm}.prof", Some((7, "nginx"))).unwrap(), Path::new("out/cpu-7-nginx.prof"));
        assert_eq!(expanded("{kind}-{pid}-{comm}.prof", None).unwrap(), Path::new("cpu-all-all.prof"));
        assert_eq!(expanded("plain", None).unwrap(), Path::new("plain"));
        assert_eq!(expanded("open{brace", None).unwrap(), Path::new("open{brace"));
    }

    #[test]
    fn a_name_without_a_process_in_it_is_known_beforehand() {
        let known = |pattern: &str| expand_beforehand(Path::new(pattern), &about(None)).unwrap();
        assert_eq!(known("a/{kind}.prof"), Some("a/cpu.prof".into()));
        assert_eq!(known("plain"), Some("plain".into()));
        assert_eq!([known("{kind}.{pid}.prof"), known("{comm}")], [None, None]);
    }

    #[test]
    fn a_process_cannot_choose_a_path_with_its_name() {
        for (comm, safe) in [
            ("../../etc/x", "_._.._etc_x"),
            ("/etc/shadow", "_etc_shadow"),
            ("", "unknown"),
            (".hidden", "_hidden"),
            ("-rf", "_rf"),
            ("a\n\0b c", "a__b_c"),
            ("{pid}", "_pid_"),
            ("kworker/0:1", "kworker_0_1"),
            ("größe", "größe"),
        ] {
            assert_eq!(expanded("{comm}", Some((1, comm))).unwrap(), Path::new(safe), "{comm:?}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_work_is_refused() {
        assert!(matches!(expanded("a/", None), Err(SinkError::NoName(_))));
        assert!(matches!(expanded("", None), Err(SinkError::NoName(_))));
        assert!(matches!(expanded("..", None), Err(SinkError::NoName(_))));
        assert!(matches!(expanded("{pid}/x", None), Err(SinkError::PlaceholderInFolder(_))));
        assert!(matches!(expanded("{date}", None), Err(SinkError::UnknownPlaceholder { placeholder, .. }) if placeholder == "date"));
    }
}
