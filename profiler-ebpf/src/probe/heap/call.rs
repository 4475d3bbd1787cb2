//! What a call asks for, by its registers, and where it comes from.

use crate::maps::SITES;
use crate::place::{OfProbe, Place as _};
use crate::settings::setting;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::{bpf_get_attach_cookie, bpf_get_current_pid_tgid, bpf_probe_read_user};
use aya_ebpf::programs::ProbeContext;
use profiler_common::counter::Counter;
use profiler_common::limits::SITE_OWN_MAX;
use profiler_common::source::Source;
use profiler_common::tally::{
    ALIGNMENT_OF_ALL, CALL_ALIGNED_NEW, CALL_CALLOC, CALL_MEMALIGN, CALL_POSIX_MEMALIGN, CALL_REALLOC, PendingKey, Site, cookie,
};

/// A call of the allocator.
#[derive(Clone, Copy)]
pub struct Call {
    /// One of the `CALL_*`.
    pub kind: u32,
    /// Where it is, and whether it may jump on.
    cookie: u64,
    /// Bytes that it asks for.
    pub size: u64,
    /// The block that it gives back, or 0.
    pub old: u64,
    /// The alignment, where it has one.
    alignment: u64,
    /// Where the address of the block will be written; 0: it is returned.
    pub result_at: u64,
}

impl Call {
    /// By the registers at the probe.
    #[inline(always)]
    pub fn of(context: &ProbeContext) -> Self {
        // SAFETY: the context of a uprobe program.
        let cookie = unsafe { bpf_get_attach_cookie(context.as_ptr()) };
        let kind = cookie::call(cookie);
        let argument = |at: usize| context.arg::<u64>(at).unwrap_or(0);
        let (first, second) = (argument(0), argument(1));
        let mut call = Self { kind, cookie, size: first, old: 0, alignment: 0, result_at: 0 };
        if kind == CALL_CALLOC {
            // An overflow fails, and no block is there.
            call.size = first.wrapping_mul(second);
        } else if kind == CALL_REALLOC {
            (call.old, call.size) = (first, second);
        } else if kind == CALL_MEMALIGN {
            (call.alignment, call.size) = (first, second);
        } else if kind == CALL_ALIGNED_NEW {
            call.alignment = second;
        } else if kind == CALL_POSIX_MEMALIGN {
            (call.result_at, call.alignment, call.size) = (first, second, argument(2));
        }
        call
    }

    /// Whether it jumps on to another function, which counts it.
    #[inline(always)]
    pub fn is_forwarded(&self) -> bool {
        if !cookie::forwards(self.cookie) {
            return false;
        }
        if self.kind == CALL_REALLOC { self.old == 0 } else { self.alignment <= ALIGNMENT_OF_ALL }
    }

    /// Counts it if its probe is a dear one, where that is asked for.
    #[inline(always)]
    pub fn note_stepped(&self) {
        note_stepped(self.cookie);
    }

    /// The place of the probe.
    #[inline(always)]
    pub fn site(&self) -> Option<Site> {
        let site = SITES.get_ptr(cookie::site(self.cookie))?;
        // SAFETY: a live map value, which user space writes before it arms the probe.
        Some(unsafe { core::ptr::read_volatile(site) })
    }

    /// Whether it comes from the allocator's own code: then it is a part of another call.
    #[inline(always)]
    pub fn is_within(&self, context: &ProbeContext, site: &Site) -> bool {
        let (probe, caller) = (instruction(context), caller(context, site));
        let distance = caller.wrapping_sub(probe) as i64;
        let mut is_within = false;
        for at in 0..SITE_OWN_MAX {
            let [first, end] = site.own[at];
            is_within |= distance > first && distance <= end; // A return address lies behind its call.
        }
        is_within
    }

    /// What it is found again by when it returns.
    #[inline(always)]
    pub fn key(&self, context: &ProbeContext, site: &Site) -> PendingKey {
        PendingKey { thread: thread(), return_at: stack_pointer(context.regs).wrapping_add(u64::from(site.pushed)) }
    }
}

/// The same of a call of which no more is known.
#[inline(always)]
pub fn note_stepped_at(context: &ProbeContext) {
    if setting!(count_stepped) != 0 {
        // SAFETY: the context of a uprobe program.
        note_stepped(unsafe { bpf_get_attach_cookie(context.as_ptr()) });
    }
}

#[inline(always)]
fn note_stepped(cookie: u64) {
    if setting!(count_stepped) != 0 && cookie::is_stepped(cookie) {
        OfProbe::add(Source::CALLS, Counter::Stepped, 1);
    }
}

