//! Signals: which end a recording, and which are the command's.

use super::command::Command;
use std::io;
use std::task::Poll;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What ends a recording.
const ENDING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
/// What a command may have a use for; without one they do what they always do. All that can be sent and caught but what tells of a fault, of a child or of a
/// terminal that stops.
const PASSED_ON: [i32; 12] = [
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGCONT,
    libc::SIGWINCH,
    libc::SIGURG,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGSTKFLT,
];

/// The signals that are heard instead of what they do by default.
pub(super) struct Signals {
    heard: Vec<(i32, Signal)>,
    ends: u32,
}

impl Signals {
    /// Hears from now on. What was ignored when we were started (`nohup`) stays so, but for SIGINT: shells start the jobs of a script with it ignored, and
    /// `kill -INT` is how such a job is told to end and write.
    pub(super) fn new(has_command: bool) -> io::Result<Self> {
        let ignored = ignored();
        let wanted = ENDING.into_iter().chain(PASSED_ON.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).filter(|_| has_command));
        let heard = wanted.filter(|number| *number == libc::SIGINT || ignored & (1 << (number - 1)) == 0);
        Ok(Self { heard: heard.map(|number| Ok((number, signal(SignalKind::from_raw(number))?))).collect::<io::Result<_>>()?, ends: 0 })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.heard {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Without a command what ends the recording ends it. With one it is the command's to end: the signal is passed on (what a terminal sends has
    /// reached it already), and only a second one ends the recording without it.
    pub(super) fn ends_recording(&mut self, signal: i32, command: Option<&Command>) -> bool {
        let Some(command) = command else { return true };
        self.pass_on(signal, command);
        self.ends += u32::from(ENDING.contains(&signal));
        self.ends > 1
    }

    /// Sends it to the command, unless a terminal has.
    pub(super) fn pass_on(&self, signal: i32, command: &Command) {
        let is_key = matches!(signal, libc::SIGINT | libc::SIGQUIT | libc::SIGWINCH);
        if !(is_key && is_in_foreground()) {
            command.signal(signal);
        }
    }
}

/// Signals that this process ignores, bit 0 for signal 1: `SigIgn` of proc_pid_status(5).
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Whether a key of our terminal reaches this process, and with it the command, which is in its group.
fn is_in_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| rustix::termios::tcgetpgrp(terminal).is_ok_and(|group| group == rustix::process::getpgrp()))
}
