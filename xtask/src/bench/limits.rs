//! Limits of the machine that a benchmark needs higher than they are: raised for its time, and put back however it ends (but by a signal).

use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;

/// Limits that were raised, with what they were before.
pub(super) struct Raised(Vec<(PathBuf, u64)>);

impl Raised {
    /// Raises those below `/proc/sys` that are lower.
    ///
    /// # Errors
    /// They cannot be read or written; those that were raised by then are put back.
    pub(super) fn to(wanted: &[(&str, u64)]) -> Result<Self> {
        let mut raised = Self(Vec::new());
        for (name, least) in wanted {
            let path = PathBuf::from("/proc/sys").join(name);
            let before: u64 = fs::read_to_string(&path)?.trim().parse().with_context(|| format!("{name} is no number"))?;
            if before < *least {
                fs::write(&path, least.to_string()).with_context(|| format!("raising {name} from {before} to {least}"))?;
                raised.0.push((path, before));
            }
        }
        Ok(raised)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        for (path, before) in self.0.drain(..) {
            if let Err(error) = fs::write(&path, before.to_string()) {
                eprintln!("{} was {before}, and could not be put back: {error}", path.display());
            }
        }
    }
}