/// The key of a call that is at its first instruction, or at one before which nothing was pushed.
#[inline(always)]
pub fn entered_at(regs: *mut pt_regs) -> PendingKey {
    PendingKey { thread: thread(), return_at: stack_pointer(regs) }
}

/// The key of a call that returns: its return address was just taken from the stack.
#[inline(always)]
pub fn returned_from(regs: *mut pt_regs) -> PendingKey {
    PendingKey { thread: thread(), return_at: stack_pointer(regs).wrapping_sub(RETURN_ADDRESS_BYTES) }
}

/// The block of a call that returns; 0: there is none.
#[inline(always)]
pub fn result(regs: *mut pt_regs, result_at: u64) -> u64 {
    let returned = returned_value(regs);
    if result_at == 0 {
        return returned;
    }
    if returned & 0xffff_ffff != 0 {
        return 0;
    }
    let mut block = 0u64;
    // SAFETY: the helper writes 8 bytes to the local, or fails.
    let failed = unsafe { bpf_probe_read_user((&raw mut block).cast(), 8, result_at as *const _) };
    if failed == 0 { block } else { 0 }
}

#[inline(always)]
fn thread() -> u64 {
    // SAFETY: no arguments, no preconditions.
    unsafe { bpf_get_current_pid_tgid() }
}

/// What a call leaves on the stack.
#[cfg(bpf_target_arch = "x86_64")]
const RETURN_ADDRESS_BYTES: u64 = 8;
#[cfg(bpf_target_arch = "aarch64")]
const RETURN_ADDRESS_BYTES: u64 = 0;

/// The address of the probe.
#[inline(always)]
pub fn instruction(context: &ProbeContext) -> u64 {
    // SAFETY: the context is the registers of the probed task.
    unsafe { machine::instruction(context.regs) }
}

#[inline(always)]
fn stack_pointer(regs: *mut pt_regs) -> u64 {
    // SAFETY: as above.
    unsafe { machine::stack_pointer(regs) }
}

#[inline(always)]
fn returned_value(regs: *mut pt_regs) -> u64 {
    // SAFETY: as above.
    unsafe { machine::returned(regs) }
}

/// Where the call returns to; 0 if its stack cannot be read.
#[inline(always)]
fn caller(context: &ProbeContext, site: &Site) -> u64 {
    // SAFETY: as above.
    unsafe { machine::caller(context.regs, u64::from(site.pushed)) }
}

#[cfg(bpf_target_arch = "x86_64")]
mod machine {
    use aya_ebpf::bindings::pt_regs;
    use aya_ebpf::helpers::generated::bpf_probe_read_user;

    #[inline(always)]
    pub unsafe fn instruction(regs: *mut pt_regs) -> u64 {
        // SAFETY: the caller has the registers of a probed task.
        unsafe { (*regs).rip }
    }

    #[inline(always)]
    pub unsafe fn stack_pointer(regs: *mut pt_regs) -> u64 {
        // SAFETY: as above.
        unsafe { (*regs).rsp }
    }

    #[inline(always)]
    pub unsafe fn returned(regs: *mut pt_regs) -> u64 {
        // SAFETY: as above.
        unsafe { (*regs).rax }
    }

    #[inline(always)]
    pub unsafe fn caller(regs: *mut pt_regs, pushed: u64) -> u64 {
        let mut address = 0u64;
        // SAFETY: as above; the helper writes 8 bytes to the local, or fails.
        unsafe { bpf_probe_read_user((&raw mut address).cast(), 8, (*regs).rsp.wrapping_add(pushed) as *const _) };
        address
    }
}

#[cfg(bpf_target_arch = "aarch64")]
mod machine {
    use aya_ebpf::bindings::pt_regs;

    /// The members of `struct user_pt_regs` (arch/arm64/include/uapi/asm/ptrace.h), by their number: x0 to x30, sp, pc.
    #[inline(always)]
    unsafe fn word(regs: *mut pt_regs, at: usize) -> u64 {
        // SAFETY: the caller has the registers of a probed task.
        unsafe { *regs.cast::<u64>().add(at) }
    }

    #[inline(always)]
    pub unsafe fn instruction(regs: *mut pt_regs) -> u64 {
        // SAFETY: as above.
        unsafe { word(regs, 32) }
    }

    #[inline(always)]
    pub unsafe fn stack_pointer(regs: *mut pt_regs) -> u64 {
        // SAFETY: as above.
        unsafe { word(regs, 31) }
    }

    #[inline(always)]
    pub unsafe fn returned(regs: *mut pt_regs) -> u64 {
        // SAFETY: as above.
        unsafe { word(regs, 0) }
    }

    #[inline(always)]
    pub unsafe fn caller(regs: *mut pt_regs, _pushed: u64) -> u64 {
        // SAFETY: as above.
        unsafe { word(regs, 30) }
    }
}
