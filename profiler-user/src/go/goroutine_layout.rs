//! How a goroutine lies in memory, by the version of its Go, and what its state is called. The offsets are those of the DWARF of programs that 1.21.13, 1.22.10,
//! 1.23.9, 1.24.11, 1.25.5, 1.26 and 1.27.3 built for x86-64; on every machine of 64 bits they are the same.

/// Offsets of members of `runtime.g`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) bp: usize,
    pub(super) system_sp: usize,
    pub(super) system_pc: usize,
    /// Since 1.23.
    pub(super) system_bp: Option<usize>,
    pub(super) status: usize,
    pub(super) id: usize,
    pub(super) wait_since: usize,
    pub(super) wait_reason: usize,
    pub(super) locked: usize,
    pub(super) parent: usize,
    pub(super) created_at: usize,
    pub(super) begins_at: usize,
    pub(super) labels: usize,
    /// `runtime.m.procid`.
    pub(super) thread_id: usize,
}

pub(super) const STACK_LOW: usize = 0;
pub(super) const STACK_HIGH: usize = 8;
pub(super) const THREAD: usize = 48;
pub(super) const SP: usize = 56;
pub(super) const PC: usize = 64;
/// Bytes of a goroutine that are read.
pub(super) const BYTES: u32 = 360;

/// Offsets of a version; None if it is not known.
pub(super) fn of(minor: u32) -> Option<Layout> {
    let first = Layout {
        bp: 104,
        system_sp: 112,
        system_pc: 120,
        system_bp: None,
        status: 144,
        id: 152,
        wait_since: 168,
        wait_reason: 176,
        locked: 208,
        parent: 272,
        created_at: 280,
        begins_at: 296,
        labels: 344,
        thread_id: 72,
    };
    let later = Layout { bp: 96, system_sp: 104, system_pc: 112, system_bp: Some(120), thread_id: 64, ..first };
    match minor {
        21 | 22 => Some(first),
        23 | 24 => Some(Layout {
            system_bp: Some(128),
            status: 152,
            id: 160,
            wait_since: 176,
            wait_reason: 184,
            locked: 216,
            parent: 280,
            created_at: 288,
            begins_at: 304,
            labels: 352,
            ..first
        }),
        25 => Some(later),
        26 | 27 => Some(Layout { parent: 280, created_at: 288, begins_at: 304, labels: 352, ..later }),
        _ => None,
    }
}

pub(super) const RUNNABLE: u32 = 1;
pub(super) const RUNNING: u32 = 2;
pub(super) const IN_SYSTEM_CALL: u32 = 3;
pub(super) const WAITING: u32 = 4;
pub(super) const PREEMPTED: u32 = 9;
pub(super) const LEAKED: u32 = 10;
/// The collector looks at its stack.
pub(super) const SCAN: u32 = 0x1000;

/// A state without its scan bit; None of what is no goroutine: idle, dead, waiting to be used by C.
pub(super) fn state(status: u32) -> Option<&'static str> {
    match status {
        RUNNABLE => Some("runnable"),
        RUNNING => Some("running"),
        IN_SYSTEM_CALL => Some("syscall"),
        WAITING => Some("waiting"),
        8 => Some("copystack"),
        PREEMPTED => Some("preempted"),
        LEAKED => Some("leaked"),
        _ => None,
    }
}

/// Whether a runtime has a state of this number at all.
pub(super) fn is_state(status: u32) -> bool {
    matches!(status & !SCAN, 0..=4 | 6 | 8..=11)
}

const LAST: u32 = 27;

/// Why a goroutine waits (`waitReasonStrings`), by its number among those of a version: each with the first and the last that has it.
const REASONS: &[(&str, u32, u32)] = &[
    ("", 21, LAST),
    ("GC assist marking", 21, LAST),
    ("IO wait", 21, LAST),
    ("chan receive (nil chan)", 21, 25),
    ("chan send (nil chan)", 21, 25),
    ("dumping heap", 21, LAST),
    ("garbage collection", 21, LAST),
    ("garbage collection scan", 21, LAST),
    ("panicwait", 21, LAST),
    ("select", 21, 25),
    ("select (no cases)", 21, 25),
    ("GC assist wait", 21, LAST),
    ("GC sweep wait", 21, LAST),
    ("GC scavenge wait", 21, LAST),
    ("chan receive", 21, 25),
    ("chan send", 21, 25),
    ("finalizer wait", 21, LAST),
    ("force gc (idle)", 21, LAST),
    ("GOMAXPROCS updater (idle)", 25, LAST),
    ("semacquire", 21, LAST),
    ("sleep", 21, LAST),
    ("chan receive (nil chan)", 26, LAST),
    ("chan send (nil chan)", 26, LAST),
    ("select (no cases)", 26, LAST),
    ("select", 26, LAST),
    ("chan receive", 26, LAST),
    ("chan send", 26, LAST),
    ("sync.Cond.Wait", 21, LAST),
    ("sync.Mutex.Lock", 21, LAST),
    ("sync.RWMutex.RLock", 21, LAST),
    ("sync.RWMutex.Lock", 21, LAST),
    ("sync.WaitGroup.Wait", 24, LAST),
    ("trace reader (blocked)", 21, LAST),
    ("wait for GC cycle", 21, LAST),
    ("GC worker (idle)", 21, LAST),
    ("GC worker (active)", 21, LAST),
    ("preempted", 21, LAST),
    ("debug call", 21, LAST),
    ("GC mark termination", 21, LAST),
    ("stopping the world", 21, LAST),
    ("flushing proc caches", 22, LAST),
    ("trace goroutine status", 22, LAST),
    ("trace proc status", 22, LAST),
    ("page trace flush", 22, LAST),
    ("coroutine", 22, LAST),
    ("GC weak to strong wait", 23, LAST),
    ("synctest.Run", 24, LAST),
    ("synctest.Wait", 24, LAST),
    ("chan receive (synctest)", 24, 24),
    ("chan send (synctest)", 24, 24),
    ("select (synctest)", 24, 24),
    ("chan receive (durable)", 25, LAST),
    ("chan send (durable)", 25, LAST),
    ("select (durable)", 25, LAST),
    ("sync.WaitGroup.Wait (durable)", 25, LAST),
    ("cleanup wait", 25, LAST),
];

/// The text of a reason.
pub(super) fn reason(minor: u32, number: u8) -> Option<&'static str> {
    let of_version = REASONS.iter().filter(|(_, first, last)| (*first..=*last).contains(&minor)).map(|(text, ..)| *text);
    of_version.into_iter().nth(usize::from(number)).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_by_version() {
        // From runtime2.go of each.
        assert_eq!((reason(21, 9), reason(21, 14), reason(25, 9)), (Some("select"), Some("chan receive"), Some("select")));
        assert_eq!((reason(26, 2), reason(26, 0), reason(26, 200)), (Some("IO wait"), None, None));
        assert_eq!(reason(27, 46), Some("cleanup wait"));
        assert!(of(20).is_none() && of(28).is_none());
    }
}
