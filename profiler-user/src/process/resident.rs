//! How much memory a process has, by the kernel's own account.

use crate::model::process::Pid;

/// Bytes that a process maps and that are there; None if it has ended. Not shared out among those that map the same pages: for that the kernel has to look at
/// each page with the lock that a process can have held for ever by a page that never comes.
pub fn resident_bytes(pid: Pid) -> Option<u64> {
    parse(&std::fs::read_to_string(format!("/proc/{}/statm", pid.0)).ok()?, rustix::param::page_size() as u64)
}

/// The second number is that of resident pages (proc_pid_statm(5)).
fn parse(text: &str, page: u64) -> Option<u64> {
    text.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(parse("812 534 470 5 0 104 0\n", 4096), Some(534 * 4096));
        assert_eq!(parse("812 x", 4096), None);
        assert!(resident_bytes(Pid(std::process::id())).is_some_and(|bytes| bytes > 100_000));
    }
}
