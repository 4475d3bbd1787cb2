//! seccomp filters, and the answers of a supervisor to the calls that a filter hands over (`seccomp(2)`, `seccomp_unotify(2)`). What is allowed is not
//! decided here.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

/// What becomes of a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It runs.
    Allow,
    /// It fails with this error number.
    Errno(i32),
    /// The supervisor answers.
    Notify,
}

impl Verdict {
    fn value(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA),
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
        }
    }
}

/// What a filter says of one system call; the first rule with the call's number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The same for every use of the call.
    Always(libc::c_long, Verdict),
    /// One verdict if any bit of the mask is set in an argument (its lower 32 bits, counted from 0), another if none is.
    Bits {
        /// Number of the call.
        call: libc::c_long,
        /// Which argument.
        argument: u32,
        /// The bits.
        mask: u32,
        /// Verdict if one of them is set.
        set: Verdict,
        /// Verdict if none is.
        clear: Verdict,
    },
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_BITS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

fn op(code: u32, jump_true: u8, jump_false: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: jump_true, jf: jump_false, k }
}

/// The rules as a program for the kernel. `struct seccomp_data`: number at 0, architecture at 4, arguments of 8 bytes from 16 on (little endian).
fn compile(rules: &[Rule], otherwise: Verdict) -> Vec<libc::sock_filter> {
    let mut program =
        vec![op(LOAD, 0, 0, 4), op(IF_EQUAL, 1, 0, AUDIT_ARCH), op(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS), op(LOAD, 0, 0, 0)];
    for rule in rules {
        match *rule {
            Rule::Always(call, verdict) => {
                program.push(op(IF_EQUAL, 0, 1, call as u32));
                program.push(op(RETURN, 0, 0, verdict.value()));
            }
            Rule::Bits { call, argument, mask, set, clear } => {
                program.push(op(IF_EQUAL, 0, 4, call as u32));
                program.push(op(LOAD, 0, 0, 16 + 8 * argument));
                program.push(op(IF_BITS, 0, 1, mask));
                program.push(op(RETURN, 0, 0, set.value()));
                program.push(op(RETURN, 0, 0, clear.value()));
            }
        }
    }
    program.push(op(RETURN, 0, 0, otherwise.value()));
    program
}

/// Puts the calling thread under the rules, for ever, and returns the descriptor through which a supervisor hears of [`Verdict::Notify`].
/// The thread must have `no_new_privs` (or CAP_SYS_ADMIN).
///
/// # Errors
/// The kernel has no seccomp notification (before 5.14 not all that is used here), or refuses the filter.
pub fn install(rules: &[Rule], otherwise: Verdict) -> io::Result<OwnedFd> {
    let program = compile(rules, otherwise);
    let header = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the header and the program it points to live until the call returns; the kernel copies both and writes to neither.
    let listener = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, &raw const header)
    };
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(listener as i32) })
}

/// A system call that waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notification {
    id: u64,
    /// Number of the call.
    pub call: libc::c_long,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// The next call that waits. `None`: it was given up before we came to it.
///
/// # Errors
/// The listener is not one.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    let mut raw =
        libc::seccomp_notif { id: 0, pid: 0, flags: 0, data: libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] } };
    // SAFETY: the kernel writes one `seccomp_notif` into our zeroed one.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut raw) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOENT | libc::EINTR) => Ok(None),
            _ => Err(error),
        };
    }
    Ok(Some(Notification { id: raw.id, call: libc::c_long::from(raw.data.nr), arguments: raw.data.args }))
}

/// Answers a call: with 0 if `errno` is 0, else with that error. That the caller is gone meanwhile is no error.
pub fn answer(listener: BorrowedFd<'_>, notification: &Notification, errno: i32) {
    let mut raw = libc::seccomp_notif_resp { id: notification.id, val: 0, error: -errno, flags: 0 };
    // SAFETY: the kernel reads one `seccomp_notif_resp`.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut raw) };
}

/// Answers a call with a descriptor: the caller gets a copy of `file` (the same open file), close-on-exec, under a number of the kernel's choice.
///
/// # Errors
/// The caller is gone, or has no room for another descriptor; the call then still waits for an answer.
pub fn answer_with_file(listener: BorrowedFd<'_>, notification: &Notification, file: BorrowedFd<'_>) -> io::Result<()> {
    let raw = libc::seccomp_notif_addfd {
        id: notification.id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: file.as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: libc::O_CLOEXEC as u32,
    };
    // SAFETY: the kernel reads one `seccomp_notif_addfd`.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const raw) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The bytes that `newfstatat` would write for this file: a `struct stat` of this architecture.
///
/// # Errors
/// The file cannot be asked.
pub fn stat_image(file: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut image = [0u64; size_of::<libc::stat>().div_ceil(8)];
    // SAFETY: the buffer is at least as large and as aligned as a `struct stat`, and any bytes are valid in it.
    let result = unsafe { libc::fstat(file.as_raw_fd(), image.as_mut_ptr().cast()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(image.iter().flat_map(|word| word.to_ne_bytes()).take(size_of::<libc::stat>()).collect())
}

/// The bytes that `statx` would write for this file.
///
/// # Errors
/// The file cannot be asked.
pub fn statx_image(file: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut image = [0u64; size_of::<libc::statx>().div_ceil(8)];
    // SAFETY: the path is an empty C string, and the buffer is at least as large and as aligned as a `struct statx`, any bytes being valid in it.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_BASIC_STATS | libc::STATX_BTIME,
            image.as_mut_ptr().cast(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(image.iter().flat_map(|word| word.to_ne_bytes()).take(size_of::<libc::statx>()).collect())
}

/// Asks the kernel to end this process with `SIGALRM` in so many seconds; 0 takes that back.
pub fn alarm(seconds: u32) {
    // SAFETY: `alarm` takes a number and touches no memory.
    unsafe { libc::alarm(seconds) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_file_has_the_same_size_in_both_images() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let size = file.metadata().unwrap().len();
        let at = std::mem::offset_of!(libc::stat, st_size);
        assert_eq!(stat_image(file.as_fd()).unwrap()[at..at + 8], size.to_ne_bytes());
        let at = std::mem::offset_of!(libc::statx, stx_size);
        assert_eq!(statx_image(file.as_fd()).unwrap()[at..at + 8], size.to_ne_bytes());
    }

    #[test]
    fn a_program_is_as_long_as_its_rules_say() {
        let rules = [
            Rule::Always(libc::SYS_read, Verdict::Allow),
            Rule::Bits { call: libc::SYS_mmap, argument: 2, mask: 4, set: Verdict::Errno(1), clear: Verdict::Allow },
        ];
        assert_eq!(compile(&rules, Verdict::Errno(libc::EPERM)).len(), 4 + 2 + 5 + 1);
    }
}
