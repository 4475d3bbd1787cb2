//! Whether `init` was called: only then may this program be started again as a reader.

use std::sync::atomic::{AtomicBool, Ordering};

static INITIALISED: AtomicBool = AtomicBool::new(false);

pub(super) fn note() {
    INITIALISED.store(true, Ordering::Release);
}

pub(super) fn is_noted() -> bool {
    INITIALISED.load(Ordering::Acquire)
}
