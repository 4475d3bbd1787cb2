//! Whether `init` was called: only then may this program be started again as one of its own helpers.

use std::sync::atomic::{AtomicBool, Ordering};

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// It was.
pub fn note() {
    INITIALISED.store(true, Ordering::Release);
}

/// Whether it was.
pub fn is_noted() -> bool {
    INITIALISED.load(Ordering::Acquire)
}
