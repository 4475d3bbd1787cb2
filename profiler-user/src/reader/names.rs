//! What both sides of a reader call things: its command line, and the files that it can ask for.

use std::ffi::OsString;

/// `argv[0]` of a reader: what marks it, and what `ps` shows.
pub(super) const READER: &str = "profiler-reader";

/// The object of the request.
pub(super) const OBJECT: &str = "/profiler/object";
/// Its separate debug file.
pub(super) const DEBUG: &str = "/profiler/debug";
/// The folder in which any name under `.build-id` is the file with shared debug information (whose build id the parser checks).
pub(super) const ALT_FOLDER: &str = "/profiler/alt";
/// What stands behind [`ALT_FOLDER`].
pub(super) const ALT_NAMES: &str = "/profiler/alt/.build-id/";

/// What a reader is told when it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arguments {
    /// Limit of its data, bytes.
    pub data_limit_bytes: u64,
    /// Seconds after which it ends by itself if a request is still running: for the case that the profiler is gone.
    pub alarm_seconds: u32,
}

impl Arguments {
    /// The command line behind `argv[0]`.
    pub(super) fn to_strings(self) -> [String; 2] {
        [self.data_limit_bytes.to_string(), self.alarm_seconds.to_string()]
    }
}

/// The arguments, if this is the command line of a reader.
pub(super) fn reader_arguments(mut command_line: impl Iterator<Item = OsString>) -> Option<Arguments> {
    if command_line.next()? != READER {
        return None;
    }
    let mut number = || command_line.next()?.to_str()?.parse::<u64>().ok();
    Some(Arguments { data_limit_bytes: number()?, alarm_seconds: u32::try_from(number()?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_knows_itself_by_its_command_line() {
        let arguments = Arguments { data_limit_bytes: 768 << 20, alarm_seconds: 41 };
        let line = |first: &str| std::iter::once(first.to_owned()).chain(arguments.to_strings()).map(OsString::from).collect::<Vec<_>>();
        assert_eq!(reader_arguments(line(READER).into_iter()), Some(arguments));
        assert_eq!(reader_arguments(line("profiler").into_iter()), None);
        assert_eq!(reader_arguments([OsString::from(READER)].into_iter()), None);
    }
}
