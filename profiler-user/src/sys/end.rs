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
        if held(signal) == Some(libc::SIG_IGN) {
            IGNORED_AT_START.fetch_or(1 << signal, Ordering::Relaxed);
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

/// Lets the signals that a recording hears end this process at once again, but for those that are ignored. For when it is about to wait for somebody, such as
/// the reader of a FIFO, who may never come. They are unheard again when what is returned is dropped.
#[must_use = "signals are unheard again when it is dropped"]
pub fn end_on_signals() -> EndingSignals {
    EndingSignals::set(libc::SIG_DFL, 0)
}

/// The same, but the first of each is still not heard: it may have been meant for the recording, which ended by itself just before. For what takes its time.
#[must_use = "signals are unheard again when it is dropped"]
pub fn end_on_second_signals() -> EndingSignals {
    EndingSignals::set(let_pass as extern "C" fn(libc::c_int) as libc::sighandler_t, libc::SA_RESETHAND | libc::SA_RESTART)
}

/// What a signal does that is not heard: the kernel has given it back its default by now.
extern "C" fn let_pass(_signal: libc::c_int) {}

/// Signals that end this process for a while.
pub struct EndingSignals {
    /// With what was done at each before.
    changed: Vec<(libc::c_int, libc::sigaction)>,
}

impl EndingSignals {
    fn set(disposition: libc::sighandler_t, flags: libc::c_int) -> Self {
        let is_heard = |signal: &libc::c_int| held(*signal).is_some_and(|held| held != libc::SIG_IGN);
        let set_one = |signal| {
            // SAFETY: zero is a valid action, which then is one of the two above; the call reads and writes live locals.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                let mut before = action;
                (action.sa_sigaction, action.sa_flags) = (disposition, flags);
                (libc::sigaction(signal, &raw const action, &raw mut before) == 0).then_some((signal, before))
            }
        };
        Self { changed: HEARD.into_iter().filter(is_heard).filter_map(set_one).collect() }
    }
}

impl Drop for EndingSignals {
    /// As it was, and not ignored: a signal that is ignored is taken for one that was so before us.
    fn drop(&mut self) {
        for (signal, before) in &self.changed {
            // SAFETY: the action is one that was in force before; the call reads a live one.
            unsafe { libc::sigaction(*signal, &raw const *before, std::ptr::null_mut()) };
        }
    }
}

/// What happens at a signal now.
fn held(signal: libc::c_int) -> Option<libc::sighandler_t> {
    // SAFETY: zero is a valid action, and the call writes to a live local.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0).then_some(action.sa_sigaction)
    }
}
