//! What a wait is, where the values at its word do not tell it: by the names of the functions.

use crate::model::kind::Kind;
use crate::model::label::Label;
use profiler_common::descriptor::DescriptorType;
use profiler_common::wait::{CLASS_BLOCKED, CLASS_EXISTING, CLASS_LOCK, CLASS_ONGOING, CLASS_RUNNABLE, CLASS_RUNNING, plain_class};

/// Functions that let a lock go, by a part of their name: locks of glibc and musl for readers and writers, of Rust's library, of `parking_lot` (whose own
/// function calls its last one in its place, so that only what it is inlined in may be left), CPython's global lock, PostgreSQL's, Go's runtime's own.
const RELEASES: [&str; 17] = [
    "pthread_mutex_unlock",
    "pthread_rwlock_unlock",
    "pthread_spin_unlock",
    "unlock_slow",
    "unlock_shared_slow",
    "unlock_exclusive_slow",
    "lock_api::mutex",
    "lock_api::rwlock",
    "lock_api::remutex",
    "rwlock::futex::RwLock",
    "mutex::futex::Mutex",
    "drop_gil",
    "PyThread_release_lock",
    "PyMutex_Unlock",
    "_PyMutex_",
    "LWLockRelease",
    "runtime.unlock",
];

/// Of those what also tells others something, and no name of the library says which: Python's conditions, queues and events wait at a lock of their own each.
const EITHER: &str = "PyThread_release_lock";

/// Functions that wake what waits for something else than a lock, however the values look. (Who begins to wait at a condition variable lets its lock go.)
const NOTIFIES: [&str; 8] = [
    "pthread_cond_signal",
    "pthread_cond_broadcast",
    "private_cond_signal",
    "Condvar::notify",
    "sem_post",
    "pthread_barrier",
    "condvar::futex",
    "pthread_exit",
];

/// Functions that want a lock, of those whose locks are not told by a value: `parking_lot`'s (whose last call in letting go may take the function's place), those of
/// glibc and Rust for readers and writers, Abseil's, CPython's, PostgreSQL's, Go's runtime's own, `HotSpot`'s monitors.
const WANTS: [&str; 16] = [
    "lock_slow",
    "lock_shared_slow",
    "lock_exclusive_slow",
    "lock_upgradable_slow",
    "upgrade_slow",
    "pthread_rwlock_",
    "rwlock::futex::RwLock",
    "Mutex::LockSlow",
    "take_gil",
    "_PyMutex_Lock",
    "LWLockAcquire",
    "runtime.lock",
    "ObjectMonitor::enter(",
    "ObjectMonitor::EnterI",
    "pthread_mutex_",
    "mutex::futex::Mutex",
];

/// Functions in which a thread waits to be told something, though who lets it go on lets a lock go: it is handed on to that.
const WAITS_TO_BE_TOLD: [&str; 1] = ["parking_lot::condvar::Condvar"];

/// Where runtimes park threads that have nothing to do, and do nothing else there: Go's, and the workers of tokio.
/// (Or let them sleep for a time, on a condition variable that nobody signals: `HotSpot`.)
const IDLES: [&str; 5] = ["runtime.stopm", "runtime.notetsleepg", "runtime.templateThread", "multi_thread::park::", "JavaThread::sleep("];

/// The same of functions that also work: what they call to have work, or the time for it, and they themselves. Go's monitor; threads of `HotSpot` that collect,
/// compile, look after the rest (Java 17; of later ones the collector's have another name); Node's platform and its inspector.
const IDLE_CALLS: [(&str, &str); 16] = [
    ("runtime.notetsleep", "runtime.sysmon"),
    ("Semaphore::wait", "GangWorker::loop"),
    ("Semaphore::wait", "WorkerTaskDispatcher::worker_run_task"),
    ("Semaphore::wait", "G1ConcurrentRefineThread::run_service"),
    ("Semaphore::wait", "os::signal_wait"),
    ("Monitor::wait", "VMThread::wait_for_operation"),
    ("Monitor::wait", "CompileQueue::get"),
    ("Monitor::wait", "G1ConcurrentMarkThread::run_service"),
    ("Monitor::wait", "G1ServiceThread::sleep_before_next_cycle"),
    ("Monitor::wait", "WatcherThread::sleep"),
    ("Monitor::wait", "ServiceThread::service_thread_entry"),
    ("Monitor::wait", "NotificationThread::notification_thread_entry"),
    ("Monitor::wait", "MonitorDeflationThread::monitor_deflation_thread_entry"),
    ("Monitor::wait", "NMethodSweeper::sweeper_loop"),
    ("uv_cond_wait", "node::(anonymous namespace)::PlatformWorkerThread"),
    ("uv_sem_wait", "node::inspector::(anonymous namespace)::StartIoThreadMain"),
];

/// Who waits for a lock there is not idle: another thread has it.
const LOCKS: [&str; 2] = ["lll_lock_wait", "runtime.lock"];

