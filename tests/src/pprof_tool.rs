//! Go's own reader of profiles, `go tool pprof`: the judge of what we write.

use crate::run::Folder;
use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// What the tool printed.
#[derive(Debug)]
pub struct Report {
    /// Standard output.
    pub text: String,
    /// Standard error: warnings, and what it looked for.
    pub notes: String,
}

/// Runs `go tool pprof ARGS`. It may not use the network, nor open the binaries that a profile names, unless the test says so in the arguments.
///
/// # Errors
/// The tool is missing, or refuses the profile; with what it said.
pub fn pprof<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Result<Report> {
    // Its saved copies of profiles must not land in the home of who tests.
    let folder = Folder::create()?;
    let mut command = Command::new("go");
    command.args(["tool", "pprof"]).args(args);
    command.env("PPROF_TMPDIR", folder.path()).env("GOTOOLCHAIN", "local").env("GOFLAGS", "").env("NO_COLOR", "1");
    let output = command.output().context("starting `go tool pprof`")?;
    let report =
        Report { text: String::from_utf8_lossy(&output.stdout).into_owned(), notes: String::from_utf8_lossy(&output.stderr).into_owned() };
    ensure!(output.status.success(), "{command:?} failed: {}\n{}", output.status, report.notes);
    Ok(report)
}

/// The sum of a column in bytes or blocks, as the tool reads it.
///
/// # Errors
/// As [`pprof`]; or it has no sum.
pub fn total(profile: &Path, column: &str) -> Result<i64> {
    let index = format!("-sample_index={column}");
    let top = pprof(["-top".as_ref(), "-unit=B".as_ref(), index.as_ref(), profile.as_os_str()])?.text;
    of_all(&top).with_context(|| format!("{}, {column}: {top}", profile.display()))
}

/// What the table of `-top` says that all are.
fn of_all(top: &str) -> Option<i64> {
    top.split("% of ").nth(1)?.split(" total").next()?.trim_end_matches('B').parse().ok()
}

/// The flat share of a function in percent, out of the table of `-top`.
pub fn flat_percent(top: &str, function: &str) -> Option<f64> {
    let row = top.lines().find(|line| line.split_whitespace().nth(5) == Some(function))?;
    row.split_whitespace().nth(1)?.strip_suffix('%')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{flat_percent, of_all};

    #[test]
    fn reads_a_row_of_the_table() {
        let top = "Showing nodes\n      flat  flat%   sum%        cum   cum%\n     5.01s 50.10% 50.10%      5.01s 50.10%  half\n";
        assert_eq!(flat_percent(top, "half"), Some(50.1));
        assert_eq!(flat_percent(top, "hal"), None);
    }

    #[test]
    fn reads_the_sum_of_all() {
        assert_eq!(of_all("Showing nodes accounting for 90B, 90.00% of 100B total\n      flat\n"), Some(100));
        assert_eq!(of_all("Showing nodes accounting for 7, 100% of 7 total\n"), Some(7));
        assert_eq!(of_all(""), None);
    }
}
