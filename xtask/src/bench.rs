//! placeholder
use anyhow::Result;
pub(crate) fn list() -> Result<()> {
    Ok(())
}
pub(crate) fn run(_names: &[String]) -> Result<()> {
    Ok(())
}
