//! Waiting for conditions, never for a while: the bound is how long a hang may last before it is called one, and no test asserts a time.

use anyhow::{Result, bail};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// After this, waiting is a hang. Far above what any step takes on a slow machine.
pub const HANG: Duration = Duration::from_secs(180);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until a condition gives a value.
///
/// # Errors
/// It did not hold within [`HANG`].
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if start.elapsed() > HANG {
            bail!("hang: waited {HANG:?} for {what}");
        }
        thread::sleep(LOOK);
    }
}

/// Waits for the end of a process, and kills it if it hangs.
///
/// # Errors
/// It hangs.
pub fn for_end(what: &str, child: &mut Child) -> Result<ExitStatus> {
    let ended = until(&format!("the end of {what}"), || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    ended
}
