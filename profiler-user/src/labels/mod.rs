//! Labels of processes: what the kernel says of where a process belongs.

mod cgroup;

use crate::model::label::Label;
use crate::model::process::Pid;
use std::io::Read as _;
use std::sync::Arc;

/// Bytes of `/proc/PID/cgroup` that are read: a dozen hierarchies with paths as long as paths can be.
const READ_MAX: u64 = 64 << 10;

/// The labels of a process: `container_id`, `unit` and `cgroup`, as far as it has them. `None` if the process is gone.
pub fn of_process(pid: Pid) -> Option<Arc<[Label]>> {
    let file = std::fs::File::open(format!("/proc/{}/cgroup", pid.0)).ok()?;
    let mut bytes = Vec::new();
    // The file of a process that ends meanwhile gives ESRCH.
    file.take(READ_MAX).read_to_end(&mut bytes).ok()?;
    Some(cgroup::labels(&bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_labels_are_read_and_a_process_that_is_not_there_has_none() {
        let text = std::fs::read("/proc/self/cgroup").expect("/proc is mounted");
        assert_eq!(of_process(Pid(std::process::id())).as_deref(), Some(cgroup::labels(&text).as_slice()));
        assert_eq!(of_process(Pid(0x3fff_ffff)), None);
    }
}
