//! Perf events as the kernel has them: opened by ourselves, because aya's attach sets no `exclude_*` and leaks the descriptor into children.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `struct perf_event_attr` up to PERF_ATTR_SIZE_VER5 (include/uapi/linux/perf_event.h, 4.1 and later).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Attributes {
    pub(super) kind: u32,
    pub(super) size: u32,
    pub(super) config: u64,
    pub(super) sample_period: u64,
    pub(super) sample_type: u64,
    pub(super) read_format: u64,
    pub(super) flags: u64,
    pub(super) wakeup: u32,
    pub(super) bp_type: u32,
    pub(super) config1: u64,
    pub(super) config2: u64,
    pub(super) branch_sample_type: u64,
    pub(super) sample_regs_user: u64,
    pub(super) sample_stack_user: u32,
    pub(super) clock_id: i32,
    pub(super) sample_regs_intr: u64,
    pub(super) aux_watermark: u32,
    pub(super) sample_max_stack: u16,
    pub(super) reserved: u16,
}

const _: () = assert!(size_of::<Attributes>() == 112);

pub(super) const TYPE_HARDWARE: u32 = 0;
pub(super) const TYPE_SOFTWARE: u32 = 1;
pub(super) const HARDWARE_CPU_CYCLES: u64 = 0;
pub(super) const SOFTWARE_CPU_CLOCK: u64 = 0;
pub(super) const SOFTWARE_PAGE_FAULTS: u64 = 2;
pub(super) const SOFTWARE_DUMMY: u64 = 9;
pub(super) const SAMPLE_TIME: u64 = 1 << 2;
const READ_TIME_ENABLED: u64 = 1 << 0;
/// How many records found no room in the event's ring (Linux 6.0).
pub(super) const READ_LOST: u64 = 1 << 4;

/// Bits of [`Attributes::flags`].
pub(super) mod flag {
    pub(in super::super) const DISABLED: u64 = 1 << 0;
    pub(in super::super) const MMAP: u64 = 1 << 8;
    pub(in super::super) const COMM: u64 = 1 << 9;
    pub(in super::super) const FREQUENCY: u64 = 1 << 10;
    pub(in super::super) const TASK: u64 = 1 << 13;
    pub(in super::super) const WATERMARK: u64 = 1 << 14;
    pub(in super::super) const SAMPLE_ID_ALL: u64 = 1 << 18;
    pub(in super::super) const MMAP2: u64 = 1 << 23;
    pub(in super::super) const COMM_EXEC: u64 = 1 << 24;
    pub(in super::super) const USE_CLOCK_ID: u64 = 1 << 25;
}

const OPEN_CLOSE_ON_EXEC: libc::c_ulong = 8;
const IOCTL_ENABLE: libc::Ioctl = 0x2400;
const IOCTL_DISABLE: libc::Ioctl = 0x2401;
const IOCTL_SET_BPF: libc::Ioctl = 0x4004_2408;

/// An open perf event of one CPU.
#[derive(Debug)]
pub(super) struct PerfEvent {
    file: OwnedFd,
}

impl PerfEvent {
    /// Opens an event for everything that runs on a CPU.
    pub(super) fn open(attributes: &Attributes, cpu: u32) -> io::Result<Self> {
        let attributes =
            Attributes { size: size_of::<Attributes>() as u32, read_format: READ_TIME_ENABLED | attributes.read_format, ..*attributes };
        // SAFETY: the structure is initialized and as long as its `size` says; the kernel only reads it.
        let file = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                -1 as libc::pid_t,
                cpu as libc::c_int,
                -1 as libc::c_int,
                OPEN_CLOSE_ON_EXEC,
            )
        };
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so this is a descriptor of ours alone.
        Ok(Self { file: unsafe { OwnedFd::from_raw_fd(file as libc::c_int) } })
    }

    /// Runs a loaded program at each overflow.
    pub(super) fn run(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        self.control(IOCTL_SET_BPF, program.as_raw_fd() as libc::c_ulong)
    }

    /// Starts counting.
    pub(super) fn enable(&self) -> io::Result<()> {
        self.control(IOCTL_ENABLE, 0)
    }

    /// Stops counting.
    pub(super) fn disable(&self) -> io::Result<()> {
        self.control(IOCTL_DISABLE, 0)
    }

    fn control(&self, request: libc::Ioctl, argument: libc::c_ulong) -> io::Result<()> {
        // SAFETY: these requests take a number, no pointer.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request, argument) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// For how long it was enabled, nanoseconds. Its count would stand still while the kernel throttles it (`perf_event_max_sample_rate`), and nobody would
    /// know of the ticks that did not come.
    pub(super) fn enabled_ns(&self) -> io::Result<u64> {
        let mut words = [[0; 8]; 2];
        rustix::io::read(&self.file, words.as_flattened_mut())?;
        Ok(u64::from_ne_bytes(words[1]))
    }

    /// How many records found no room in its ring so far. It must have been opened with [`READ_LOST`]. Interrupts the event's CPU: nothing to ask often.
    pub(super) fn lost(&self) -> io::Result<u64> {
        let mut words = [[0; 8]; 3];
        rustix::io::read(&self.file, words.as_flattened_mut())?;
        Ok(u64::from_ne_bytes(words[2]))
    }
}

impl AsFd for PerfEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