/// Whether a sample belongs to a kind of contentions: of `mutex` only locks do, of `block` all but threads that have nothing to do. `others`: of `mutex` the names of
/// those that waited, where the value at the word does not tell it.
pub(super) fn are_told<'a>(
    kind: Kind,
    class: u64,
    names: impl Iterator<Item = &'a str>,
    mut others: impl Iterator<Item = &'a str>,
) -> bool {
    let names: Vec<&str> = names.collect();
    let is_one = |name: &str, parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let has = |parts: &[&str]| names.iter().any(|name| is_one(name, parts));
    match kind {
        Kind::Mutex => match others.find(|name| is_one(name, &WANTS) || is_one(name, &WAITS_TO_BE_TOLD)) {
            Some(name) => is_one(name, &WANTS),
            None => has(&RELEASES) || class == CLASS_LOCK && !has(&NOTIFIES),
        },
        _ => has(&LOCKS) || !(has(&IDLES) || names.windows(2).any(is_idle_call)),
    }
}

/// Whether a function waits for work in the call that is above it. `pair`: who is called, and who calls.
fn is_idle_call(pair: &[&str]) -> bool {
    let is = |called: &str, caller: &str| IDLE_CALLS.iter().any(|(wait, idle)| called.contains(wait) && caller.contains(idle));
    matches!(pair, [called, caller] if is(called, caller))
}

/// Where the kernel is entered by an interrupt: what lies below it only happened to run.
const INTERRUPTS: [&str; 4] = ["asm_sysvec_", "asm_common_interrupt", "el1_interrupt", "el0_interrupt"];

/// A stack that ended waits, or waited, in a line for people: root first. `names`: leaf first. By an interrupt it is nobody's.
pub(super) fn partner(comm: &str, names: &[&str]) -> String {
    let interrupt = names.iter().position(|name| INTERRUPTS.iter().any(|entry| name.starts_with(entry)));
    let (whose, names) = interrupt.map_or((comm, names), |at| ("[interrupt]", &names[..at]));
    // What lies above is how our own program is called.
    let woken_at = names.iter().position(|name| name.starts_with("try_to_wake_up")).unwrap_or(0);
    let names = &names[woken_at..];
    std::iter::once(whose).chain(names.iter().rev().copied()).collect::<Vec<_>>().join(" > ")
}

/// Says what does not belong to the kind, or cannot be told to: waits and nanoseconds.
pub(super) fn left_out(kind: Kind, (waits, ns): (i64, i64)) -> Option<String> {
    let what = match kind {
        Kind::Mutex => "were not for a lock, as far as the names of the functions tell",
        _ => "were those of threads of a runtime that had nothing to do, or slept",
    };
    (waits > 0 || ns > 0).then(|| format!("left out: {waits} waits of {:.3} s, which {what}", ns as f64 / 1e9))
}

/// Whether a release that is counted may be none of a lock.
pub(super) fn may_be_either<'a>(kind: Kind, mut names: impl Iterator<Item = &'a str>) -> bool {
    kind == Kind::Mutex && names.any(|name| name.contains(EITHER))
}

/// Says how much that is: releases and nanoseconds.
pub(super) fn either((releases, ns): (i64, i64)) -> Option<String> {
    let seconds = ns as f64 / 1e9;
    (releases > 0).then(|| {
        format!("not told apart: {releases} releases of {seconds:.3} s by {EITHER}: of locks, or of what Python's conditions, queues and events wait at")
    })
}

/// What the label of a class says.
pub(super) fn of_class(kind: Kind, class: u64) -> Option<Label> {
    let words = match plain_class(class) {
        CLASS_BLOCKED => "blocked",
        CLASS_RUNNABLE => "runnable",
        CLASS_RUNNING => "running",
        _ => "",
    };
    match kind {
        Kind::OffCpu => Some(Label::text("reason", words)),
        Kind::Wall => Some(Label::text("state", words)),
        Kind::ThreadCreate => (class == CLASS_EXISTING).then(|| Label::text("existing", "yes")),
        _ if kind.is_of_waits() || class == 0 => None,
        _ => DescriptorType::try_from(class).ok().filter(|_| kind.is_of_descriptors()).map(|what| Label::text("type", what.label())),
    }
}

