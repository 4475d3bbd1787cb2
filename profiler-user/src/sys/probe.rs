//! Asks the kernel what it would let us do, by doing it on the smallest scale and undoing it at once.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// `PERF_TYPE_HARDWARE`.
pub const TYPE_HARDWARE: u32 = 0;
/// `PERF_TYPE_SOFTWARE`.
pub const TYPE_SOFTWARE: u32 = 1;
/// `PERF_COUNT_HW_CPU_CYCLES` of [`TYPE_HARDWARE`].
pub const CPU_CYCLES: u64 = 0;
/// `PERF_COUNT_SW_CPU_CLOCK` of [`TYPE_SOFTWARE`].
pub const CPU_CLOCK: u64 = 0;

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 8;
/// `perf_event_attr::disabled`: it does not count.
const DISABLED: u64 = 1;

/// `struct perf_event_attr` up to PERF_ATTR_SIZE_VER0 (include/uapi/linux/perf_event.h), which every kernel takes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

const _: () = assert!(size_of::<Attributes>() == 64);

/// Opens a perf event, disabled, for everything that runs on a CPU, kernel included.
///
/// # Errors
/// As perf_event_open(2): `EACCES` or `EPERM` without rights, `ENOENT`, `ENODEV` or `EOPNOTSUPP` without such a counter.
pub fn perf_event_open(kind: u32, config: u64, cpu: u32) -> io::Result<OwnedFd> {
    let attributes = Attributes {
        kind,
        size: size_of::<Attributes>() as u32,
        config,
        sample_period: 1_000_000_000,
        flags: DISABLED,
        ..Attributes::default()
    };
    // SAFETY: the structure is initialized and as long as its `size` says; the kernel only reads it.
    let file = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            -1 as libc::pid_t,
            cpu as libc::c_int,
            -1 as libc::c_int,
            CLOSE_ON_EXEC,
        )
    };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this is a descriptor of ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(file as libc::c_int) })
}
