//! speedscope's own importer, run by node: what that viewer makes of a profile.

use crate::manifest::root;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What it found.
#[derive(Clone, PartialEq, Debug)]
pub struct Imported {
    /// The unit of all weights.
    pub unit: String,
    /// Of all samples.
    pub total: i64,
    /// One for each function, file and line of declaration.
    pub frames: Vec<Frame>,
}

/// A function as speedscope has it: of inlined ones it shows only the one that they were inlined into.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Its name.
    pub name: String,
    /// Its own weight.
    pub own: i64,
    /// Its weight with what it called.
    pub total: i64,
}

/// Where the importer and its package lie.
fn folder() -> PathBuf {
    root().join("tests/speedscope")
}

/// The package, which `npm ci` in [`folder`] installs.
pub fn package() -> PathBuf {
    folder().join("node_modules/speedscope/package.json")
}

/// Imports a profile.
///
/// # Errors
/// It is refused, or node or the package is missing.
pub fn import(profile: &Path) -> Result<Imported> {
    let output = Command::new("node").arg(folder().join("import.js")).arg(profile).output().context("starting node")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    parse(&String::from_utf8(output.stdout)?)
}

fn parse(text: &str) -> Result<Imported> {
    let mut lines = text.lines();
    let (unit, total) = lines.next().and_then(|line| line.split_once('\t')).context("no first line")?;
    let frame = |line: &str| {
        let mut columns = line.splitn(3, '\t');
        let mut next = || columns.next().with_context(|| format!("too short: `{line}`"));
        Ok(Frame { own: next()?.parse()?, total: next()?.parse()?, name: next()?.to_owned() })
    };
    Ok(Imported { unit: unit.to_owned(), total: total.parse()?, frames: lines.map(frame).collect::<Result<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::{Frame, parse};

    #[test]
    fn what_the_importer_prints_is_read() {
        let imported = parse("nanoseconds\t30\n10\t30\tmain\n20\t20\ta b\n").expect("it is well formed");
        assert_eq!((imported.unit.as_str(), imported.total), ("nanoseconds", 30));
        assert_eq!(imported.frames[1], Frame { name: "a b".to_owned(), own: 20, total: 20 });
        assert!(parse("").is_err() && parse("ns\t1\n2\t3").is_err());
    }
}
