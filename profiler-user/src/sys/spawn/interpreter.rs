//! What runs a script: the program that its first line names.

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What the kernel looks at (`BINPRM_BUF_SIZE` of include/uapi/linux/binfmts.h).
const LOOKED_AT: usize = 256;

/// The interpreter that a script names.
pub(super) fn named_by(path: &Path) -> Option<OsString> {
    // Whatever stands there by now: a FIFO must not hold us.
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    if FileType::from_raw_mode(fstat(&file).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut start = [0; LOOKED_AT];
    let length = rustix::io::read(&file, &mut start).ok()?;
    in_first_line(&start[..length]).map(OsStr::to_owned)
}

/// `#!`, blanks, the path up to the next blank. A carriage return belongs to it, and is then why it is not found.
fn in_first_line(start: &[u8]) -> Option<&OsStr> {
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\0'));
    words.find(|word| !word.is_empty()).map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::in_first_line;
    use std::ffi::OsStr;

    #[test]
    fn the_interpreter_is_what_the_kernel_takes_for_it() {
        let named = |start: &str| in_first_line(start.as_bytes()).map(OsStr::to_owned);
        assert_eq!(named("#!/bin/sh\nexit"), Some("/bin/sh".into()));
        assert_eq!(named("#! \t/usr/bin/env python3 -x\n"), Some("/usr/bin/env".into()));
        assert_eq!(named("#!/bin/sh\r\n"), Some("/bin/sh\r".into()));
        assert_eq!([named("#!\n/bin/sh"), named("exit 1\n"), named("\x7fELF"), named("")], [None, None, None, None]);
    }
}
