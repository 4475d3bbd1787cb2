//! What the allocator does with memory that is free again.

/// From this size on a block has pages of its own, which go back when it is freed.
#[cfg(target_env = "gnu")]
const OWN_PAGES_BYTES: libc::c_int = 256 << 10;
/// What may stay free at the end of a heap.
#[cfg(target_env = "gnu")]
const SPARE_BYTES: libc::c_int = 512 << 10;

/// Has free memory given back to the kernel. Left to itself, glibc raises its thresholds to the largest block that was ever freed: after one table of 10 MB,
/// 20 MB of free memory stayed with us for good.
pub fn give_back_early() {
    #[cfg(target_env = "gnu")]
    for (parameter, bytes) in [(libc::M_MMAP_THRESHOLD, OWN_PAGES_BYTES), (libc::M_TRIM_THRESHOLD, SPARE_BYTES)] {
        // SAFETY: it takes two numbers, and may be called at any time.
        unsafe { libc::mallopt(parameter, bytes) };
    }
}
