//! What ends this process.

use std::sync::atomic::{AtomicU64, Ordering};

/// Signals that a recording hears; the runtime's handlers for them stay when it has ended.
const HEARD: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Signals that are ignored here whatever they were: SIGPIPE by Rust's runtime before `main`, SIGXFSZ by us.
const IGNORED_HERE: [libc::c_int; 2] = [libc::SIGPIPE, libc::SIGXFSZ];

/// Those of [`IGNORED_HERE`] that were ignored when this process began, a bit each.
static IGNORED_AT_START: AtomicU64 = AtomicU64::new(0);

/// Rust's runtime changes SIGPIPE before any code of `main`, so what it was is asked for before the runtime begins.
#[used]
// SAFETY: the C library calls what stands in this section once, before `main`. The function uses no part of Rust's runtime.
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = note_what_is_ignored;

extern "C" fn note_what_is_ignored() {
    for signal in IGNORED_HERE {
        // SAFETY: zero is a valid action; the call gets a pointer to a live local.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN {
                IGNORED_AT_START.fetch_or(1 << signal, Ordering::Relaxed);
            }
        }
    }
}

/// Gives the signals that are ignored here the disposition that they had when this process began.
///
/// # Safety
/// Only in a child that is about to exec.
pub(super) unsafe fn restore_ignored() {
    let ignored = IGNORED_AT_START.load(Ordering::Relaxed);
    for signal in IGNORED_HERE {
        // SAFETY: an async-signal-safe call; neither disposition runs code of ours.
        unsafe { libc::signal(signal, if ignored & 1 << signal == 0 { libc::SIG_DFL } else { libc::SIG_IGN }) };
    }
}

/// Lets a write that a limit on file sizes forbids fail, with a reason, instead of ending this process with half a file left.
pub fn fail_on_file_size() {
    // SAFETY: no code of ours runs at the signal.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Lets the signals that a recording hears end this process at once again, but for those that are ignored. For when it is about to do what takes its time,
/// or to wait for somebody, such as the reader of a FIFO, who may never come. They are unheard again when what is returned is dropped.
#[must_use = "signals are unheard again when it is dropped"]
pub fn end_on_signals() -> EndingSignals {
    let changed = HEARD.into_iter().filter(|signal| disposition(*signal).is_some_and(|held| held != libc::SIG_IGN)).collect();
    let ending = EndingSignals { changed };
    ending.set(libc::SIG_DFL);
    ending
}

/// Signals that end this process for a while.
pub struct EndingSignals {
    changed: Vec<libc::c_int>,
}

impl EndingSignals {
    fn set(&self, disposition: libc::sighandler_t) {
        for signal in &self.changed {
            // SAFETY: neither disposition runs code of ours.
            unsafe { libc::signal(*signal, disposition) };
        }
    }
}

impl Drop for EndingSignals {
    /// A recording has ended by now, and its signals have no other use.
    fn drop(&mut self) {
        self.set(libc::SIG_IGN);
    }
}

/// What happens at a signal now.
fn disposition(signal: libc::c_int) -> Option<libc::sighandler_t> {
    // SAFETY: zero is a valid action, and the call writes to a live local.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0).then_some(action.sa_sigaction)
    }
}
