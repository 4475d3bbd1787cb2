//! What ends this process.

/// Signals that a recording hears; the runtime's handlers for them stay when it has ended.
const HEARD: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Lets a write that a limit on file sizes forbids fail, with a reason, instead of ending this process with half a file left.
pub fn fail_on_file_size() {
    // SAFETY: no code of ours runs at the signal.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Lets the signals that a recording hears end this process at once again, but for those that are ignored. For when it is about to wait for somebody, such
/// as the reader of a FIFO, who may never come.
pub fn end_on_signals() {
    for signal in HEARD {
        // SAFETY: zero is a valid action; the calls get pointers to a live local, or none, and the default action runs no code of ours.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction != libc::SIG_IGN {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}