/// What marks a wait that was not over when the recording was.
pub(super) fn of_ongoing(kind: Kind, class: u64) -> Option<Label> {
    (kind.is_of_waits() && class & CLASS_ONGOING != 0).then(|| Label::text("ongoing", "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::wait::CLASS_UNSURE;

    #[test]
    fn a_waker_is_told_in_a_line_and_an_interrupt_is_nobodys() {
        assert_eq!(partner("nginx", &["futex_wake", "unlock", "main"]), "nginx > main > unlock > futex_wake");
        assert_eq!(
            partner("nginx", &["try_to_wake_up", "hrtimer_wakeup", "asm_sysvec_apic_timer_interrupt", "main"]),
            "[interrupt] > hrtimer_wakeup > try_to_wake_up"
        );
    }

    #[test]
    fn a_lock_is_told_by_its_value_or_by_who_releases_it() {
        let told = |kind, class, names: &[&str]| are_told(kind, class, names.iter().copied(), std::iter::empty());
        assert!(told(Kind::Mutex, CLASS_LOCK, &["work", "main"]));
        assert!(told(Kind::Mutex, CLASS_UNSURE, &["__pthread_rwlock_unlock", "main"]));
        assert!(told(Kind::Mutex, CLASS_UNSURE, &["pthread_cond_signal", "drop_gil", "main"]));
        assert!(told(Kind::Mutex, CLASS_UNSURE, &["<parking_lot::raw_mutex::RawMutex>::unlock_slow", "main"]));
        assert!(!told(Kind::Mutex, CLASS_UNSURE, &["pthread_cond_signal", "main"]));
        assert!(!told(Kind::Mutex, CLASS_LOCK, &["std::sync::Condvar::notify_one", "main"]));
        // musl's, and a lock of glibc's that is let go by who begins to wait, where the function of its own has no name.
        assert!(!told(Kind::Mutex, CLASS_LOCK, &["__private_cond_signal", "main"]));
        assert!(told(Kind::Mutex, CLASS_LOCK, &["pthread_cond_timedwait", "main"]));
        assert!(!told(Kind::Mutex, CLASS_LOCK, &["pthread_cond_signal", "main"]));
        assert!(told(Kind::Block, CLASS_UNSURE, &["pthread_cond_wait", "main"]));
    }

    #[test]
    fn what_may_be_a_lock_or_a_message_is_said() {
        assert!(may_be_either(Kind::Mutex, ["sem_post", "PyThread_release_lock", "main"].into_iter()));
        assert!(
            !may_be_either(Kind::Block, ["PyThread_release_lock"].into_iter()) && !may_be_either(Kind::Mutex, ["drop_gil"].into_iter())
        );
        assert_eq!(either((0, 0)), None);
        assert!(
            either((3, 1_500_000_000))
                .is_some_and(|line| line.starts_with("not told apart: 3 releases of 1.500 s by PyThread_release_lock"))
        );
    }

    #[test]
    fn a_lock_is_told_by_who_waited_where_that_is_known() {
        let told = |names: &[&str], others: &[&str]| are_told(Kind::Mutex, CLASS_UNSURE, names.iter().copied(), others.iter().copied());
        // Who lets it go calls its last function in its own place.
        assert!(told(&["holds", "main"], &["syscall", "<parking_lot::raw_mutex::RawMutex>::lock_slow", "main"]));
        assert!(!told(&["holds", "main"], &["syscall", "std::thread::park", "main"]));
        // It waited to be told something, and was handed on to the lock; and one that has been told and wants the lock again.
        let condvar = "<parking_lot::condvar::Condvar>::wait_until_internal";
        assert!(!told(&["<parking_lot::raw_mutex::RawMutex>::unlock_slow", "main"], &["syscall", condvar, "main"]));
        assert!(told(&["holds"], &["syscall", "<parking_lot::raw_mutex::RawMutex>::lock_slow", condvar, "main"]));
        assert!(told(&["drop_gil", "main"], &["pthread_cond_timedwait", "take_gil", "main"]));
    }

    #[test]
    fn who_waits_for_work_in_a_runtime_is_idle_and_who_waits_within_its_work_is_not() {
        let told = |names: &[&str]| are_told(Kind::Block, CLASS_UNSURE, names.iter().copied(), std::iter::empty());
        assert!(!told(&["runtime.futexsleep", "runtime.stopm", "runtime.mcall"]));
        assert!(!told(&["runtime.futexsleep", "runtime.notetsleep_internal", "runtime.notetsleep", "runtime.sysmon", "runtime.mstart1"]));
        assert!(told(&["runtime.futexsleep", "runtime.lock2", "runtime.sysmon", "runtime.mstart1"]));
        assert!(told(&["runtime.futexsleep", "runtime.lock2", "runtime.stopm", "runtime.mcall"]));
        assert!(!told(&["__new_sem_wait_slow64", "PosixSemaphore::wait()", "GangWorker::loop()", "GangWorker::run()"]));
        assert!(told(&["futex_wait", "Mutex::lock_without_safepoint_check()", "G1EvacuateRegionsTask::work()", "GangWorker::loop()"]));
        // For the lock of the queue itself.
        let queue = ["__GI___lll_lock_wait", "__pthread_mutex_cond_lock", "os::PlatformMonitor::wait(long)", "Monitor::wait(long)"];
        assert!(told(&[&queue[..], &["CompileQueue::get()"]].concat()));
        assert!(!told(&["os::PlatformMonitor::wait(long)", "Monitor::wait(long)", "CompileQueue::get()"]));
        assert!(told(&["os::PlatformMonitor::wait(long)", "Monitor::wait(long)", "CompileBroker::wait_for_completion(CompileTask*)"]));
        assert!(!told(&["uv_cond_wait", "node::(anonymous namespace)::PlatformWorkerThread(void*)", "start_thread"]));
        assert!(!told(&["pthread_cond_timedwait", "PlatformEvent::park_nanos(long)", "JavaThread::sleep(long)", "JVM_Sleep"]));
        // A pool of the program's own waits for other threads, as far as names tell.
        assert!(told(&["uv_cond_wait", "worker", "start_thread"]));
    }
}
