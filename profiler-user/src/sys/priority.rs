//! Being run at once, for a moment: where many threads want a CPU, a look of 20 ms took 20 s, most of which others had.

use std::mem::MaybeUninit;

/// Threads that are run before all that are not real-time ones, until the value is dropped. They have the lowest of those priorities; the kernel keeps a
/// twentieth of each CPU for all others (`sched_rt_runtime_us`). What they start meanwhile is as urgent, and stays so.
#[derive(Debug, Default)]
pub struct Urgent(Vec<Before>);

/// How a thread was scheduled.
#[derive(Clone, Copy, Debug)]
struct Before {
    tid: i32,
    policy: i32,
    parameters: libc::sched_param,
}

impl Urgent {
    /// These threads, 0 for the calling one. Who may not be raised (it needs `CAP_SYS_NICE`), or is no ordinary one, stays as it is.
    pub fn raise(tids: impl IntoIterator<Item = u32>) -> Self {
        Self(tids.into_iter().filter_map(|tid| raise(i32::try_from(tid).ok()?)).collect())
    }
}

/// The highest of the ordinary priorities.
const HIGHEST: i32 = -20;

/// Has the calling thread, and what it starts from now on, run before other ordinary ones: for a command of some tenths of a second that somebody waits for. (With 200 threads
/// that want two CPUs it took 27 s, of which it ran 0.2.) Who may not stays as patient as others.
pub fn prefer() {
    let _ = rustix::process::setpriority_process(None, HIGHEST);
}

fn raise(tid: i32) -> Option<Before> {
    let mut parameters = MaybeUninit::<libc::sched_param>::zeroed();
    // SAFETY: the kernel fills the structure, for which all zeros are a value.
    let (policy, parameters) = unsafe {
        let policy = libc::sched_getscheduler(tid);
        (libc::sched_getparam(tid, parameters.as_mut_ptr()) == 0).then_some((policy, parameters.assume_init()))?
    };
    let is_ordinary = [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE].contains(&policy);
    let urgent = libc::sched_param { sched_priority: 1 };
    (is_ordinary && set(tid, libc::SCHED_RR, urgent)).then_some(Before { tid, policy, parameters })
}

fn set(tid: i32, policy: i32, parameters: libc::sched_param) -> bool {
    // SAFETY: the kernel reads the structure.
    unsafe { libc::sched_setscheduler(tid, policy, &raw const parameters) == 0 }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        for before in &self.0 {
            // One that has ended needs nothing.
            let _ = set(before.tid, before.policy, before.parameters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: no preconditions.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn what_is_preferred_has_the_highest_ordinary_priority_and_so_has_what_it_starts() {
        let niceness = || rustix::process::getpriority_process(None).expect("its own");
        let preferred = std::thread::spawn(move || {
            let before = niceness();
            prefer();
            (before, niceness(), std::thread::spawn(niceness).join().expect("its niceness"))
        });
        let (before, after, inherited) = preferred.join().expect("both");
        let may = rustix::process::geteuid().is_root();
        assert_eq!((after, inherited), if may { (HIGHEST, HIGHEST) } else { (before, before) });
    }

    #[test]
    fn a_thread_is_urgent_until_the_value_is_dropped_and_so_is_what_it_starts() {
        let before = policy();
        let urgent = Urgent::raise([0]);
        if urgent.0.is_empty() {
            return assert_eq!(policy(), before); // It may not.
        }
        assert_eq!((policy(), std::thread::spawn(policy).join().unwrap()), (libc::SCHED_RR, libc::SCHED_RR));
        // Once is enough: what was urgent before stays so.
        drop(Urgent::raise([0]));
        assert_eq!(policy(), libc::SCHED_RR);
        drop(urgent);
        assert_eq!(policy(), before);
    }
}
